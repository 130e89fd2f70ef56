"""Anatomical orientation of volumes: axes of a file to axes towards head, front and right."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from convnd import io
from convnd.grid import Grid

__all__ = ["DIRECTIONS", "Orientation", "canonical_affine", "canonical_array", "canonical_origin"]

DIRECTIONS = ("head", "front", "right")
"""Where canonical axes point to."""


class Orientation:
    """The order and direction of a volume's axes, and the conversion to canonical axes.

    Canonical axes point towards head, front and right of the patient, in this order.

    Args:
        grid: a volume of three axes.

    Attributes:
        order: for each canonical axis the axis of the file, and whether it is reversed.
        shape: voxels along each canonical axis.
        spacing: mm between voxels along each canonical axis.
    """

    def __init__(self, grid: Grid) -> None:
        self.order = io.anatomical_axes(grid)
        self.shape = tuple(grid.shape[axis] for axis, _ in self.order)
        self.spacing = tuple(grid.spacing[axis] for axis, _ in self.order)
        self._flips = [2 + n for n, (_, reversed_) in enumerate(self.order) if reversed_]

    def to_canonical(self, values: Tensor) -> Tensor:
        """A copy of values ``(B, C, *S)`` with canonical axes."""
        return values.permute(0, 1, *(2 + axis for axis, _ in self.order)).flip(self._flips)

    def canonical_frame(self, values: Tensor, number: int = 0) -> Tensor:
        """One frame ``(D, H, W)`` of values ``(1, T, *S)``, with canonical axes."""
        return self.to_canonical(values[:, number : number + 1])[0, 0]

    def from_canonical(self, values: Tensor) -> Tensor:
        """Values ``(B, C, *S)`` with the axes of the file; the inverse of `to_canonical`."""
        axes = [axis for axis, _ in self.order]
        order = [2 + axes.index(axis) for axis in range(3)]
        return values.flip(self._flips).permute(0, 1, *order).contiguous()


def canonical_array(grid: Grid) -> tuple[Any, tuple[float, ...]]:
    """The first frame of a volume as an array with canonical axes, and its spacing in mm.

    Args:
        grid: a volume with values ``(1, T, *S)``.
    """
    axes = Orientation(grid)
    return axes.canonical_frame(grid.values.detach().cpu()).numpy(), axes.spacing


def canonical_affine(grid: Grid) -> Any:
    """The matrix ``(3, 4)`` from canonical indices to mm towards right, front and head.

    Args:
        grid: a volume of three axes.

    >>> import torch
    >>> from convnd.grid import Grid
    >>> canonical_affine(Grid(values=torch.ones(1, 1, 2, 2, 2), spacing=(1.0, 2.0, 3.0)))
    array([[0., 0., 1., 0.],
           [0., 2., 0., 0.],
           [3., 0., 0., 0.]])
    """
    affine = io.grid_affine(grid)[:3]
    columns, origin = [], affine[:, 3]
    for axis, reversed_ in io.anatomical_axes(grid):
        step = affine[:, axis]
        columns.append(-step if reversed_ else step)
        origin = origin + step * ((grid.shape[axis] - 1) * reversed_)
    return np.stack([*columns, origin], 1)


def canonical_origin(grid: Grid) -> tuple[float, ...]:
    """The position of the first canonical voxel, in mm along each canonical axis."""
    affine = canonical_affine(grid)
    directions = affine[:, :3] / np.linalg.norm(affine[:, :3], axis=0)
    return tuple((affine[:, 3] @ directions).tolist())
