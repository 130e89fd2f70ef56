"""Positions of the voxels of two volumes, and the unit of their values."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from convnd import io
from convnd.errors import InputFileError

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = [
    "HOUNSFIELD",
    "UNIT_NAMES",
    "check_placement",
    "check_same_voxels",
    "largest_shift",
    "placement_difference",
    "value_unit",
]

HOUNSFIELD = "HU"
"""The unit of CT, Hounsfield units."""

UNIT_NAMES = {HOUNSFIELD: "Hounsfield units (CT)", "": "values without a unit (like MR)"}
"""Names of the units of scans, for messages."""

_TOLERANCE = 0.1  # of the smallest voxel side
_AIR = -500.0  # HU; other units have no such values
_HIGHEST = 3071.0  # HU, the highest 12-bit value


def check_same_voxels(first: Grid, second: Grid) -> None:
    """Check that two volumes have the same shape, voxel positions and unit.

    Raises:
        InputFileError: they differ.
    """
    if first.values.shape != second.values.shape:
        shapes = [
            " x ".join(map(str, grid.shape))
            + (f" x {grid.values.shape[1]}" if grid.values.shape[1] > 1 else "")
            for grid in (first, second)
        ]
        expected, got = "two volumes of the same shape", f"{shapes[0]} and {shapes[1]} voxels"
        remedy = "give a scan and its result"
        raise InputFileError("evaluate", expected=expected, got=got, remedy=remedy)
    _check_positions(first, second, "evaluate", "two volumes with the same voxel positions")
    units = [grid.header.get("value_unit") for grid in (first, second)]
    if all(units) and units[0] != units[1]:
        expected, got = "two volumes with the same unit", f"{units[0]} and {units[1]}"
        raise InputFileError("evaluate", expected=expected, got=got, remedy="convert one of them")


def placement_difference(first: Grid, second: Grid) -> str:
    """Describe the difference in voxel size and position of two volumes.

    Args:
        first: a volume.
        second: a volume of the same shape.

    Returns:
        The difference in mm; "" if it is at most a tenth of a voxel, or if a file has no affine.

    >>> import numpy as np, torch
    >>> from convnd.grid import Grid
    >>> def volume(z):
    ...     affine = np.eye(4)
    ...     affine[2, 3] = z
    ...     return Grid(values=torch.ones(1, 1, 2, 2, 2), header={"affine": affine})
    >>> placement_difference(volume(0), volume(50))
    'voxels up to 50 mm away'
    """
    grids = (first, second)
    sizes = [" x ".join(f"{step:.4g}" for step in grid.spacing) for grid in grids]
    differs = not np.allclose(first.spacing, second.spacing, rtol=1e-3)
    size = f"voxels of {sizes[1]} mm instead of {sizes[0]} mm" if differs else ""
    shift = largest_shift(first, second)
    if shift is not None:
        if shift <= _TOLERANCE * min(*first.spacing, *second.spacing):
            return ""
        return ", ".join(filter(None, [size, f"voxels up to {shift:.3g} mm away"]))
    known = all(grid.units == ("mm",) * 3 for grid in grids)
    return size if known else ""


def largest_shift(first: Grid, second: Grid) -> float | None:
    """The largest distance between the positions of a voxel in two volumes of one shape.

    Returns:
        The distance in mm; None if a file has no affine.
    """
    if any(grid.header.get("affine") is None for grid in (first, second)):
        return None
    ends = [(0, extent - 1) for extent in first.shape]
    corners = np.array([(*corner, 1) for corner in itertools.product(*ends)])
    shift = corners @ (io.grid_affine(first) - io.grid_affine(second)).T
    return float(np.linalg.norm(shift[:, :3], axis=1).max())


def value_unit(grid: Grid) -> str:
    """The unit of a volume's values, as its file states it or as the values suggest.

    Args:
        grid: a volume.

    Returns:
        The unit that the file states. Without one, "HU" if some values are below -500 and the
        median is in the range of CT, else "", since magnetic resonance has no unit.

    >>> import torch
    >>> from convnd.grid import Grid
    >>> value_unit(Grid(values=torch.full((1, 1, 2, 2, 2), -1000.0)))
    'HU'
    """
    unit = grid.header.get("value_unit")
    if isinstance(unit, str):
        return unit
    if not bool((grid.values < _AIR).any()):
        return ""
    values = grid.values.flatten()
    median = float(values[:: max(1, values.numel() // 1_000_000)].nanmedian())
    return HOUNSFIELD if median < _HIGHEST else ""


def check_placement(scan: Grid, grid: Grid, option: str) -> None:
    """Check that a mask or a map has the voxels of a scan.

    Args:
        scan: the content.
        grid: the mask or the map.
        option: option that named it, for the message.

    Raises:
        InputFileError: it has another shape or position than the scan.
    """
    if grid.shape != scan.shape or grid.values.shape[1] not in (1, scan.values.shape[1]):
        shape, got = (" x ".join(map(str, volume.shape)) for volume in (scan, grid))
        expected, remedy = f"the scan's shape {shape}", "resample it onto the scan"
        raise InputFileError(option, expected=expected, got=got, remedy=remedy)
    _check_positions(scan, grid, option, "voxels at the positions of the scan's")


def _check_positions(first: Grid, second: Grid, operation: str, expected: str) -> None:
    difference = placement_difference(first, second)
    if difference:
        remedy = "resample one of them onto the other"
        raise InputFileError(operation, expected=expected, got=difference, remedy=remedy)
