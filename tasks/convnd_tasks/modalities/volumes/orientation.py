"""A volume's axes: from its file to head, front and right, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convnd import io

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid
    from convnd.optimize.distributed.sharded_field import Box

__all__ = ["Orientation"]


class Orientation:
    """Where the axes of a volume's file point to.

    Args:
        grid: of three axes.

    Attributes:
        shape: extent towards head, front and right.
        spacing: mm along them.
    """

    def __init__(self, grid: Grid) -> None:
        self._order = io.anatomical_axes(grid)
        self.shape = tuple(grid.shape[axis] for axis, _ in self._order)
        self.spacing = tuple(grid.spacing[axis] for axis, _ in self._order)
        self._flips = [2 + n for n, (_, against) in enumerate(self._order) if against]

    def turned(self, values: Tensor, box: Box | None = None) -> Tensor:
        """A copy of values ``(B, C, *S)`` of the file towards head, front and right.

        Args:
            values: as they lie in the file.
            box: a part of what comes out; None is all of it.
        """
        found = values.permute(0, 1, *(2 + axis for axis, _ in self._order))
        if box is not None:
            sides = zip(box, self._order, self.shape, strict=True)
            place = [
                slice(extent - stop, extent - start) if against else slice(start, stop)
                for (start, stop), (_, against), extent in sides
            ]
            found = found[(slice(None), slice(None), *place)]
        return found.flip(self._flips)

    def turned_back(self, values: Tensor) -> Tensor:
        """The whole as it lies in the file; undoes `turned`."""
        axes = [axis for axis, _ in self._order]
        places = [2 + axes.index(each) for each in range(3)]
        return values.flip(self._flips).permute(0, 1, *places).contiguous()
