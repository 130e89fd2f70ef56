"""The strongest activations of the units of a layer, of all inputs so far, ties settled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.intp]

__all__ = ["CHANNEL", "Entry", "Leaders", "title"]

CHANNEL = "\x00"  # between the name of an input and its channel, in the order of ties

_BLOCK = 32
"""Values whose maximum stands for them, so that a map is read through once and seldom again."""

Entry = tuple[float, str, tuple[int, ...]]
"""Value, name of the input, position."""


def title(name: str) -> str:
    """The input that a field is of."""
    return name.partition(CHANNEL)[0]


class Leaders:
    """The ``count`` strongest entries of each unit, in bounded memory.

    Strongest first, then by name, then by position: whatever order and batches entries come in,
    what is kept is the same. Only what is above zero counts. All units are worked on at once, for
    there are hundreds, and most of them hear of each input that it is too weak.

    Args:
        units: how many.
        count: entries of each.
        apart: along each axis the distance from which on two positions of one map are no
            neighbours; two are neighbours when they are nearer along all axes, and then the
            stronger one is kept (of equal ones the first in the order of memory). Zeros switch
            this off.
        once: of each input the strongest alone.

    >>> leaders = Leaders(1, 2, apart=[2])
    >>> leaders.offer(["b", "a"], torch.tensor([[[0.0, 3, 4, 3, 0, 2]], [[0, 0, 4, 0, 0, 0]]]))
    >>> leaders.entries()
    [[(4.0, 'a', (2,)), (4.0, 'b', (2,))]]
    """

    def __init__(self, units: int, count: int, *, apart: Sequence[int], once: bool = False) -> None:
        self.names: list[str] = []
        """Of the fields that kept entries are of, in order."""
        self._count = count
        self._apart = apart
        self._once = once
        self._sizes: dict[str, tuple[int, ...]] = {}
        # Entries, unit after unit, the strongest of each first; names as their number in `names`.
        self._units: Integers = np.zeros(0, np.intp)
        self._values = np.zeros(0, np.float32)
        self._names: Integers = np.zeros(0, np.intp)
        self._places: Integers = np.zeros(0, np.intp)
        self._kept = np.zeros(
            (count, units), np.float32
        )  # the same values, 0 where there are fewer

    def offer(self, names: Sequence[str], maps: Tensor) -> None:
        """Take in the strongest of a batch ``(B, units, *S)``, a name for each of its fields."""
        flat = maps.float().flatten(2).contiguous()
        tops = _block_maxima(flat).cpu().numpy()
        strongest = tops.max(2)
        strongest = np.where(np.isnan(strongest), 0, strongest)  # beside no other field's chances
        limits = self._kept[-1]  # what a value must reach to have a chance
        if not self._once:  # there a new one may take the place of a kept one of the same input
            # The strongest of each field will be among the best, or others that are stronger.
            both = np.concatenate([self._kept, strongest])
            limits = np.partition(both, -self._count, 0)[-self._count]
        fields, units = np.nonzero((strongest >= limits) & (strongest > 0))
        if not len(fields):
            return
        rows, values, places = _peaks(
            flat.flatten(0, 1),
            tops.reshape(-1, tops.shape[2]),
            fields * strongest.shape[1] + units,
            limits[units],
            1 if self._once else self._count,
            self._apart,
            tuple(maps.shape[2:]),
        )
        self._sizes.update(dict.fromkeys(names, tuple(maps.shape[2:])))
        fields, units = np.divmod(rows, strongest.shape[1])
        self._merge(names, fields, units, values, places)

    def entries(self) -> list[list[Entry]]:
        """What is kept, of each unit in turn, the strongest first."""
        found: list[list[Entry]] = [[] for _ in self._kept[0]]
        sizes = np.array([self._sizes[name] for name in self.names])
        positions: list[list[int]] = []
        rest = self._places
        for axis in reversed(range(len(self._apart))):
            rest, along = np.divmod(rest, sizes[self._names, axis]) if len(rest) else (rest, rest)
            positions.insert(0, along.tolist())
        for unit, value, at, *position in zip(
            self._units.tolist(),
            self._values.tolist(),
            self._names.tolist(),
            *positions,
            strict=True,
        ):
            found[unit].append((value, self.names[at], tuple(position)))
        return found

    def _merge(
        self,
        names: Sequence[str],
        fields: Integers,
        units: Integers,
        values: NDArray[np.float32],
        places: Integers,
    ) -> None:
        known, numbers = np.unique(np.array([*self.names, *names], object), return_inverse=True)
        units = np.concatenate([self._units, units])
        values = np.concatenate([self._values, values])
        fields = np.concatenate([numbers[self._names], numbers[len(self.names) :][fields]])
        places = np.concatenate([self._places, places])
        order = np.lexsort((places, fields, -values, units))
        if self._once:
            titles = np.unique([title(name) for name in known], return_inverse=True)[1]
            pairs = units[order] * len(known) + titles[fields[order]]
            order = order[np.sort(np.unique(pairs, return_index=True)[1])]
        starts = np.searchsorted(units[order], np.arange(self._kept.shape[1]))
        ranks = np.arange(len(order)) - starts[units[order]]
        order, ranks = order[ranks < self._count], ranks[ranks < self._count]
        used, self._names = np.unique(fields[order], return_inverse=True)
        self.names = known[used].tolist()
        self._sizes = {name: self._sizes[name] for name in self.names}
        self._units, self._values, self._places = units[order], values[order], places[order]
        self._kept[:] = 0
        self._kept[ranks, self._units] = self._values


def _block_maxima(flat: Tensor) -> Tensor:
    """The largest of each `_BLOCK` values of a map ``(B, C, N)``; the last block may be shorter."""
    whole = flat.shape[2] // _BLOCK * _BLOCK
    parts = [flat[..., whole:].amax(2, keepdim=True)] if whole < flat.shape[2] else []
    if whole:
        parts.insert(0, flat[..., :whole].reshape(*flat.shape[:2], -1, _BLOCK).amax(3))
    return torch.cat(parts, 2) if len(parts) > 1 else parts[0]


def _peaks(
    flat: Tensor,
    tops: NDArray[np.float32],
    rows: Integers,
    limits: NDArray[np.float32],
    count: int,
    apart: Sequence[int],
    size: tuple[int, ...],
) -> tuple[Integers, NDArray[np.float32], Integers]:
    """The ``count`` strongest of some rows ``(R, N)`` that are no neighbours: rows, values, places.

    Greedy: the strongest, then the strongest outside of its neighbourhood, and so on.

    Args:
        flat: all rows.
        tops: their block maxima.
        rows: which of them.
        limits: for each of these what a value must reach.
        count: at most so many for each.
        apart: see `Leaders`.
        size: of the maps.
    """
    found: list[tuple[Integers, NDArray[np.float32], Integers]] = []
    blocks = 2 * count  # mostly enough; neighbours may use them up
    while len(rows):
        strong, owners, places, complete = _strongest(flat, tops[rows], rows, limits, blocks)
        kept = _no_neighbours(owners, np.unravel_index(places, size), count, apart)
        enough = complete | (np.bincount(owners[kept], minlength=len(rows)) >= count)
        kept = kept[enough[owners[kept]]]
        found.append((rows[owners[kept]], strong[kept], places[kept]))
        rows, limits = rows[~enough], limits[~enough]
        blocks *= 4
    of, values, places = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return of, values, places


def _strongest(
    flat: Tensor,
    tops: NDArray[np.float32],
    rows: Integers,
    limits: NDArray[np.float32],
    blocks: int,
) -> tuple[NDArray[np.float32], Integers, Integers, NDArray[np.bool_]]:
    """Of each of some rows all that reaches its limit and its ``blocks``-th best block.

    Only blocks whose maximum does are looked into.

    Returns:
        Values, which of the rows they are of, and their places, ``(M,)`` each: row after row, in a
        row the strongest first, equal ones in the order of memory; and for each row whether these
        are all that reach the limit.
    """
    lowest = np.maximum(limits, np.finfo(limits.dtype).smallest_subnormal)
    complete = np.ones(len(rows), bool)
    if blocks < tops.shape[1]:
        bound = np.partition(tops, -blocks, 1)[:, -blocks]
        complete = bound <= lowest
        lowest = np.maximum(lowest, bound)
    # Ties with the lowest are in as well, so that their order is ours.
    owners, chosen = np.nonzero(tops >= lowest[:, None])
    length = flat.shape[1]
    places = chosen[:, None] * _BLOCK + np.arange(min(_BLOCK, length))
    index = torch.from_numpy(rows[owners, None] * length + np.minimum(places, length - 1))
    values = flat.flatten()[index.to(flat.device)].cpu().numpy()
    inside = (values >= lowest[owners, None]) & (places < length)
    owners, places, reached = owners[np.nonzero(inside)[0]], places[inside], values[inside]
    order = np.lexsort((places, -reached, owners))
    return reached[order], owners[order], places[order], complete


def _no_neighbours(
    rows: Integers, positions: Sequence[Integers], count: int, apart: Sequence[int]
) -> Integers:
    """Which entries ``(M,)``, row after row and the best of each first, are kept.

    All rows at once: their best, then their best of what is left, and so on.
    """
    left = np.arange(len(rows))
    found = []
    for _ in range(count):
        if not len(left):
            break
        begins = np.diff(rows[left], prepend=-1) != 0
        first = left[begins]
        found.append(first)
        near = np.ones(len(left), bool)
        of = np.cumsum(begins) - 1
        for axis, gap in zip(positions, apart, strict=True):
            near &= np.abs(axis[left] - axis[first][of]) < gap
        left = left[~(near | begins)]
    return np.sort(np.concatenate(found)) if found else left
