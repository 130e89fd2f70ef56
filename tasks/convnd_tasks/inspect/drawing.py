"""Pictures of the patches of a layer, and its section of the report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from convnd.backbones import Backbone
from convnd.io.atomic import atomic_path
from convnd_tasks.inspect.options import PatchOptions
from convnd_tasks.inspect.saliency import explain_patch
from convnd_tasks.inspect.search import Hit, Patch, SearchResult
from convnd_tasks.pipeline.report import Report
from convnd_tasks.runtime import plots
from convnd_tasks.runtime.contact_sheet import draw_sheet
from convnd_tasks.runtime.thumbnails import describe_field, draw_thumbnail, thumbnail_size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convnd_tasks.runtime.thumbnails import Geometry

    Thumbnails = dict[tuple[str, int], dict[int, NDArray[np.uint8]]]

__all__ = ["PatchSheets", "save_picture"]


def save_picture(path: Path, pixels: NDArray[np.uint8], report: Report, caption: str) -> None:
    """Write a picture to a new file, and add it to the report."""
    data = plots.encode_pixels(pixels)
    with atomic_path(path, overwrite=False) as temporary:
        temporary.write_bytes(data)
    report.figure(data, caption)


class PatchSheets:
    """Collects thumbnails of patches and draws a sheet for each layer.

    Args:
        network: the network of the search.
        result: the result of the search.
        options: options of the run.
    """

    def __init__(self, network: Backbone, result: SearchResult, options: PatchOptions) -> None:
        self._network = network
        self._result = result
        self._options = options
        self._patches: Thumbnails = {}
        self._explanations: Thumbnails = {}
        self._geometries: dict[str, set[Geometry]] = {}

    def add(self, patch: Patch) -> None:
        """Add the thumbnail of a patch and, if the options ask for it, of its attribution."""
        grid, unit, rank = patch.grid, (patch.hit.layer, patch.hit.unit), patch.hit.rank
        geometry = grid.spacing, grid.units, grid.axes
        self._geometries.setdefault(patch.hit.layer, set()).add(geometry)
        self._patches.setdefault(unit, {})[rank] = self._thumbnail(patch, patch.normalized)
        if self._options.explain:
            gradient = explain_patch(self._network, patch, self._options.explain)
            # Signed values, relative to the largest magnitude, around 0.5.
            signed = 0.5 + gradient / gradient.abs().max().clamp_min(1e-12) / 2
            tile = self._thumbnail(patch, signed, zero=0.5)
            self._explanations.setdefault(unit, {})[rank] = tile

    def draw(self, layer: str, folder: Path, report: Report) -> None:
        """Write the sheets of a layer, and add its section to the report.

        Args:
            layer: name of the layer.
            folder: folder for the pictures.
            report: the report.
        """
        result, method = self._result, self._options.explain
        span = result.receptive_fields[layer].span
        field = describe_field(span, self._geometries.get(layer, set()))
        units = [unit for name, unit in result.entries if name == layer]
        hits = [hit for unit in units for hit in result.hits(layer, unit)]
        report.section(layer, self._describe(layer, units, hits, field))
        caption = f"The {self._options.top} patches that excite each unit most."
        sheet = self._sheet(self._patches, layer, units, f"{layer}: each unit sees {field}")
        save_picture(folder / f"{layer}.png", sheet, report, caption)
        if method:
            zero = "the gray line" if len(span) == 1 else "middle gray"
            caption = (
                f"Attribution of the activation to these patches ({method}): {zero} is zero; "
                "brighter or higher values would increase the activation."
            )
            title = f"{layer}, {method}: each unit sees {field}"
            sheet = self._sheet(self._explanations, layer, units, title)
            save_picture(folder / f"{layer}_{method}.png", sheet, report, caption)
        _add_table(report, [hit for hit in hits if hit.rank == 1])

    def _thumbnail(
        self, patch: Patch, values: torch.Tensor, zero: float | None = None
    ) -> NDArray[np.uint8]:
        return draw_thumbnail(
            values,
            thumbnail_size(self._result.receptive_fields[patch.hit.layer].span),
            window=patch.hit.window,
            region=patch.hit.region,
            axes=patch.grid.axes,
            spacing=patch.grid.spacing,
            zero=zero,
        )

    def _sheet(
        self, thumbnails: Thumbnails, layer: str, units: Sequence[int], title: str
    ) -> NDArray[np.uint8]:
        top = self._options.top
        tiles = {
            f"unit {unit}": [
                thumbnails.get((layer, unit), {}).get(rank) for rank in range(1, top + 1)
            ]
            for unit in units
        }
        return draw_sheet(tiles, top=top, title=title)

    def _describe(self, layer: str, units: Sequence[int], hits: Sequence[Hit], field: str) -> str:
        text = f"Each unit sees {field}."
        inactive = [unit for unit in units if not self._result.entries[layer, unit]]
        if inactive:
            text += f" Never active: {', '.join(map(str, inactive))}."
        cropped = sum(hit.cropped for hit in hits)
        if cropped:
            text += f" {cropped} of {len(hits)} patches reach beyond the border of their input."
        return text


def _add_table(report: Report, hits: Sequence[Hit]) -> None:
    """Add a table of the strongest hit of each unit."""
    names = _relative_names([hit.input for hit in hits])
    rows = [
        [
            hit.unit,
            hit.value,
            names[hit.input] + ("" if hit.channel is None else f", channel {hit.channel}"),
            ", ".join(str(part.start) for part in hit.region),
            ", ".join(str(part.stop) for part in hit.region),
        ]
        for hit in hits
    ]
    header = ["unit", "activation", "input", "from", "to"]
    report.table(header, rows, caption="Position of the strongest patch of each unit", folded=True)


def _relative_names(names: Sequence[str]) -> dict[str, str]:
    """Map names to names without the folder that they share."""
    folders = {str(Path(name).parent) for name in names}
    try:
        common_folder = os.path.commonpath(folders) if folders else ""
    except ValueError:  # a mixture of absolute and relative names
        common_folder = ""
    return {name: os.path.relpath(name, common_folder) if common_folder else name for name in names}
