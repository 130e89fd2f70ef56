"""From a stream of inputs to the patches that excite the units of a network most."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from convnd.backbones import Backbone
from convnd.errors import ConvndError, InputFileError, ShapeError, UsageError
from convnd.grid import Grid
from convnd.io import crop
from convnd.shapes import ReceptiveField
from convnd_tasks.inspect.reading import Input, opened, read_ahead, read_fields, scaled
from convnd_tasks.inspect.top import CHANNEL, Entry, Leaders, title
from convnd_tasks.inspect.units import check_units, fields_of

__all__ = [
    "DISTINCT",
    "Found",
    "Hit",
    "Patch",
    "cut_patches",
    "find_patches",
]

DISTINCT = ("apart", "input", "all")
"""Of one input: patches that are no neighbours; the best one alone; whatever is strongest."""

_TRIM = 256
"""Inputs after which sizes are forgotten again."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A unit, and a place that excites it.

    Args:
        layer: its layer.
        unit: its channel.
        rank: 1 for the strongest.
        value: its activation there.
        input: name of the input.
        channel: channel of the input, or None where the network takes all of them together.
        position: in the feature map.
        window: what the position sees, as ranges along each axis, beyond the border too.
        region: the part of it inside of the input.
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
        """Whether it sees beyond the border, as all of an input smaller than the field does."""
        return any(
            (seen.start, seen.stop) != (part.start, part.stop)
            for seen, part in zip(self.window, self.region, strict=True)
        )


@dataclass(frozen=True)
class Patch:
    """A hit with its samples, cut from the input in its own units.

    Args:
        hit: where.
        grid: values ``(1, C, *region)``; spacing, units and place in space are the input's.
        shown: the same, mapped to ``[0, 1]`` by the input's own range as the network saw it.
    """

    hit: Hit
    grid: Grid
    shown: Tensor


@dataclass
class Found:
    """What a search found.

    Args:
        fields: receptive field of each layer.
        inputs: how many inputs were looked at.
        failed: inputs that were not, with the reason.
        best: of each layer and unit the strongest values, with name of the field and position.
        shapes: of the inputs that these are of.
    """

    fields: Mapping[str, ReceptiveField]
    inputs: int = 0
    failed: dict[str, ConvndError] = field(default_factory=dict)
    best: dict[tuple[str, int], list[Entry]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def hits(self, layer: str, unit: int) -> list[Hit]:
        """The strongest of a unit; fewer than asked for where fewer are above zero."""
        hits = []
        for rank, (value, key, position) in enumerate(self.best[layer, unit], 1):
            name, _, channel = key.partition(CHANNEL)
            size = self.shapes[name]
            hits.append(
                Hit(
                    layer=layer,
                    unit=unit,
                    rank=rank,
                    value=value,
                    input=name,
                    channel=int(channel) if channel else None,
                    position=position,
                    window=tuple(
                        # An axis of one sample is a field constant along it: nothing is beyond.
                        seen if extent > 1 else range(1)
                        for seen, extent in zip(
                            self.fields[layer].window(position), size, strict=True
                        )
                    ),
                    region=self.fields[layer].region(position, size),
                )
            )
        return hits

    def all_hits(self) -> Iterator[Hit]:
        """Every hit, by layer, unit and rank."""
        for layer, unit in self.best:
            yield from self.hits(layer, unit)


def find_patches(
    network: Backbone,
    inputs: Iterable[Input],
    units: Mapping[str, Sequence[int]],
    *,
    top: int = 9,
    distinct: str = "apart",
    size: int = 0,
    scale: bool = True,
    batch: int = 0,
    device: torch.device | str = "cpu",
    fields: Mapping[str, ReceptiveField] | None = None,
    watch: Callable[[Input], None] | None = None,
) -> Found:
    """Stream inputs through a network once and keep where its units are most excited.

    Decoding runs in a thread of its own, a few inputs ahead. What is kept are values and
    positions, ``top`` for each unit, however many inputs there are. Only activations above zero
    count. Equal ones are settled by name and position, so the order of the inputs and ``batch``
    do not matter (beyond the last bit of a convolution, which some libraries round differently
    for other batches).

    Args:
        network: its features are taken as they are; see `convnd_tasks.inspect.load_network`.
        inputs: any number, read one after the other. An input with as many channels as the
            network takes goes in whole; for a network of one channel, each channel of the input
            is a field of its own.
        units: for each layer the channels to look at; an empty sequence stands for all.
        top: patches for each unit.
        distinct: one of `DISTINCT`. Neighbours are positions whose receptive fields overlap by
            more than half along every axis.
        size: samples along the longest axis to bring inputs to; 0 leaves them as they are.
        scale: map values that are not RGB to ``[0, 1]`` by their percentiles, as the backbones
            expect; False hands them over as they are, gaps as zeros.
        batch: inputs of one size to run together; 0: one, or as many as are small together.
        device: where.
        fields: of the layers, where the network's own are not to be used.
        watch: is told of every input when it is done.

    Raises:
        UnknownNameError: no such layer.
        UsageError: no such unit, or an option is out of range.

    An input that cannot be read, or is too small for the network, is left out and named in
    ``failed``.
    """
    if distinct not in DISTINCT:
        raise UsageError(
            f"distinct: expected one of {', '.join(DISTINCT)}, got {distinct!r}; choose one"
        )
    if top < 1 or batch < 0:
        raise UsageError(
            f"patches: expected top of at least 1 and batch of at least 0, got {top}, {batch}; "
            "correct them"
        )
    layers = list(units)
    known = fields_of(network, layers) if fields is None else dict(fields)
    network = network.to(device)
    found = Found(known)
    chosen: dict[str, list[int]] = {}
    leaders: dict[str, Leaders] = {}
    trimmed = 0
    for each in read_ahead(inputs, lambda item: read_fields(item, network, size, scale), batch):
        if each.values is not None:
            try:
                with torch.inference_mode():
                    features = network(each.values.to(device), layers)
                    for layer in layers:
                        if layer not in chosen:
                            width = features[layer].shape[1]
                            chosen[layer] = check_units(layer, units[layer], width)
                            leaders[layer] = Leaders(
                                len(chosen[layer]),
                                top,
                                apart=_apart(known[layer], distinct),
                                once=distinct == "input",
                            )
                        leaders[layer].offer(each.names, _of_units(features[layer], chosen[layer]))
            except InputFileError:
                raise
            except (ConvndError, RuntimeError) as error:
                if isinstance(error, UsageError) and not isinstance(error, ShapeError):
                    raise
                reason = " ".join(str(error).split()).partition("; ")[0][:160]
                for name in dict.fromkeys(map(title, each.names)):
                    found.failed[name] = InputFileError(
                        f"{name}: expected an input that reaches {layers[-1]}, got '{reason}'; use "
                        "a larger one or shallower layers"
                    )
        for item, shape in each.looked:
            if isinstance(shape, ConvndError):
                found.failed[item.name] = shape
            else:
                found.shapes[item.name] = shape
            found.inputs += 1
            if watch is not None:
                watch(item)
        if found.inputs - trimmed >= _TRIM:
            _trim(found.shapes, leaders.values())
            trimmed = found.inputs
    _trim(found.shapes, leaders.values())
    for layer in layers:
        own = leaders[layer].entries() if layer in leaders else [[] for _ in units[layer]]
        for unit, entries in zip(chosen.get(layer, units[layer]), own, strict=True):
            found.best[layer, unit] = entries
    return found


def cut_patches(
    found: Found, inputs: Iterable[Input], *, size: int = 0, scale: bool = True
) -> Iterator[Patch]:
    """Cut what was found out of the inputs, each of which is read once; ordered by input.

    Args:
        found: by `find_patches`.
        inputs: the same as in the search; those without a hit are not opened.
        size: as in the search.
        scale: as in the search.

    Raises:
        ConvndError: an input cannot be read any more.
    """
    wanted: dict[str, list[Hit]] = {}
    for hit in found.all_hits():
        wanted.setdefault(hit.input, []).append(hit)
    for item in inputs:
        hits = wanted.pop(item.name, [])
        if not hits:
            continue
        grid = opened(item, size)
        shown = scaled(grid, scale)
        for hit in hits:
            part = crop(grid, hit.region)
            view = shown[(slice(None), slice(None), *hit.region)]
            if hit.channel is not None and grid.values.shape[1] > 1:
                part = dataclasses.replace(
                    part,
                    values=part.values[:, hit.channel : hit.channel + 1],
                    channels=part.channels[hit.channel : hit.channel + 1],
                )
                view = view[:, hit.channel : hit.channel + 1]
            yield Patch(hit, part, view.clone())


def _apart(known: ReceptiveField, distinct: str) -> list[int]:
    if distinct == "all":
        return [0] * known.ndim
    # Fields at distance d·stride share size − d·stride samples; neighbours share more than half.
    return [
        max(1, math.ceil(size / 2 / stride))
        for size, stride in zip(known.size, known.stride, strict=True)
    ]


def _of_units(features: Tensor, units: Sequence[int]) -> Tensor:
    if list(units) == list(range(features.shape[1])):
        return features
    return features[:, list(units)]


def _trim(shapes: dict[str, tuple[int, ...]], leaders: Iterable[Leaders]) -> None:
    """Forget sizes of inputs that nothing kept comes from: memory stays bounded."""
    kept = {title(name) for each in leaders for name in each.names}
    for name in shapes.keys() - kept:
        del shapes[name]
