"""The strongest activations of a feature map, and of all maps so far, ties settled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Best", "Entry", "order", "peaks"]

_BLOCK = 32
"""Values whose maximum stands for them, so that a map is read through once and seldom again."""

Entry = tuple[float, str, tuple[int, ...]]
"""Value, name of the input, position."""


def order(entry: Entry) -> tuple[float, str, tuple[int, ...]]:
    """Strongest first, then by name, then by position."""
    return -entry[0], entry[1], entry[2]


class Best:
    """The ``count`` strongest entries offered so far, in bounded memory.

    Order is by value, then by name, then by position: whatever order entries come in, what is
    kept is the same.

    >>> best = Best(2)
    >>> best.offer([(1.0, "b", (0,)), (1.0, "a", (5,)), (0.5, "a", (0,)), (1.0, "a", (3,))])
    >>> best.entries
    [(1.0, 'a', (3,)), (1.0, 'a', (5,))]
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.entries: list[Entry] = []

    @property
    def threshold(self) -> float:
        """What an entry must reach to have a chance; only what is above zero counts."""
        return self.entries[-1][0] if len(self.entries) == self.count else 0.0

    def offer(self, entries: Sequence[Entry]) -> None:
        """Take in what is strong enough."""
        self.entries = sorted([*self.entries, *entries], key=order)[: self.count]


def peaks(
    features: Tensor, count: int, apart: Sequence[int], thresholds: Sequence[float]
) -> list[list[tuple[float, tuple[int, ...]]]]:
    """The strongest positions of each map, no two of them neighbours.

    Greedy: the strongest, then the strongest outside of its neighbourhood, and so on; of equal
    values the first position in the order of memory.

    Args:
        features: ``(R, *S)``, of any number of inputs and channels.
        count: at most so many for each map.
        apart: along each axis the distance from which on two positions are no neighbours; two
            are neighbours when they are nearer along all axes. Zeros switch this off.
        thresholds: for each map what a value must reach; it must be above zero in any case.

    >>> x = torch.tensor([[0.0, 3.0, 4.0, 3.0, 0.0, 2.0]])
    >>> peaks(x, 2, [2], [0.0]), peaks(x, 2, [0], [0.0])
    ([[(4.0, (2,)), (2.0, (5,))]], [[(4.0, (2,)), (3.0, (1,))]])
    """
    size = tuple(features.shape[1:])
    flat = features.reshape(len(features), -1)
    tops = _block_maxima(flat)
    strongest = tops.amax(1)
    limits = torch.tensor(thresholds, dtype=flat.dtype, device=flat.device)
    rows = torch.nonzero((strongest >= limits) & (strongest > 0)).flatten()
    found: list[list[tuple[float, tuple[int, ...]]]] = [[] for _ in thresholds]
    blocks = 4 * count  # mostly enough; neighbours may use them up
    while len(rows):
        values = flat if len(rows) == len(flat) else flat[rows]
        strong, owners, places, complete = _strongest(values, tops[rows], limits[rows], blocks)
        positions = np.unravel_index(places, size)
        kept = _no_neighbours(owners, positions, count, apart)
        enough = complete | (np.bincount(owners[kept], minlength=len(rows)) >= count)
        kept = kept[enough[owners[kept]]]
        where = rows.cpu().numpy()
        for row, value, *position in zip(
            where[owners[kept]].tolist(),
            strong[kept].tolist(),
            *(axis[kept].tolist() for axis in positions),
            strict=True,
        ):
            found[row].append((value, tuple(position)))
        rows = rows[torch.from_numpy(~enough).to(rows.device)]
        blocks *= 16
    return found


def _block_maxima(flat: Tensor) -> Tensor:
    """The largest of each `_BLOCK` values of a row ``(R, N)``; the last block may be shorter."""
    whole = flat.shape[1] // _BLOCK * _BLOCK
    parts = [flat[:, whole:].amax(1, keepdim=True)] if whole < flat.shape[1] else []
    if whole:
        parts.insert(0, flat[:, :whole].reshape(len(flat), -1, _BLOCK).amax(2))
    return torch.cat(parts, 1)


def _strongest(
    values: Tensor, tops: Tensor, limits: Tensor, blocks: int
) -> tuple[NDArray[np.floating], NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
    """Of each row ``(R, N)`` all that reaches its limit and its ``blocks``-th best block.

    Returns:
        Values, their rows and their places, ``(M,)`` each: row after row, in a row the strongest
        first, equal ones in the order of memory; and for each row whether these are all that reach
        the limit.
    """
    array, lowest = values.cpu().numpy(), limits.cpu().numpy()
    lowest = np.maximum(lowest, np.finfo(lowest.dtype).smallest_subnormal)
    complete = np.ones(len(array), bool)
    if blocks < tops.shape[1]:
        bound = np.partition(tops.cpu().numpy(), -blocks, 1)[:, -blocks]
        complete = bound <= lowest
        lowest = np.maximum(lowest, bound)
    # Ties with the lowest are in as well, so that their order is ours.
    rows, places = np.nonzero(array >= lowest[:, None])
    reached = array[rows, places]
    order = np.lexsort((places, -reached, rows))
    return reached[order], rows[order], places[order], complete


def _no_neighbours(
    rows: NDArray[np.intp],
    positions: Sequence[NDArray[np.intp]],
    count: int,
    apart: Sequence[int],
) -> NDArray[np.intp]:
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
