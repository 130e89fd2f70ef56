"""What is shown beside patches: optimal inputs, maps of channels, Gram matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from convnd.backbones import Backbone
from convnd.errors import InputFileError
from convnd.grid import Grid
from convnd.io.atomic import atomic_path
from convnd_tasks.inspect.grams import gram_figure, gram_rows
from convnd_tasks.inspect.inputs import gather
from convnd_tasks.inspect.optimal import UnfinishedError, maximise
from convnd_tasks.inspect.options import PatchOptions
from convnd_tasks.inspect.reading import Input, read_fields
from convnd_tasks.inspect.saliency import channel_maps
from convnd_tasks.inspect.sheet import sheet
from convnd_tasks.inspect.thumbnails import thumbnail
from convnd_tasks.pipeline import plots

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convnd_tasks.pipeline.report import Report

__all__ = ["Extra", "add", "relative", "resolve", "save"]

_ROLES = ("before", "style", "after")
_SIDE = {1: 96, 2: 112, 3: 80}
_TOGETHER = 8  # units whose optimal inputs are made at a time


@dataclass(frozen=True)
class Extra:
    """Inputs of the views, opened before any work is done.

    Args:
        mapped: whose channels are mapped, or None.
        gram: before, style and after, or nothing.
    """

    mapped: Input | None = None
    gram: dict[str, Input] = field(default_factory=dict)


def resolve(options: PatchOptions, dim: int) -> Extra:
    """Open what the views need.

    Raises:
        InputFileError: one of them cannot be read, or holds another number of axes.
    """

    def opened(name: str) -> Input:
        found, _ = gather([name], dim, seed=options.seed)
        if len(found) != 1:
            raise InputFileError(f"{name}: expected one file, got a folder; name one of its files")
        grid = found[0].open()
        if grid.ndim != dim:
            raise InputFileError(
                f"{name}: expected {dim} spatial axes as the inputs have, got {grid.ndim}; "
                "name another file"
            )
        return Input(found[0].name, partial(_same, grid))

    return Extra(
        opened(options.channel_maps) if options.channel_maps else None,
        {
            f"{role}: {Path(name).name}": opened(name)
            for role, name in zip(_ROLES, options.gram, strict=False)
        },
    )


def add(
    network: Backbone,
    layer: str,
    units: Sequence[int],
    extra: Extra,
    options: PatchOptions,
    folder: Path,
    page: Report,
    *,
    say: Callable[[str], None],
) -> None:
    """Draw the views of a layer that were asked for, into the folder and onto the page.

    Raises:
        NumericalError: an optimal input left the finite numbers; what there was before is drawn.
    """
    if options.optimal:
        tiles, stopped = _optimal(network, layer, units, options, say)
        if tiles:
            save(
                folder / f"{layer}_optimal.png",
                sheet(tiles, top=1),
                page,
                f"The unit's own optimal input, found by gradient ascent ({options.steps} steps).",
            )
        if stopped is not None:
            raise stopped
    if extra.mapped is not None:
        save(
            folder / f"{layer}_channels.png",
            _mapped(network, layer, units, extra.mapped, options),
            page,
            f"Where each unit is active in {extra.mapped.name}, each by its own largest; "
            f"{'the grey line' if network.spatial_dims == 1 else 'black'} is not at all.",
        )
    if extra.gram:
        features = {
            title: _features(network, layer, item, options) for title, item in extra.gram.items()
        }
        figure = gram_figure(features, title=layer)
        with atomic_path(folder / f"{layer}_gram.png", overwrite=False) as path:
            path.write_bytes(figure)
        page.figure(
            figure,
            "Which channels are active together, in one order for all three. Seen at the size "
            "of the transfer (--size), the matrix should look like the style's after it.",
            width=900,
        )
        page.table(["", "distance from the style's"], gram_rows(features))


def save(path: Path, pixels: NDArray[np.uint8], page: Report, caption: str) -> None:
    """Write a picture, and put it onto the page."""
    data = plots.encode_pixels(pixels)
    with atomic_path(path, overwrite=False) as temporary:
        temporary.write_bytes(data)
    page.figure(data, caption)


def relative(values: Tensor) -> Tensor:
    """Signed values as grey or colour around one half, by their own largest size."""
    return 0.5 + values / values.abs().max().clamp_min(1e-12) / 2


def _optimal(
    network: Backbone,
    layer: str,
    units: Sequence[int],
    options: PatchOptions,
    say: Callable[[str], None],
) -> tuple[dict[str, list[NDArray[np.uint8] | None]], UnfinishedError | None]:
    """Pictures of as many units as it worked for, and what ended it before the last."""
    tiles: dict[str, list[NDArray[np.uint8] | None]] = {}
    for start in range(0, len(units), _TOGETHER):
        chosen, stopped = units[start : start + _TOGETHER], None
        made: Iterable[Tensor]
        try:
            made = maximise(network, layer, chosen, steps=options.steps, seed=options.seed, say=say)
        except UnfinishedError as error:
            made, stopped = () if error.found is None else error.found, error
        for unit, values in zip(chosen, made, strict=False):
            tiles[f"unit {unit}"] = [_whole(values[None], ())]
        if stopped is not None:
            return tiles, stopped
    return tiles, None


def _mapped(
    network: Backbone, layer: str, units: Sequence[int], item: Input, options: PatchOptions
) -> NDArray[np.uint8]:
    axes = item.open().axes
    name, x = _first(item, network, options)
    maps = channel_maps(network, x, layer, units)
    tiles: dict[str, list[NDArray[np.uint8] | None]] = {name: [_whole(x.cpu(), axes)]}
    for unit, activity in zip(units, maps, strict=True):
        most = activity.max()
        label = f"unit {unit}" if most > 0 else f"unit {unit}: none"
        tiles[label] = [_whole((activity / most.clamp_min(1e-12))[None, None], axes, zero=0.0)]
    return sheet(tiles, top=1)


def _features(network: Backbone, layer: str, item: Input, options: PatchOptions) -> Tensor:
    _, x = _first(item, network, options)
    with torch.inference_mode():
        features: Tensor = network(x, [layer])[layer]
    return features.cpu()


def _first(item: Input, network: Backbone, options: PatchOptions) -> tuple[str, Tensor]:
    """The input, or its first channel, as the network takes it."""
    _, parts = read_fields(item, network, options.size, options.scale)
    device = next(network.parameters(), torch.zeros(())).device
    return Path(item.name).name, parts[0][1].to(device)


def _whole(values: Tensor, axes: Sequence[str], zero: float | None = None) -> NDArray[np.uint8]:
    size = tuple(values.shape[2:])
    return thumbnail(
        values,
        _SIDE.get(len(size), 96),
        window=[range(extent) for extent in size],
        region=[slice(0, extent) for extent in size],
        axes=axes,
        spacing=[1.0] * len(size),
        zero=zero,
    )


def _same(grid: Grid) -> Grid:
    return grid
