"""The strongest activations of a feature map, and of all maps so far, ties settled."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Best", "peaks"]

Entry = tuple[float, str, tuple[int, ...]]
"""Value, name of the input, position."""


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
        merged = sorted([*self.entries, *entries], key=lambda e: (-e[0], e[1], e[2]))
        self.entries = merged[: self.count]


def peaks(
    features: Tensor, count: int, apart: Sequence[int], thresholds: Sequence[float]
) -> list[list[tuple[float, tuple[int, ...]]]]:
    """The strongest positions of each channel, no two of them neighbours.

    Greedy: the strongest, then the strongest outside of its neighbourhood, and so on; of equal
    values the first position in the order of memory.

    Args:
        features: ``(U, *S)``.
        count: at most so many for each channel.
        apart: along each axis the distance from which on two positions are no neighbours; two
            are neighbours when they are nearer along all axes. Zeros switch this off.
        thresholds: for each channel what a value must reach; it must be above zero in any case.

    >>> x = torch.tensor([[0.0, 3.0, 4.0, 3.0, 0.0, 2.0]])
    >>> peaks(x, 2, [2], [0.0]), peaks(x, 2, [0], [0.0])
    ([[(4.0, (2,)), (2.0, (5,))]], [[(4.0, (2,)), (3.0, (1,))]])
    """
    size = tuple(features.shape[1:])
    flat = features.reshape(len(features), -1)
    found: list[list[tuple[float, tuple[int, ...]]]] = [[] for _ in thresholds]
    limits = torch.tensor(thresholds, dtype=flat.dtype, device=flat.device)
    strongest = flat.amax(1)
    rows = torch.nonzero((strongest >= limits) & (strongest > 0)).flatten().tolist()
    for row in rows:
        found[row] = _greedy(flat[row], count, apart, max(thresholds[row], 0.0), size)
    return found


def _greedy(
    values: Tensor, count: int, apart: Sequence[int], limit: float, size: Sequence[int]
) -> list[tuple[float, tuple[int, ...]]]:
    found: list[tuple[float, tuple[int, ...]]] = []
    looked = 0
    candidates = 64 * count  # mostly enough; neighbours may use them up
    while looked < len(values) and len(found) < count:
        # Everything that equals the last candidate is one too: the order of ties is ours.
        lowest = values.topk(min(candidates, len(values))).values[-1].item()
        keep = torch.nonzero((values >= max(lowest, limit)) & (values > 0)).flatten()
        if len(keep) == looked:
            break
        # Stable, so that equal values stay in the order of memory.
        order = torch.argsort(values[keep], descending=True, stable=True)[looked:]
        looked = len(keep)
        for value, place in zip(values[keep][order].tolist(), keep[order].tolist(), strict=True):
            position = _unravel(place, size)
            near = any(
                all(abs(a - b) < gap for a, b, gap in zip(position, other, apart, strict=True))
                for _, other in found
            )
            if not near:
                found.append((value, position))
                if len(found) == count:
                    break
        candidates *= 16
    return found


def _unravel(place: int, size: Sequence[int]) -> tuple[int, ...]:
    position = []
    rest = math.prod(size)
    for extent in size:
        rest //= extent
        position.append(place // rest)
        place %= rest
    return tuple(position)
