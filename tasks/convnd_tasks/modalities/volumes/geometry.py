"""Where the voxels of two volumes lie, and the unit of their values."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from convnd import io

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["HOUNSFIELD", "placement_difference", "value_unit"]

HOUNSFIELD = "HU"
"""Unit of the values of CT."""

_TOLERANCE = 0.1  # of the smallest side of a voxel
_AIR = -500.0  # values below it occur in HU alone


def placement_difference(first: Grid, second: Grid) -> str:
    """Compare the places of the voxels of two volumes of one shape.

    Args:
        first: a volume.
        second: has the same shape.

    Returns:
        What differs, in mm; "" if nothing does, or if a file does not say where its voxels are.

    >>> import numpy as np, torch
    >>> from convnd.grid import Grid
    >>> def at(z):
    ...     affine = np.eye(4)
    ...     affine[2, 3] = z
    ...     return Grid(values=torch.ones(1, 1, 2, 2, 2), header={"affine": affine})
    >>> placement_difference(at(0), at(50))
    'voxels up to 50 mm away'
    """
    import numpy as np

    grids = (first, second)
    if all(grid.header.get("affine") is not None for grid in grids):
        ends = [(0, extent - 1) for extent in first.shape]
        corners = np.array([(*corner, 1) for corner in itertools.product(*ends)])
        shift = corners @ (io.grid_affine(first) - io.grid_affine(second)).T
        distance = float(np.linalg.norm(shift[:, :3], axis=1).max())
        far = distance > _TOLERANCE * min(*first.spacing, *second.spacing)
        return f"voxels up to {distance:.3g} mm away" if far else ""
    known = all(grid.units == ("mm",) * 3 for grid in grids)
    if known and not np.allclose(first.spacing, second.spacing, rtol=1e-3):
        sizes = [" x ".join(f"{step:g}" for step in grid.spacing) for grid in grids]
        return f"voxels of {sizes[1]} mm instead of {sizes[0]} mm"
    return ""


def value_unit(grid: Grid) -> str:
    """The unit of a volume's values.

    Args:
        grid: a volume.

    Returns:
        What the file says. Files that do not say it hold HU if some values are as low as only those
        of CT are; else "", since magnetic resonance has no unit.

    >>> import torch
    >>> from convnd.grid import Grid
    >>> value_unit(Grid(values=torch.full((1, 1, 2, 2, 2), -1000.0)))
    'HU'
    """
    unit = grid.header.get("value_unit")
    if isinstance(unit, str):
        return unit
    return HOUNSFIELD if bool((grid.values < _AIR).any()) else ""
