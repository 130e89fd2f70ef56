"""Cutting a box out of a grid so that its samples keep their place in space or time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from convnd.errors import ShapeError
from convnd.grid import Grid

__all__ = ["crop"]


def crop(grid: Grid, region: Sequence[slice]) -> Grid:
    """Cut a box out of a grid; written to a file, its samples lie where they lay before.

    Args:
        grid: the grid to cut from.
        region: one slice per axis, with start and stop inside the grid and without a step.

    Returns:
        A copy of the values, with spacing, units and names. The affine of a volume moves to
        the first voxel of the box; transparency is cut with the values.

    Raises:
        ShapeError: the region is empty or reaches out of the grid.

    >>> import torch
    >>> crop(Grid(values=torch.arange(5.0).view(1, 1, 5)), [slice(1, 3)]).values.tolist()
    [[[1.0, 2.0]]]
    """
    is_inside = len(region) == grid.ndim and all(
        isinstance(part.start, int) and 0 <= part.start < part.stop <= extent
        for part, extent in zip(region, grid.shape, strict=True)
    )
    if not is_inside:
        raise ShapeError(
            "crop",
            expected=f"a region inside {grid.shape}",
            got=str(tuple(region)),
            remedy="give a slice with start and stop inside it for each axis",
        )
    header: dict[str, Any] = dict(grid.header)
    if "alpha" in header:
        header["alpha"] = header["alpha"][(..., *region)].clone()
    start = [part.start for part in region]
    if "nifti" in header:
        header["nifti"] = _shift_origin(header["nifti"], start)
    if header.get("affine") is not None:
        header["affine"] = _shifted(header["affine"], start)
    for key in header.keys() & {"integer_codes", "exact_values"}:
        header[key] = header[key][(..., *region)].copy()
    return dataclasses.replace(
        grid, values=grid.values[(slice(None), slice(None), *region)].clone(), header=header
    )


def _shift_origin(header: Any, start: Sequence[int]) -> Any:
    """Return a copy of a NIfTI header whose affines map index 0 to the voxel ``start``."""
    header = header.copy()
    for name in ("qform", "sform"):
        code = int(header[f"{name}_code"])
        if code > 0:
            getattr(header, f"set_{name}")(_shifted(getattr(header, f"get_{name}")(), start), code)
    return header


def _shifted(affine: Any, start: Sequence[int]) -> Any:
    """Return an affine that maps index 0 to where it mapped the voxel ``start``."""
    import numpy as np

    shift = np.eye(4)
    shift[:3, 3] = start
    return affine @ shift
