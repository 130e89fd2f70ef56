"""What units of the compact backbone look for in photographs, ECGs and CT scans.

python examples/what_units_see.py 2 PHOTOGRAPHS...    # for example astronaut.png chelsea.png
python examples/what_units_see.py 1 RECORDINGS...     # for example waveform_ecg.dcm of pydicom
python examples/what_units_see.py 3 SCANS...          # for example lung1_image.nrrd of pyradiomics

`units_1d.jpg`, `units_2d.jpg` and `units_3d.jpg` come from scikit-image's photographs, pydicom's
12-lead ECG with MIT-BIH record 208 (scipy 1.11.4), and the two lung CTs of pyradiomics 3.0.1.
"""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from typing import Any

import numpy as np
from convnd_tasks.inspect import Input, cut_patches, find_patches, load_network
from convnd_tasks.runtime.contact_sheet import draw_sheet
from convnd_tasks.runtime.thumbnails import describe_field, draw_thumbnail, thumbnail_size
from PIL import Image

from convnd import Grid, io
from convnd.nn import resize_nd

LAYERS = {1: ("relu2_1", "relu4_1"), 2: ("relu2_1", "relu4_1"), 3: ("relu2_1", "relu3_1")}
UNITS = range(12)


STEP = {1: 1 / 360, 3: 2.5}
"""Sampling distance of recordings (seconds) and scans (millimetres) for the search: kernels expect
one distance along all axes, and patches of one extent can be compared."""


def read(path: str) -> Grid:
    """Reads a file; resamples recordings and scans to a common sampling distance."""
    grid = io.read(path)
    if grid.ndim not in STEP:
        return grid
    step = STEP[grid.ndim]
    size = [
        max(1, round(n * spacing / step))
        for n, spacing in zip(grid.shape, grid.spacing, strict=True)
    ]
    values = resize_nd(grid.values, size, mode="linear", antialias=True)
    return dataclasses.replace(grid, values=values, spacing=(step,) * grid.ndim)


def main(rank: int, paths: list[str]) -> None:
    """Draws the nine strongest patches of some units of two layers."""
    layers = LAYERS[rank]
    network = load_network("compact", layers, spatial_dims=rank, in_channels=3 if rank == 2 else 1)
    inputs = [Input(path, partial(read, path)) for path in paths]
    result = find_patches(network, inputs, dict.fromkeys(layers, UNITS))
    for name, reason in result.errors.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    tiles: dict[str, dict[str, list[np.ndarray]]] = {
        layer: {f"unit {unit}": [] for unit in UNITS} for layer in layers
    }
    geometries: dict[str, set[Any]] = {layer: set() for layer in layers}
    for patch in sorted(cut_patches(result, inputs), key=lambda patch: patch.hit.rank):
        hit = patch.hit
        grid = patch.grid
        geometries[hit.layer].add((grid.spacing, grid.units, grid.axes))
        side = thumbnail_size(result.receptive_fields[hit.layer].span)
        tiles[hit.layer][f"unit {hit.unit}"].append(
            draw_thumbnail(
                patch.normalized,
                side,
                window=hit.window,
                region=hit.region,
                axes=patch.grid.axes,
                spacing=patch.grid.spacing,
            )
        )
    sheets = []
    for layer, rows in tiles.items():
        field = describe_field(result.receptive_fields[layer].span, geometries[layer])
        sheets.append(draw_sheet(rows, title=f"{layer}: each unit sees {field}"))
    width = max(sheet.shape[1] for sheet in sheets)
    pixels = [
        np.pad(sheet, ((0, 0), (0, width - sheet.shape[1]), (0, 0)), constant_values=255)
        for sheet in sheets
    ]
    output = f"units_{rank}d.jpg"
    Image.fromarray(np.concatenate(pixels)).save(output, quality=88)
    print(output)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
