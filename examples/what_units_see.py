"""What units of the compact backbone look for in photographs, ECGs and CT scans, at any rank.

python examples/what_units_see.py 2 PHOTOGRAPHS...    # say astronaut.png chelsea.png coffee.png
python examples/what_units_see.py 1 RECORDINGS...     # say waveform_ecg.dcm of pydicom
python examples/what_units_see.py 3 SCANS...          # say lung1_image.nrrd of pyradiomics

`units_2d.jpg` and its like were made so from scikit-image's photographs, pydicom's 12-lead ECG with
MIT-BIH record 208 (scipy 1.11.4), and the two lung CTs of pyradiomics 3.0.1.
"""

from __future__ import annotations

import dataclasses
import sys
from functools import partial

import numpy as np
from convnd_tasks.patches import Input, cut_patches, find_patches, load_network
from convnd_tasks.patches.sheet import sheet
from convnd_tasks.patches.thumbnails import thumbnail, tile_side
from PIL import Image

from convnd import Grid, io
from convnd.nn import resize_nd

LAYERS = {1: ("relu2_1", "relu4_1"), 2: ("relu2_1", "relu4_1"), 3: ("relu2_1", "relu3_1")}
UNITS = range(12)


def opened(path: str, millimetres: float = 2.5) -> Grid:
    """A file; scans at one distance between samples along all axes, which kernels expect."""
    grid = io.read(path)
    if grid.ndim < 3:
        return grid
    size = [
        max(1, round(n * step / millimetres))
        for n, step in zip(grid.shape, grid.spacing, strict=True)
    ]
    values = resize_nd(grid.values, size, mode="linear", antialias=True)
    return dataclasses.replace(grid, values=values, spacing=(millimetres,) * 3)


def main(rank: int, paths: list[str]) -> None:
    """Draw the nine strongest patches of some units of two layers."""
    layers = LAYERS[rank]
    network = load_network("compact", layers, spatial_dims=rank, in_channels=3 if rank == 2 else 1)
    inputs = [Input(path, partial(opened, path)) for path in paths]
    found = find_patches(network, inputs, dict.fromkeys(layers, UNITS))
    for name, reason in found.failed.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    tiles: dict[str, dict[str, list[np.ndarray]]] = {
        layer: {f"{layer} unit {unit}": [] for unit in UNITS} for layer in layers
    }
    for patch in sorted(cut_patches(found, inputs), key=lambda patch: patch.hit.rank):
        hit = patch.hit
        side = tile_side(found.fields[hit.layer].span)
        tiles[hit.layer][f"{hit.layer} unit {hit.unit}"].append(
            thumbnail(
                patch.shown,
                side,
                window=hit.window,
                region=hit.region,
                axes=patch.grid.axes,
                spacing=patch.grid.spacing,
            )
        )
    sheets = [sheet(rows) for rows in tiles.values()]
    width = max(each.shape[1] for each in sheets)
    white = [((0, 0), (0, width - each.shape[1]), (0, 0)) for each in sheets]
    pixels = [np.pad(*each, constant_values=255) for each in zip(sheets, white, strict=True)]
    output = f"units_{rank}d.jpg"
    Image.fromarray(np.concatenate(pixels)).save(output, quality=88)
    print(output)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
