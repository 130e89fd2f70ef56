"""Slices of a volume with square pixels, and how many of them the network sees together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from convnd.nn import resize_nd

__all__ = ["SHORTEST", "SlabPlan", "View", "square_pixel_views"]

SHORTEST = 16
"""Smallest number of pixels along the shorter side of a slice."""

SLAB_PIXELS = 2**19
"""Pixels that the network sees together: about 400 MiB with the compact network."""

ONE_PASS_PIXELS = 2**21
"""Pixels of all views up to which loss and gradient take one pass, in which nothing is computed
twice."""

_SQUARE = 1.05  # ratio of a pixel's sides up to which it counts as square


@dataclass(frozen=True)
class View:
    """The slices across one axis of a volume, with square pixels.

    Args:
        axis: the axis that the slices are stacked along, 0 to 2.
        size: rows and columns of a slice.
        pixel: side of a pixel in mm.
    """

    axis: int
    size: tuple[int, int]
    pixel: float

    @property
    def area(self) -> int:
        """Pixels of a slice."""
        return math.prod(self.size)

    def extract(self, values: Tensor, window: slice | None = None) -> Tensor:
        """Slices ``(n, 1, *size)`` of a volume ``(1, 1, *S)``.

        Args:
            values: the volume.
            window: range of slices; None is all of them.
        """
        slices = values[0, 0].movedim(self.axis, 0)
        slices = slices if window is None else slices[window]
        return resize_nd(slices[:, None], self.size, mode="linear", antialias=True)


def square_pixel_views(shape: Sequence[int], spacing: Sequence[float]) -> list[View]:
    """The views of a volume whose slices have at least `SHORTEST` pixels along both sides.

    Args:
        shape: samples along three axes.
        spacing: mm between samples along each axis.

    Returns:
        Views with the finest pixels first.

    >>> for view in square_pixel_views((48, 512, 512), (5.0, 0.6, 0.6)):
    ...     print(view)
    View(axis=0, size=(512, 512), pixel=0.6)
    View(axis=1, size=(48, 61), pixel=5.0)
    View(axis=2, size=(48, 61), pixel=5.0)
    """
    views = []
    for axis in range(3):
        plane = [other for other in range(3) if other != axis]
        pixel = max(spacing[other] for other in plane)
        size = [
            shape[other]
            if pixel / spacing[other] < _SQUARE
            else max(1, round(shape[other] * spacing[other] / pixel))
            for other in plane
        ]
        if min(size) >= SHORTEST:
            views.append(View(axis, (size[0], size[1]), pixel))
    return sorted(views, key=lambda view: (view.pixel, view.axis))


@dataclass(frozen=True)
class SlabPlan:
    """How many slices of a view the network sees together.

    Args:
        processes: number of processes that share a volume. Each of them takes a smaller slab,
            because they may run on one machine.
        slices: slices in a slab; None chooses by `SLAB_PIXELS`.

    >>> view = View(axis=0, size=(64, 64), pixel=1.0)
    >>> list(SlabPlan(slices=4).windows(view, 10))
    [slice(0, 4, None), slice(4, 8, None), slice(8, 10, None)]
    """

    processes: int = 1
    slices: int | None = None

    def slices_of(self, size: Sequence[int]) -> int:
        """Slices of rows and columns ``size`` in a slab."""
        if self.slices is not None:
            return self.slices
        return max(1, SLAB_PIXELS // self.processes // math.prod(size))

    def windows(self, view: View, count: int) -> Iterator[slice]:
        """Ranges of ``count`` slices, one for each slab."""
        length = self.slices_of(view.size)
        for start in range(0, count, length):
            yield slice(start, min(start + length, count))

    def is_one_pass(self, views: Sequence[View], shape: Sequence[int]) -> bool:
        """Whether the gradient takes one pass over all views of a volume of a shape."""
        whole = self.slices is None or self.slices >= max(shape)
        return whole and self.processes == 1 and _pixels(views, shape) <= ONE_PASS_PIXELS

    def peak_pixels(self, views: Sequence[View], shape: Sequence[int]) -> int:
        """Pixels whose features are in memory together."""
        if self.is_one_pass(views, shape):
            return _pixels(views, shape)
        if self.slices is None:
            return SLAB_PIXELS // self.processes
        return max((min(self.slices, shape[view.axis]) * view.area for view in views), default=0)


def _pixels(views: Sequence[View], shape: Sequence[int]) -> int:
    return sum(view.area * shape[view.axis] for view in views)
