"""The axes of a volume: from those of its file to head, front and right, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convnd import io

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid
    from convnd.optimize.distributed.sharded_field import Box

__all__ = ["Orientation", "canonical_array", "canonical_origin"]


class Orientation:
    """Directions of the axes of a volume's file.

    Args:
        grid: has three axes.

    Attributes:
        shape: samples towards head, front and right.
        spacing: mm between samples along these.
    """

    def __init__(self, grid: Grid) -> None:
        self._order = io.anatomical_axes(grid)
        self.shape = tuple(grid.shape[axis] for axis, _ in self._order)
        self.spacing = tuple(grid.spacing[axis] for axis, _ in self._order)
        self._flips = [2 + n for n, (_, reversed_) in enumerate(self._order) if reversed_]

    def to_canonical(self, values: Tensor, box: Box | None = None) -> Tensor:
        """A copy of values ``(B, C, *S)`` with axes towards head, front and right.

        Args:
            values: with the axes of the file.
            box: the part of the copy to return; None is all of it.
        """
        view = values.permute(0, 1, *(2 + axis for axis, _ in self._order))
        if box is not None:
            sides = zip(box, self._order, self.shape, strict=True)
            index = [
                slice(extent - stop, extent - start) if reversed_ else slice(start, stop)
                for (start, stop), (_, reversed_), extent in sides
            ]
            view = view[(slice(None), slice(None), *index)]
        return view.flip(self._flips)

    def from_canonical(self, values: Tensor) -> Tensor:
        """Values ``(B, C, *S)`` with the axes of the file; the inverse of `to_canonical`."""
        axes = [axis for axis, _ in self._order]
        order = [2 + axes.index(axis) for axis in range(3)]
        return values.flip(self._flips).permute(0, 1, *order).contiguous()


def canonical_array(grid: Grid) -> tuple[Any, tuple[float, ...]]:
    """The first frame of a volume with axes towards head, front and right, and its spacing in mm.

    Args:
        grid: values ``(1, T, *S)``.
    """
    import numpy as np

    order = io.anatomical_axes(grid)
    values = grid.values[0, 0].detach().cpu().numpy().transpose([axis for axis, _ in order])
    values = np.flip(values, tuple(n for n, (_, reversed_) in enumerate(order) if reversed_))
    return values, tuple(grid.spacing[axis] for axis, _ in order)


def canonical_origin(grid: Grid) -> tuple[float, ...]:
    """Where the first voxel towards head, front and right lies, in mm along these axes."""
    import numpy as np

    affine = io.grid_affine(grid)
    order = io.anatomical_axes(grid)
    corner = np.zeros(4)
    corner[3] = 1
    for axis, reversed_ in order:
        corner[axis] = grid.shape[axis] - 1 if reversed_ else 0
    place = (affine @ corner)[:3]
    origin = []
    for axis, reversed_ in order:
        direction = affine[:3, axis] / np.linalg.norm(affine[:3, axis])
        origin.append(float(place @ direction) * (-1 if reversed_ else 1))
    return tuple(origin)
