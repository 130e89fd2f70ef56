"""One axis of a grid, cut into tiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from convnd.shapes.receptive_field import ReceptiveField

__all__ = ["AxisTiling", "Piece", "divide_up", "tile_axis"]


@dataclass(frozen=True)
class Piece:
    """A `convnd.shapes.Tile` along one axis.

    Args:
        crop: samples of the input to cut out, with the halo.
        windows: positions of the tile in each layer.
        crop_windows: the same positions in the features of the crop, by layer.
    """

    crop: slice
    windows: Mapping[str, slice]
    crop_windows: Mapping[str, slice]

    @property
    def extent(self) -> int:
        """Samples of the crop."""
        return int(self.crop.stop - self.crop.start)


@dataclass(frozen=True, kw_only=True)
class AxisTiling:
    """One axis cut into pieces of equal length; the last one may be shorter.

    Args:
        extent: samples of the grid along the axis.
        length: samples of a piece, a multiple of ``align``.
        align: the start of every crop is a multiple of this many samples.
        receptive_fields: size, stride and offset along the axis, by layer.
        overlaps: number of positions after its own that a piece sees, by layer.
        min_crop: smallest extent of a crop, if the axis is that long.
        periodic: whether the grid repeats along the axis. Crops then start before 0 or stop after
            `extent`, and no end of the grid is an end of a layer.
    """

    extent: int
    length: int
    align: int
    receptive_fields: Mapping[str, tuple[int | Fraction, int | Fraction, int | Fraction]]
    overlaps: Mapping[str, int]
    min_crop: int
    periodic: bool = False

    @property
    def count(self) -> int:
        """Number of pieces."""
        return divide_up(self.extent, self.length)

    def piece(self, index: int) -> Piece:
        """Compute the crop of a piece, and its windows in every layer."""
        if self.count == 1:
            # The end of a layer is unknown here, and not needed.
            windows = dict.fromkeys(self.receptive_fields, slice(0, None))
            return Piece(slice(0, self.extent), windows, windows)
        first, last = index == 0, index == self.count - 1
        start, stop = index * self.length, min((index + 1) * self.length, self.extent)
        low, high = start, stop
        ends: dict[str, tuple[int, int]] = {}
        for name, (size, stride, offset) in self.receptive_fields.items():
            # Cuts are multiples of every stride, so that the quotients are whole.
            begin, end = math.floor(start / Fraction(stride)), math.floor(stop / Fraction(stride))
            ends[name] = begin, end
            last_position = end - 1 + self.overlaps.get(name, 0)
            low = min(low, math.ceil(offset + begin * stride))
            high = max(high, math.floor(offset + last_position * stride + size - 1) + 1)
        if self.periodic:
            first = last = False
        else:
            low = 0 if first else max(0, low)
            high = self.extent if last else min(self.extent, high)
        low, high = self._align(low, high)
        windows, crop_windows = {}, {}
        for name, (begin, end) in ends.items():
            first_position = math.floor(low / Fraction(self.receptive_fields[name][1]))
            stop = end + self.overlaps.get(name, 0) - first_position
            windows[name] = slice(begin, None if last else end)
            crop_windows[name] = slice(begin - first_position, None if last else stop)
        return Piece(slice(low, high), windows, crop_windows)

    def crop_for(self, name: str, window: slice) -> tuple[slice, slice]:
        """Compute the crop that a window of a layer depends on, and the window in its features.

        Args:
            name: the layer.
            window: positions of the layer along the axis; a stop of None is the end.
        """
        size, stride, offset = self.receptive_fields[name]
        if window.start == 0 and window.stop is None:
            return slice(0, self.extent), slice(0, None)
        low, high = 0, self.extent
        if window.start > 0 or self.periodic:
            low = math.ceil(offset + window.start * stride)
        if window.stop is not None:
            high = math.floor(offset + (window.stop - 1) * stride + size - 1) + 1
        if not self.periodic:
            low, high = max(0, low), min(self.extent, high)
        low, high = self._align(low, high)
        first_position = math.floor(low / Fraction(stride))
        stop = None if window.stop is None else window.stop - first_position
        return slice(low, high), slice(window.start - first_position, stop)

    def _align(self, low: int, high: int) -> tuple[int, int]:
        """Enlarge a crop to the minimum extent, and move its start to a multiple of `align`."""
        if self.periodic:
            return low // self.align * self.align, max(high, low + self.min_crop)
        high = min(self.extent, max(high, low + self.min_crop))
        low = max(0, min(low, high - self.min_crop))
        return low // self.align * self.align, high

    def sizes(self) -> tuple[int, int]:
        """Extent of the largest crop, and approximately the sum over all crops."""
        ends = 3  # the border may shorten the crops of this many pieces at each end
        if self.count <= 2 * ends:
            extents = [self.piece(index).extent for index in range(self.count)]
            return max(extents), sum(extents)
        outer = (*range(ends), *range(self.count - ends, self.count))
        extents = [self.piece(index).extent for index in outer]
        inner = self.piece(self.count // 2).extent
        return max(inner, *extents), sum(extents) + inner * (self.count - 2 * ends)


def tile_axis(
    axis: int,
    extent: int,
    length: int,
    align: int,
    fields: Mapping[str, ReceptiveField],
    overlaps: Mapping[str, int] | None,
    min_crop: Sequence[int] | None,
    *,
    periodic: bool = False,
) -> AxisTiling:
    """Make the tiling along one of several axes, see `AxisTiling`.

    Args:
        axis: number of the axis.
        extent: samples of the grid along it.
        length: samples of a piece.
        align: the start of every crop is a multiple of this many samples.
        fields: receptive fields of the layers over all axes.
        overlaps: number of positions after its own that a piece sees, by layer; None is 0.
        min_crop: smallest extent of a crop along each axis; None is 0.
        periodic: whether the grid repeats along the axis.
    """
    return AxisTiling(
        extent=extent,
        length=length,
        align=align,
        receptive_fields={
            name: (field.size[axis], field.stride[axis], field.offset[axis])
            for name, field in fields.items()
        },
        overlaps={} if overlaps is None else overlaps,
        min_crop=0 if min_crop is None else min_crop[axis],
        periodic=periodic,
    )


def divide_up(number: int, divisor: int) -> int:
    """The quotient, rounded up."""
    return -(-number // divisor)
