"""Views that accompany the patches: optimal inputs, channel maps, Gram matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from convnd.backbones import Backbone
from convnd.errors import InputFileError
from convnd.io.atomic import atomic_path
from convnd_tasks.inspect.drawing import save_picture
from convnd_tasks.inspect.grams import gram_distances, gram_figure
from convnd_tasks.inspect.inputs import resolve_inputs
from convnd_tasks.inspect.maximize import AscentError, maximize_activation
from convnd_tasks.inspect.options import PatchOptions
from convnd_tasks.inspect.reading import Input, prepare_input
from convnd_tasks.inspect.saliency import channel_maps
from convnd_tasks.runtime.contact_sheet import draw_sheet
from convnd_tasks.runtime.thumbnails import draw_thumbnail

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convnd_tasks.pipeline.report import Report

    Tiles = dict[str, list[NDArray[np.uint8] | None]]

__all__ = ["ViewInputs", "Views", "open_view_inputs"]

_ROLES = ("before", "style", "after")
_SIDE = {1: 96, 2: 112, 3: 80}
_UNITS_AT_ONCE = 8  # optimal inputs that are computed together


@dataclass(frozen=True)
class ViewInputs:
    """Inputs of the views, read before the search starts.

    Args:
        mapped: input of the channel maps, or None.
        gram: content, style and result of a transfer by title, or an empty dict.
    """

    mapped: Input | None = None
    gram: dict[str, Input] = field(default_factory=dict)


def open_view_inputs(options: PatchOptions, dim: int) -> ViewInputs:
    """Read the inputs of the views.

    Args:
        options: options of the run.
        dim: number of spatial axes of the run.

    Raises:
        InputFileError: an input cannot be read, or has another number of axes.
    """

    def read(name: str) -> Input:
        inputs, _ = resolve_inputs([name], dim, seed=options.seed)
        if len(inputs) != 1:
            raise InputFileError(
                name, expected="one file", got="a folder", remedy="name one of its files"
            )
        grid = inputs[0].open()
        if grid.ndim != dim:
            raise InputFileError(
                name,
                expected=f"{dim} spatial axes as the inputs have",
                got=grid.ndim,
                remedy="name another file",
            )
        return Input(inputs[0].name, lambda: grid)

    return ViewInputs(
        read(options.channel_maps) if options.channel_maps else None,
        {
            f"{role}: {Path(name).name}": read(name)
            for role, name in zip(_ROLES, options.gram, strict=False)
        },
    )


@dataclass(frozen=True)
class Views:
    """Draws the views that the options ask for, into a folder and a report.

    Args:
        network: the network of the search.
        inputs: inputs of the views.
        options: options of the run.
        folder: folder for the pictures.
        report: the report.
        on_message: called with a line of text when optimization steps are rejected.
    """

    network: Backbone
    inputs: ViewInputs
    options: PatchOptions
    folder: Path
    report: Report
    on_message: Callable[[str], None]

    def draw(self, layer: str, units: Sequence[int]) -> None:
        """Draw the views of some units of a layer.

        Raises:
            NumericalError: an optimal input left the finite numbers; those before it are drawn.
        """
        if self.options.optimal:
            self._draw_optimal_inputs(layer, units)
        if self.inputs.mapped is not None:
            self._draw_channel_maps(layer, units, self.inputs.mapped)
        if self.inputs.gram:
            self._draw_grams(layer)

    def _draw_optimal_inputs(self, layer: str, units: Sequence[int]) -> None:
        options = self.options
        tiles: Tiles = {}
        failure: AscentError | None = None
        for start in range(0, len(units), _UNITS_AT_ONCE):
            group = units[start : start + _UNITS_AT_ONCE]
            optimal: Iterable[Tensor]
            try:
                optimal = maximize_activation(
                    self.network,
                    layer,
                    group,
                    steps=options.steps,
                    seed=options.seed,
                    on_message=self.on_message,
                )
            except AscentError as error:
                optimal, failure = () if error.inputs is None else error.inputs, error
            for unit, values in zip(group, optimal, strict=False):
                tiles[f"unit {unit}"] = [_thumbnail(values[None], ())]
            if failure is not None:
                break
        if tiles:
            self._save(
                f"{layer}_optimal.png",
                tiles,
                "The input that each unit responds to most, found by gradient ascent "
                f"({options.steps} steps).",
            )
        if failure is not None:
            raise failure

    def _draw_channel_maps(self, layer: str, units: Sequence[int], item: Input) -> None:
        axes = item.open().axes
        x = self._first_entry(item)
        tiles: Tiles = {Path(item.name).name: [_thumbnail(x.cpu(), axes)]}
        maps = channel_maps(self.network, x, layer, units)
        for unit, activation in zip(units, maps, strict=True):
            largest = activation.max()
            label = f"unit {unit}" if largest > 0 else f"unit {unit}: none"
            relative = (activation / largest.clamp_min(1e-12))[None, None]
            tiles[label] = [_thumbnail(relative, axes, zero=0.0)]
        zero = "the gray line" if self.network.spatial_dims == 1 else "black"
        self._save(
            f"{layer}_channels.png",
            tiles,
            f"Activation of each unit in {item.name}, relative to its maximum; {zero} is zero.",
        )

    def _draw_grams(self, layer: str) -> None:
        features = {}
        for title, item in self.inputs.gram.items():
            with torch.inference_mode():
                features[title] = self.network(self._first_entry(item), [layer])[layer].cpu()
        figure = gram_figure(features, title=layer)
        with atomic_path(self.folder / f"{layer}_gram.png", overwrite=False) as path:
            path.write_bytes(figure)
        self.report.figure(
            figure,
            "Channels that are active together, in one order for all three. At the size of the "
            "transfer (--size), the matrix after it should resemble that of the style.",
            width=900,
        )
        self.report.table(["", "distance from the style's"], gram_distances(features))

    def _first_entry(self, item: Input) -> Tensor:
        """Read an input, or its first channel, as the network takes it."""
        options = self.options
        _, entries = prepare_input(item, self.network, options.size, options.rescale)
        return entries[0][1].to(next(self.network.parameters(), torch.zeros(())).device)

    def _save(self, name: str, tiles: Tiles, caption: str) -> None:
        save_picture(self.folder / name, draw_sheet(tiles, top=1), self.report, caption)


def _thumbnail(values: Tensor, axes: Sequence[str], zero: float | None = None) -> NDArray[np.uint8]:
    size = tuple(values.shape[2:])
    return draw_thumbnail(
        values,
        _SIDE.get(len(size), 96),
        window=[range(extent) for extent in size],
        region=[slice(0, extent) for extent in size],
        axes=axes,
        spacing=[1.0] * len(size),
        zero=zero,
    )
