"""Volumes, styles and masks from whatever holds them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

from convnd.errors import InputFileError, UsageError

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["built_in_scan", "open_style", "open_volume", "stem"]


def open_volume(name: str, spacing: tuple[float, ...] = ()) -> Grid:
    """A volume from any file or folder that holds one.

    Args:
        name: the path.
        spacing: mm along three axes, for arrays; empty is the file's own.

    Raises:
        InputFileError: it cannot be read, or holds another number of axes.
        UsageError: an array without a spacing, or a spacing for a file that has its own.
    """
    from convnd import io

    grid = io.read(name)
    array = name.lower().endswith((".npy", ".npz"))
    if spacing and not array:
        raise UsageError(
            f"--spacing: expected an array (.npy, .npz), got {name}, which has its own; leave it "
            "out"
        )
    if array and grid.ndim == 2:  # (I, J, K) was read as channels and two axes
        grid = type(grid)(values=grid.values[:, None], header=grid.header)
    if array and grid.ndim == 3:
        if not spacing and grid.units != ("mm",) * 3:
            raise UsageError(
                f"--spacing: expected millimetres along three axes for {name}, got none; for "
                "example --spacing 0.6,0.6,5"
            )
        if spacing:
            if len(spacing) != 3 or not all(0 < step < float("inf") for step in spacing):
                raise UsageError(
                    "--spacing: expected three numbers above 0, got "
                    f"{', '.join(f'{step:g}' for step in spacing)}; for example 0.6,0.6,5"
                )
            grid = dataclasses.replace(grid, spacing=spacing, units=("mm",) * 3)
    if grid.ndim != 3:
        raise InputFileError(
            f"{name}: expected a volume of three axes, got {grid.ndim}; use convnd stylize "
            f"--dim {grid.ndim}"
        )
    return grid


def built_in_scan(name: str, seed: int, scan: Grid) -> Grid:
    """A style of the built-in chest, with voxels like a scan's.

    Args:
        name: one of `convnd_tasks.samples.phantom.STYLES`.
        seed: which patient.
        scan: what is to have this style.
    """
    from convnd import io
    from convnd_tasks import samples
    from convnd_tasks.samples import phantom

    steps = [scan.spacing[axis] for axis, _ in io.anatomical_axes(scan)]
    size = phantom.matching_size(steps[::-1], math.prod(scan.shape))
    return samples.style(name, spatial_dims=3, size=size, seed=seed)


def open_style(name: str, seed: int, scan: Grid, spacing: tuple[float, ...]) -> Grid:
    """A style: a volume, a picture, or a built-in one.

    Args:
        name: path, or name of a sample.
        seed: of samples.
        scan: what is to have this style.
        spacing: mm along three axes, of styles that are arrays.

    Raises:
        InputFileError: see `open_volume`, like the other.
        UsageError: likewise; or no sample of this name.
    """
    from convnd import io
    from convnd_tasks import samples
    from convnd_tasks.samples import phantom

    path = Path(name)
    if not path.suffix and not path.exists():
        rank = 2 if name in samples.styles(2) and name not in samples.styles(3) else 3
        if name in phantom.STYLES:
            return built_in_scan(name, seed, scan)
        return samples.style(name, spatial_dims=rank, seed=seed)
    if path.suffix and not path.is_dir() and io.spatial_dims(path) == 2:
        return io.read(path)
    # Of arrays that come together; a file of another kind has its own.
    return open_volume(name, spacing if name.lower().endswith((".npy", ".npz")) else ())


def stem(name: str) -> str:
    """A name without folder and ending."""
    from convnd import io

    text = Path(name).resolve().name if Path(name).is_dir() else Path(name).name
    endings = sorted(io.suffixes(), key=len, reverse=True)
    ending = next((end for end in endings if text.lower().endswith(end)), "")
    return text[: len(text) - len(ending)]
