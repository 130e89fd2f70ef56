"""A part of a grid that still knows where it lies."""

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
        grid: what to cut from.
        region: for each axis a slice with start and stop inside of the grid, without a step.

    Returns:
        A copy of the values, with spacing, units and names; the affine of a NIfTI header starts at
        the first voxel of the box; transparency is cut likewise.

    Raises:
        ShapeError: the region does not lie in the grid or is empty.

    >>> import torch
    >>> crop(Grid(values=torch.arange(5.0).view(1, 1, 5)), [slice(1, 3)]).values.tolist()
    [[[1.0, 2.0]]]
    """
    inside = len(region) == grid.ndim and all(
        isinstance(part.start, int) and 0 <= part.start < part.stop <= extent
        for part, extent in zip(region, grid.shape, strict=True)
    )
    if not inside:
        raise ShapeError(
            f"crop: expected a region inside of {grid.shape}, got {tuple(region)}; correct it"
        )
    header: dict[str, Any] = dict(grid.header)
    if "alpha" in header:
        header["alpha"] = header["alpha"][(..., *region)].clone()
    if "nifti" in header:
        header["nifti"] = _shift_origin(header["nifti"], [part.start for part in region])
    return dataclasses.replace(
        grid, values=grid.values[(slice(None), slice(None), *region)].clone(), header=header
    )


def _shift_origin(header: Any, start: Sequence[int]) -> Any:
    """A copy whose affines give the voxel ``start`` the index 0."""
    import numpy as np

    header = header.copy()
    step = np.eye(4)
    step[:3, 3] = start
    for name in ("qform", "sform"):
        code = int(header[f"{name}_code"])
        if code > 0:
            getattr(header, f"set_{name}")(getattr(header, f"get_{name}")() @ step, code)
    return header
