"""The search: stream inputs through a network and keep the patches that excite its units most."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from convnd.backbones import Backbone
from convnd.errors import ConvndError, InputFileError, ShapeError, UsageError
from convnd.grid import Grid
from convnd.io import crop
from convnd.registry import check_name
from convnd.shapes import ReceptiveField
from convnd_tasks.inspect.reading import (
    Batch,
    Input,
    iter_batches,
    normalize,
    open_resized,
    prepare_input,
)
from convnd_tasks.inspect.top import CHANNEL_SEPARATOR, Entry, TopActivations, input_name
from convnd_tasks.inspect.units import check_units, receptive_fields

__all__ = ["SUPPRESSION", "Hit", "Patch", "SearchResult", "cut_patches", "find_patches"]

SUPPRESSION = ("overlap", "input", "none")
"""Patches to suppress: weaker overlapping ones, all but the strongest of an input, or none."""

_TRIM_INTERVAL = 256
"""Inputs between two removals of shapes that no entry refers to."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A position that excites a unit.

    Args:
        layer: name of the layer.
        unit: channel of the layer.
        rank: 1 for the strongest.
        value: activation at the position.
        input: name of the input.
        channel: channel of the input, or None if the network takes all channels together.
        position: index into the feature map.
        window: receptive field of the position along each axis; may extend beyond the input.
        region: the part of the window inside the input.
    """

    layer: str
    unit: int
    rank: int
    value: float
    input: str
    channel: int | None
    position: tuple[int, ...]
    window: tuple[range, ...]
    region: tuple[slice, ...]

    @property
    def cropped(self) -> bool:
        """Whether the receptive field extends beyond the border of the input."""
        return any(
            (whole.start, whole.stop) != (part.start, part.stop)
            for whole, part in zip(self.window, self.region, strict=True)
        )


@dataclass(frozen=True)
class Patch:
    """A hit together with its samples.

    Args:
        hit: the hit.
        grid: values ``(1, C, *region)`` in the input's own units, with the input's spacing and
            the patch's place in space.
        normalized: the same values as the network received them, see
            `convnd_tasks.inspect.reading.normalize`.
    """

    hit: Hit
    grid: Grid
    normalized: Tensor


@dataclass
class SearchResult:
    """The result of a search.

    Args:
        receptive_fields: receptive field of each layer.
        inputs: number of inputs that were read, including failed ones.
        errors: errors of the inputs that could not be searched, by name.
        entries: strongest activations of each layer and unit, with key and position.
        shapes: shapes of the inputs that the entries refer to, by name.
    """

    receptive_fields: Mapping[str, ReceptiveField]
    inputs: int = 0
    errors: dict[str, ConvndError] = field(default_factory=dict)
    entries: dict[tuple[str, int], list[Entry]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def hits(self, layer: str, unit: int) -> list[Hit]:
        """Return the hits of a unit, strongest first; fewer than ``top`` if few are above zero."""
        hits = []
        receptive_field = self.receptive_fields[layer]
        for rank, (value, key, position) in enumerate(self.entries[layer, unit], 1):
            name, _, channel = key.partition(CHANNEL_SEPARATOR)
            shape = self.shapes[name]
            window = receptive_field.window(position)
            hits.append(
                Hit(
                    layer=layer,
                    unit=unit,
                    rank=rank,
                    value=value,
                    input=name,
                    channel=int(channel) if channel else None,
                    position=position,
                    # An axis of one sample is a field that is constant along it: no border.
                    window=tuple(
                        extent if length > 1 else range(1)
                        for extent, length in zip(window, shape, strict=True)
                    ),
                    region=receptive_field.region(position, shape),
                )
            )
        return hits

    def all_hits(self) -> Iterator[Hit]:
        """Yield every hit, ordered by layer, unit and rank."""
        for layer, unit in self.entries:
            yield from self.hits(layer, unit)


def find_patches(
    network: Backbone,
    inputs: Iterable[Input],
    units: Mapping[str, Sequence[int]],
    *,
    top: int = 9,
    suppress: str = "overlap",
    size: int = 0,
    rescale: bool = True,
    batch: int = 0,
    device: torch.device | str = "cpu",
    on_input: Callable[[Input], None] | None = None,
) -> SearchResult:
    """Stream inputs through a network once and record where its units are most active.

    Memory holds ``top`` activations and positions for each unit, for any number of inputs. Only
    activations above zero count. Ties are broken by name and position, so the result depends
    neither on the order of the inputs nor on ``batch`` (up to the last bit of a convolution, which
    some libraries round differently for other batch sizes). An input that cannot be read, or is too
    small for the network, is listed in ``errors``.

    Args:
        network: the backbone, see `convnd_tasks.inspect.load_network`.
        inputs: any number of inputs, read in turn. An input with as many channels as the network
            is searched as a whole; for a network of one channel, each channel separately.
        units: channels of each layer to search; an empty sequence selects all.
        top: patches for each unit.
        suppress: one of `SUPPRESSION`. Patches overlap if their receptive fields share more than
            half of their length along every axis.
        size: samples along the longest axis that inputs are resized to; 0 keeps their own size.
        rescale: map values that are not RGB to ``[0, 1]`` by their percentiles, as the backbones
            expect; False passes them unchanged, with missing values as zeros.
        batch: inputs of one size to process together; 0 chooses, see
            `convnd_tasks.inspect.reading.iter_batches`.
        device: the device of the network.
        on_input: called after each input.

    Raises:
        UnknownNameError: the network has no such layer.
        UsageError: a layer has no such unit, or an option is out of range.
    """
    check_name("suppress", suppress, SUPPRESSION)
    if top < 1 or batch < 0:
        raise UsageError(
            "patches",
            expected="top of at least 1 and batch of at least 0",
            got=f"{top}, {batch}",
            remedy="the defaults are 9 and 0",
        )
    fields = receptive_fields(network, list(units))
    search = _Search(network.to(device), units, fields, top, suppress, device)
    prepare = partial(prepare_input, network=network, size=size, rescale=rescale)
    for entries in iter_batches(inputs, prepare, batch):
        search.update(entries)
        if on_input is not None:
            for item, _ in entries.inputs:
                on_input(item)
    return search.finish()


class _Search:
    """Accumulates the strongest activations of several layers over batches."""

    def __init__(
        self,
        network: Backbone,
        units: Mapping[str, Sequence[int]],
        fields: Mapping[str, ReceptiveField],
        top: int,
        suppress: str,
        device: torch.device | str,
    ) -> None:
        self.network = network
        self.device = device
        self.top = top
        self.suppress = suppress
        self.result = SearchResult(fields)
        self._units = {layer: list(numbers) for layer, numbers in units.items()}
        self._layers = list(units)
        self._best: dict[str, TopActivations] = {}
        self._trimmed_at = 0

    def update(self, batch: Batch) -> None:
        """Search a batch and record which inputs it completes."""
        if batch.values is not None:
            try:
                self._rank(batch.keys, batch.values)
            except InputFileError:
                raise
            except (ConvndError, RuntimeError) as error:
                if isinstance(error, UsageError) and not isinstance(error, ShapeError):
                    raise
                self._reject(batch.keys, error)
        for item, shape in batch.inputs:
            if isinstance(shape, ConvndError):
                self.result.errors[item.name] = shape
            else:
                self.result.shapes[item.name] = shape
            self.result.inputs += 1
        if self.result.inputs - self._trimmed_at >= _TRIM_INTERVAL:
            self._trim()
            self._trimmed_at = self.result.inputs

    def finish(self) -> SearchResult:
        """Return the result with the entries of every unit."""
        self._trim()
        for layer, units in self._units.items():
            best = self._best.get(layer)
            entries = [[] for _ in units] if best is None else best.entries()
            for unit, unit_entries in zip(units, entries, strict=True):
                self.result.entries[layer, unit] = unit_entries
        return self.result

    @torch.inference_mode()
    def _rank(self, keys: Sequence[str], values: Tensor) -> None:
        features = self.network(values.to(self.device), self._layers)
        for layer in self._layers:
            maps = features[layer]
            if layer not in self._best:
                units = check_units(layer, self._units[layer], maps.shape[1])
                self._units[layer] = units
                self._best[layer] = TopActivations(
                    len(units),
                    self.top,
                    min_distance=_min_distance(self.result.receptive_fields[layer], self.suppress),
                    one_per_input=self.suppress == "input",
                )
            units = self._units[layer]
            if units != list(range(maps.shape[1])):
                maps = maps[:, units]
            self._best[layer].update(keys, maps)

    def _reject(self, keys: Sequence[str], error: Exception) -> None:
        reason = " ".join(str(error).split()).partition("; ")[0][:160]
        for name in dict.fromkeys(map(input_name, keys)):
            self.result.errors[name] = InputFileError(
                name,
                expected=f"an input that reaches {self._layers[-1]}",
                got=f"'{reason}'",
                remedy="use a larger one or shallower layers",
            )

    def _trim(self) -> None:
        """Drop the shapes of inputs without an entry, so that memory stays bounded."""
        shapes = self.result.shapes
        used_names = {input_name(key) for best in self._best.values() for key in best.keys}
        for name in shapes.keys() - used_names:
            del shapes[name]


def cut_patches(
    result: SearchResult, inputs: Iterable[Input], *, size: int = 0, rescale: bool = True
) -> Iterator[Patch]:
    """Cut the patches of a search out of its inputs; each input is read once.

    Args:
        result: the result of `find_patches`.
        inputs: the inputs of the search; those without a hit are not opened.
        size: as in the search.
        rescale: as in the search.

    Yields:
        The patches, input after input.

    Raises:
        ConvndError: an input can no longer be read.
    """
    hits: dict[str, list[Hit]] = {}
    for hit in result.all_hits():
        hits.setdefault(hit.input, []).append(hit)
    for item in inputs:
        input_hits = hits.pop(item.name, [])
        if not input_hits:
            continue
        grid = open_resized(item, size)
        values = normalize(grid, rescale)
        for hit in input_hits:
            part = crop(grid, hit.region)
            normalized = values[(slice(None), slice(None), *hit.region)]
            if hit.channel is not None and grid.values.shape[1] > 1:
                channel = slice(hit.channel, hit.channel + 1)
                part = dataclasses.replace(
                    part, values=part.values[:, channel], channels=part.channels[channel]
                )
                normalized = normalized[:, channel]
            yield Patch(hit, part, normalized.clone())


def _min_distance(receptive_field: ReceptiveField, suppress: str) -> list[int]:
    """Distance in feature samples from which on two receptive fields do not overlap by half."""
    if suppress == "none":
        return [0] * receptive_field.ndim
    # Fields at distance d·stride share size − d·stride samples; neighbours share more than half.
    return [
        max(1, math.ceil(size / 2 / stride))
        for size, stride in zip(receptive_field.size, receptive_field.stride, strict=True)
    ]
