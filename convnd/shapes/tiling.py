"""Cutting a grid into tiles whose features equal those of the whole grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from convnd.errors import ShapeError
from convnd.shapes.receptive_field import ReceptiveField
from convnd.shapes.tile_axis import AxisTiling, divide_up, tile_axis

__all__ = ["Tile", "Tiling"]

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Tile:
    """A part of a grid that is processed separately.

    Args:
        crop: the part of the input to cut out: the samples of the tile and the halo around them. In
            a periodic grid it may begin before 0 and stop after the end.
        windows: positions of the tile, by layer. Each position of a layer belongs to exactly one
            tile. A stop of None is the end of the layer.
        crop_windows: the same positions in the features of the crop, by layer, followed by the
            positions of the layer's overlap, as far as the layer has them.
        cut_axes: axes of a periodic grid along which the crop has a halo. Along the others it is a
            whole period, and the network reads across the border.
    """

    crop: Slices
    windows: Mapping[str, Slices]
    crop_windows: Mapping[str, Slices]
    cut_axes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Tiling:
    """A grid cut into tiles along every axis.

    Cuts, and the starts of crops, lie at multiples of every layer's stride. So the features of a
    crop equal those of the whole grid, except near its cut edges, where the network pads instead of
    seeing the neighbouring samples. The halo covers that range and is cut away. At the border of
    the grid, the crop ends with the grid, and the network pads as it does for the whole grid. A
    periodic grid has no border: crops go on with its first samples after its last.

    ``len``, iteration and an index give the number of tiles, the tiles, and one `Tile`.

    Args:
        axes: the cuts along each axis; `cut` and `choose` make them.

    >>> conv = ReceptiveField((3,), (1,), (-1,))
    >>> for tile in Tiling.cut((10,), 4, {"conv": conv}):
    ...     print(tile.crop, tile.windows["conv"], tile.crop_windows["conv"])
    (slice(0, 5, None),) (slice(0, 4, None),) (slice(0, 4, None),)
    (slice(3, 9, None),) (slice(4, 8, None),) (slice(1, 5, None),)
    (slice(7, 10, None),) (slice(8, None, None),) (slice(1, None, None),)
    """

    axes: tuple[AxisTiling, ...] = field(repr=False)

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
        periodic: bool = False,
    ) -> Tiling:
        """Cut a grid into tiles of one size; the last tile along an axis may be smaller.

        Args:
            size: extent of the grid along each axis.
            tile: samples of a tile along each axis, without halo; rounded down to a multiple of the
                strides, but at least one multiple.
            fields: receptive fields of the layers whose features are needed.
            overlaps: number of positions after its own that a tile sees, by layer; None is 0.
            min_crop: minimum extent of a crop along each axis, if the grid is that long. Networks
                that pad with copies of their samples see further than their receptive fields.
            align: cuts are multiples of this many samples along each axis; None is the strides of
                ``fields``. A network that downsamples and upsamples again needs more.
            pieces: minimum number of pieces along each axis, as far as strides allow.
            periodic: whether the grid is one period of a field that repeats along every axis. A
                tile that covers a whole axis has no halo along it.

        Raises:
            ShapeError: the numbers of axes differ, there is no layer, or a tile is empty.
        """
        steps = _steps(size, fields, align)
        tiles = [tile] * len(size) if isinstance(tile, int) else list(tile)
        if len(tiles) != len(size) or min(tiles, default=0) < 1:
            raise ShapeError(
                "tiles",
                expected=f"at least 1 sample along each of {len(size)} axes",
                got=tile,
                remedy="correct the tile's size",
            )
        for axis, (extent, step) in enumerate(zip(size, steps, strict=True)):
            if pieces is not None and pieces[axis] > 1:
                tiles[axis] = min(
                    tiles[axis], divide_up(divide_up(extent, step), pieces[axis]) * step
                )
        return cls(
            tuple(
                tile_axis(
                    axis,
                    extent,
                    max(1, length // step) * step,
                    step,
                    fields,
                    overlaps,
                    min_crop,
                    periodic=periodic,
                )
                for axis, (extent, length, step) in enumerate(zip(size, tiles, steps, strict=True))
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
        periodic: bool = False,
    ) -> Tiling:
        """Choose the tiles with the least halo among those that fit; the smallest if none does.

        Args:
            size: extent of the grid along each axis.
            fields: receptive fields of the layers whose features are needed.
            fits: tells whether a crop of an extent fits, for example into memory.
            overlaps: number of positions after its own that a tile sees, by layer; as in `cut`.
            min_crop: minimum extent of a crop along each axis; as in `cut`.
            align: cuts are multiples of this many samples along each axis; as in `cut`.
            pieces: the number of pieces along each axis is a multiple of this number, as far as
                strides allow.
            periodic: whether the grid repeats along every axis; as in `cut`.

        Raises:
            ShapeError: the numbers of axes differ, or there is no layer.

        >>> conv = ReceptiveField((3, 3), (1, 1), (-1, -1))
        >>> tiling = Tiling.choose((64, 64), {"conv": conv}, lambda crop: math.prod(crop) < 1200)
        >>> len(tiling), tiling.largest_crop
        (4, (33, 33))
        """
        steps = _steps(size, fields, align)
        # Nothing has less halo than one tile, and the search takes 30 ms.
        fits_whole = pieces is None and fits(tuple(size))
        options: list[list[tuple[int, int, AxisTiling]]] = []
        for axis, (extent, step) in enumerate(zip(size, steps, strict=True)):
            units = divide_up(extent, step)
            times = 1 if pieces is None else pieces[axis]
            # The shortest length for each number of pieces; it makes the last piece the longest.
            counts = [1] if fits_whole else _counts(divide_up(units, times))
            lengths = sorted({divide_up(units, times * count) for count in counts})
            candidates = [
                tile_axis(
                    axis, extent, length * step, step, fields, overlaps, min_crop, periodic=periodic
                )
                for length in lengths
            ]
            options.append([(*candidate.sizes(), candidate) for candidate in candidates])
        by_samples = sorted(
            itertools.product(*options),
            key=lambda axes: (
                math.prod(total for _, total, _ in axes),
                math.prod(axis.count for _, _, axis in axes),
            ),
        )
        for axes in by_samples:
            if fits(tuple(largest for largest, _, _ in axes)):
                return cls(tuple(axis for _, _, axis in axes))
        return cls(tuple(candidates[0][2] for candidates in options))

    def crop_for(
        self, name: str, window: Sequence[slice]
    ) -> tuple[Slices, Slices, tuple[int, ...]]:
        """Compute the crop of the input that the features in a window of a layer depend on.

        Args:
            name: the layer.
            window: positions of the layer, one slice for each axis, as in `Tile.windows`.

        Returns:
            The crop, the window in the crop's features, and the `Tile.cut_axes` of such a tile.
        """
        pairs = [axis.crop_for(name, part) for axis, part in zip(self.axes, window, strict=True)]
        cut_axes = [
            n
            for n, (axis, part) in enumerate(zip(self.axes, window, strict=True))
            if axis.periodic and (part.start, part.stop) != (0, None)
        ]
        return (
            tuple(crop for crop, _ in pairs),
            tuple(inner for _, inner in pairs),
            tuple(cut_axes),
        )

    def share(self, axis: int, number: int, shares: int) -> range:
        """Divide the pieces along an axis among workers.

        Args:
            axis: number of the axis.
            number: number of the worker, from 0.
            shares: how many workers there are.

        Returns:
            Numbers of the worker's pieces; may be empty.

        >>> conv = ReceptiveField((3,), (1,), (-1,))
        >>> [list(Tiling.cut((10,), 2, {"conv": conv}).share(0, number, 3)) for number in range(3)]
        [[0, 1], [2, 3], [4]]
        """
        count = self.axes[axis].count
        return range(divide_up(number * count, shares), divide_up((number + 1) * count, shares))

    def tiles(self, axis: int, pieces: range) -> Iterator[Tile]:
        """Yield the tiles that lie in these pieces along an axis."""
        inner = math.prod(later.count for later in self.axes[axis + 1 :])
        for index in range(len(self)):
            if index // inner % self.axes[axis].count in pieces:
                yield self[index]

    def crop_bounds(self, axis: int, pieces: range) -> tuple[int, int]:
        """First sample of the crops in these pieces along an axis, and the one after the last."""
        crops = [self.axes[axis].piece(index).crop for index in pieces]
        return min((crop.start for crop in crops), default=0), max(
            (crop.stop for crop in crops), default=0
        )

    @property
    def size(self) -> tuple[int, ...]:
        """Extent of the grid."""
        return tuple(axis.extent for axis in self.axes)

    @property
    def tile(self) -> tuple[int, ...]:
        """Samples of a tile along each axis, without halo."""
        return tuple(min(axis.length, axis.extent) for axis in self.axes)

    @property
    def largest_crop(self) -> tuple[int, ...]:
        """Extent of the largest crop."""
        return tuple(axis.sizes()[0] for axis in self.axes)

    @property
    def overhead(self) -> float:
        """Samples of all crops divided by samples of the grid, approximately."""
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
            index, number = divmod(index, axis.count)
            pieces.append(axis.piece(number))
        pieces.reverse()
        return Tile(
            crop=tuple(piece.crop for piece in pieces),
            windows={name: tuple(piece.windows[name] for piece in pieces) for name in self._names},
            crop_windows={
                name: tuple(piece.crop_windows[name] for piece in pieces) for name in self._names
            },
            cut_axes=self._cut_axes,
        )

    @cached_property
    def _cut_axes(self) -> tuple[int, ...]:
        return tuple(n for n, axis in enumerate(self.axes) if axis.periodic and axis.count > 1)

    @property
    def _names(self) -> Sequence[str]:
        return list(self.axes[0].receptive_fields)


def _steps(
    size: Sequence[int], fields: Mapping[str, ReceptiveField], align: Sequence[int] | None
) -> list[int]:
    """The numbers of samples whose multiples cuts along each axis lie at."""
    ranks = {field.ndim for field in fields.values()}
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
            *(Fraction(field.stride[axis]).numerator for field in fields.values()),
        )
        for axis in range(len(size))
    ]


def _counts(units: int) -> Iterator[int]:
    """Yield numbers of pieces that give every possible length, about 2·√units of them."""
    root = math.isqrt(units)
    yield from range(1, root + 1)
    yield from (-(-units // length) for length in range(1, root + 1))
