"""How a grid is cut into tiles whose features come out as in the whole grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from convnd.errors import ShapeError
from convnd.shapes.receptive_field import ReceptiveField

__all__ = ["Tile", "Tiling"]

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Tile:
    """A part of a grid that is worked on by itself.

    Args:
        crop: what to cut out of the input: the tile's own samples and the halo around them.
        windows: for each layer the positions that are the tile's own. Those of all tiles together
            are all positions of the layer, each once. A stop of None is the end of the layer.
        crop_windows: where those positions lie in the features of the crop, followed by as many
            more as the layer's overlap asks for and the layer has.
    """

    crop: Slices
    windows: Mapping[str, Slices]
    crop_windows: Mapping[str, Slices]


@dataclass(frozen=True)
class _Piece:
    """A `Tile` along one axis."""

    crop: slice
    windows: Mapping[str, slice]
    crop_windows: Mapping[str, slice]

    @property
    def extent(self) -> int:
        return int(self.crop.stop - self.crop.start)


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """An axis cut into pieces of one length, the last one shorter."""

    extent: int
    length: int
    align: int
    fields: Mapping[str, tuple[int | Fraction, int | Fraction, int | Fraction]]
    overlaps: Mapping[str, int]
    min_crop: int

    @property
    def count(self) -> int:
        return _up(self.extent, self.length)

    def piece(self, index: int) -> _Piece:
        if self.count == 1:
            # The end of a layer is not known here, and need not be.
            everything = dict.fromkeys(self.fields, slice(0, None))
            return _Piece(slice(0, self.extent), everything, everything)
        first, last = index == 0, index == self.count - 1
        start, stop = index * self.length, min((index + 1) * self.length, self.extent)
        low, high = start, stop
        ends: dict[str, tuple[int, int]] = {}
        for name, (size, stride, offset) in self.fields.items():
            # Cuts are multiples of every stride, so that these are whole.
            begin, end = math.floor(start / Fraction(stride)), math.floor(stop / Fraction(stride))
            ends[name] = begin, end
            seen = end - 1 + self.overlaps.get(name, 0)
            low = min(low, math.ceil(offset + begin * stride))
            high = max(high, math.floor(offset + seen * stride + size - 1) + 1)
        low = 0 if first else max(0, low)
        high = self.extent if last else min(self.extent, high)
        low, high = self._settled(low, high)
        windows, inside = {}, {}
        for name, (begin, end) in ends.items():
            before = math.floor(low / Fraction(self.fields[name][1]))
            more = end + self.overlaps.get(name, 0) - before
            windows[name] = slice(begin, None if last else end)
            inside[name] = slice(begin - before, None if last else more)
        return _Piece(slice(low, high), windows, inside)

    def crop_for(self, name: str, window: slice) -> tuple[slice, slice]:
        """The crop that shows positions of one layer, and where they lie in its features."""
        size, stride, offset = self.fields[name]
        if window.start == 0 and window.stop is None:
            return slice(0, self.extent), slice(0, None)
        low, high = 0, self.extent
        if window.start > 0:
            low = max(0, math.ceil(offset + window.start * stride))
        if window.stop is not None:
            seen = math.floor(offset + (window.stop - 1) * stride + size - 1) + 1
            high = min(self.extent, seen)
        low, high = self._settled(low, high)
        before = math.floor(low / Fraction(stride))
        stop = None if window.stop is None else window.stop - before
        return slice(low, high), slice(window.start - before, stop)

    def _settled(self, low: int, high: int) -> tuple[int, int]:
        high = min(self.extent, max(high, low + self.min_crop))
        low = max(0, min(low, high - self.min_crop))
        return low // self.align * self.align, high

    def sizes(self) -> tuple[int, int]:
        """Samples of the largest crop, and of all of them together, about."""
        ends = 3  # pieces at each end that the border may shorten
        if self.count <= 2 * ends:
            extents = [self.piece(index).extent for index in range(self.count)]
            return max(extents), sum(extents)
        outer = (*range(ends), *range(self.count - ends, self.count))
        extents = [self.piece(index).extent for index in outer]
        inner = self.piece(self.count // 2).extent
        return max(inner, *extents), sum(extents) + inner * (self.count - 2 * ends)


@dataclass(frozen=True)
class Tiling:
    """A grid cut into tiles along every axis.

    Cuts lie at multiples of every layer's stride, and so do the starts of the crops: the features
    of a crop are then those of the whole grid, except close to where it was cut. There the
    network pads where the whole grid goes on; the halo is as wide as that is felt, and is cut
    away. At the true border the crop ends with the grid, and the padding is the network's own.

    Args:
        axes: made by `cut` or `choose`.

    >>> conv = ReceptiveField((3,), (1,), (-1,))
    >>> for tile in Tiling.cut((10,), 4, {"conv": conv}):
    ...     print(tile.crop, tile.windows["conv"], tile.crop_windows["conv"])
    (slice(0, 5, None),) (slice(0, 4, None),) (slice(0, 4, None),)
    (slice(3, 9, None),) (slice(4, 8, None),) (slice(1, 5, None),)
    (slice(7, 10, None),) (slice(8, None, None),) (slice(1, None, None),)
    """

    axes: tuple[_Axis, ...] = field(repr=False)

    @classmethod
    def cut(
        cls,
        size: Sequence[int],
        tile: int | Sequence[int],
        fields: Mapping[str, ReceptiveField],
        *,
        overlaps: Mapping[str, int] | None = None,
        min_crop: Sequence[int] | None = None,
        align: Sequence[int] | None = None,
        pieces: Sequence[int] | None = None,
    ) -> Tiling:
        """Tiles of one size, those at the far ends smaller.

        Args:
            size: extent of the grid along each axis.
            tile: samples of a tile's own along each axis, made a multiple of the strides by
                rounding down, but at least one multiple.
            fields: the layers that are looked at.
            overlaps: positions behind its own that a tile is to have in a layer as well.
            min_crop: samples that every crop has along each axis, where the grid has as many. A
                network that pads with its own samples looks further than its fields tell.
            align: whole numbers of samples that cuts are to be multiples of; None takes the
                strides of ``fields``. A network that coarsens and refines again needs more.
            pieces: how many there are to be along each axis at least, as far as strides allow.

        Raises:
            ShapeError: the numbers of axes differ, there is no layer, or a tile has no sample.
        """
        steps = _steps(size, fields, align)
        wanted = [tile] * len(size) if isinstance(tile, int) else list(tile)
        if len(wanted) != len(size) or min(wanted, default=0) < 1:
            raise ShapeError(
                "tiles",
                expected=f"at least 1 sample along each of {len(size)} axes",
                got=tile,
                remedy="correct the tile's size",
            )
        for axis, (extent, step) in enumerate(zip(size, steps, strict=True)):
            if pieces is not None and pieces[axis] > 1:
                wanted[axis] = min(wanted[axis], _up(_up(extent, step), pieces[axis]) * step)
        return cls(
            tuple(
                _axis(axis, extent, max(1, each // step) * step, step, fields, overlaps, min_crop)
                for axis, (extent, each, step) in enumerate(zip(size, wanted, steps, strict=True))
            )
        )

    @classmethod
    def choose(
        cls,
        size: Sequence[int],
        fields: Mapping[str, ReceptiveField],
        fits: Callable[[tuple[int, ...]], bool],
        *,
        overlaps: Mapping[str, int] | None = None,
        min_crop: Sequence[int] | None = None,
        align: Sequence[int] | None = None,
        pieces: Sequence[int] | None = None,
    ) -> Tiling:
        """The tiles with the least halo among those that fit; the smallest where none does.

        Args:
            size: extent of the grid along each axis.
            fields: the layers that are looked at.
            fits: whether a crop of this extent can be worked on.
            overlaps: see `cut`.
            min_crop: see `cut`.
            align: see `cut`.
            pieces: their number along each axis is a multiple of this, as far as strides allow.

        Raises:
            ShapeError: the numbers of axes differ, or there is no layer.

        >>> conv = ReceptiveField((3, 3), (1, 1), (-1, -1))
        >>> tiling = Tiling.choose((64, 64), {"conv": conv}, lambda crop: math.prod(crop) < 1200)
        >>> len(tiling), tiling.largest_crop
        (4, (33, 33))
        """
        steps = _steps(size, fields, align)
        options: list[list[tuple[int, int, _Axis]]] = []
        for axis, (extent, step) in enumerate(zip(size, steps, strict=True)):
            units = _up(extent, step)
            times = 1 if pieces is None else pieces[axis]
            # As few units as give the same number of pieces; the last piece is then the fullest.
            lengths = sorted({_up(units, times * count) for count in _counts(_up(units, times))})
            made = [
                _axis(axis, extent, length * step, step, fields, overlaps, min_crop)
                for length in lengths
            ]
            options.append([(*each.sizes(), each) for each in made])
        found = sorted(
            itertools.product(*options),
            key=lambda axes: (
                math.prod(total for _, total, _ in axes),
                math.prod(axis.count for _, _, axis in axes),
            ),
        )
        for axes in found:
            if fits(tuple(largest for largest, _, _ in axes)):
                return cls(tuple(axis for _, _, axis in axes))
        return cls(tuple(each[0][2] for each in options))

    def crop_for(self, name: str, window: Sequence[slice]) -> tuple[Slices, Slices]:
        """What to cut out of the input to have a layer's features in a window of it.

        Args:
            name: of the layer.
            window: positions of the layer, one slice for each axis; as a tile has them.

        Returns:
            The crop, and where the positions lie in its features.
        """
        found = [axis.crop_for(name, each) for axis, each in zip(self.axes, window, strict=True)]
        return tuple(crop for crop, _ in found), tuple(place for _, place in found)

    def share(self, axis: int, number: int, shares: int) -> range:
        """The pieces along an axis that fall to one of several workers; may be none.

        >>> conv = ReceptiveField((3,), (1,), (-1,))
        >>> [list(Tiling.cut((10,), 2, {"conv": conv}).share(0, each, 3)) for each in range(3)]
        [[0, 1], [2, 3], [4]]
        """
        count = self.axes[axis].count
        return range(_up(number * count, shares), _up((number + 1) * count, shares))

    def tiles(self, axis: int, pieces: range) -> Iterator[Tile]:
        """The tiles in some pieces of an axis."""
        behind = math.prod(each.count for each in self.axes[axis + 1 :])
        for index in range(len(self)):
            if index // behind % self.axes[axis].count in pieces:
                yield self[index]

    def crop_bounds(self, axis: int, pieces: range) -> tuple[int, int]:
        """Where the crops in some pieces of an axis begin and end along it."""
        crops = [self.axes[axis].piece(at).crop for at in pieces]
        return min((crop.start for crop in crops), default=0), max(
            (crop.stop for crop in crops), default=0
        )

    @property
    def size(self) -> tuple[int, ...]:
        """Extent of the grid."""
        return tuple(axis.extent for axis in self.axes)

    @property
    def tile(self) -> tuple[int, ...]:
        """Samples of a tile's own along each axis."""
        return tuple(min(axis.length, axis.extent) for axis in self.axes)

    @property
    def largest_crop(self) -> tuple[int, ...]:
        """Extent of the largest crop."""
        return tuple(axis.sizes()[0] for axis in self.axes)

    @property
    def overhead(self) -> float:
        """Samples in all crops together over samples in the grid, about."""
        return math.prod(axis.sizes()[1] / axis.extent for axis in self.axes)

    def __len__(self) -> int:
        return math.prod(axis.count for axis in self.axes)

    def __iter__(self) -> Iterator[Tile]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Tile:
        if not 0 <= index < len(self):
            raise IndexError(index)
        pieces = []
        for axis in reversed(self.axes):
            index, at = divmod(index, axis.count)
            pieces.append(axis.piece(at))
        pieces.reverse()
        return Tile(
            crop=tuple(piece.crop for piece in pieces),
            windows={name: tuple(each.windows[name] for each in pieces) for name in self._names},
            crop_windows={
                name: tuple(each.crop_windows[name] for each in pieces) for name in self._names
            },
        )

    @property
    def _names(self) -> Sequence[str]:
        return list(self.axes[0].fields)


def _axis(
    axis: int,
    extent: int,
    length: int,
    align: int,
    fields: Mapping[str, ReceptiveField],
    overlaps: Mapping[str, int] | None,
    min_crop: Sequence[int] | None,
) -> _Axis:
    return _Axis(
        extent=extent,
        length=length,
        align=align,
        fields={
            name: (each.size[axis], each.stride[axis], each.offset[axis])
            for name, each in fields.items()
        },
        overlaps={} if overlaps is None else overlaps,
        min_crop=0 if min_crop is None else min_crop[axis],
    )


def _steps(
    size: Sequence[int], fields: Mapping[str, ReceptiveField], align: Sequence[int] | None
) -> list[int]:
    """Samples that cuts along each axis are multiples of."""
    ranks = {each.ndim for each in fields.values()}
    if ranks != {len(size)} or min(size, default=0) < 1:
        got = f"fields of {', '.join(map(str, sorted(ranks)))} axes" if ranks else "none"
        raise ShapeError(
            "tiles",
            expected=f"receptive fields over the axes of a grid {tuple(size)}",
            got=got,
            remedy="give one for each layer",
        )
    return [
        math.lcm(
            1 if align is None else align[axis],
            *(Fraction(each.stride[axis]).numerator for each in fields.values()),
        )
        for axis in range(len(size))
    ]


def _up(number: int, divisor: int) -> int:
    return -(-number // divisor)


def _counts(units: int) -> Iterator[int]:
    """Numbers of pieces that lead to all different lengths, not too many of them."""
    root = math.isqrt(units)
    yield from range(1, root + 1)
    yield from (-(-units // length) for length in range(1, root + 1))
