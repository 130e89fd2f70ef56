"""What a statistic is: something that forgets where, and adds up over tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from torch import Tensor

from convnd.errors import ShapeError, UsageError

__all__ = [
    "OverlapStatistic",
    "Statistic",
    "Sums",
    "blend",
    "is_additive",
    "overlap_of",
    "peak_bytes_of",
    "tile_sums",
]


@dataclass(frozen=True)
class Sums:
    r"""A statistic summed over positions, and over how many.

    The sums of a grid are those of its tiles added up; on this the whole engine rests.

    Args:
        total: any shape without spatial axes.
        count: number of positions.

    >>> import torch
    >>> (Sums(torch.tensor(2.0), 3) + Sums(torch.tensor(1.0), 1)).count
    4
    """

    total: Tensor
    count: int

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.total + other.total, self.count + other.count)

    def detach(self) -> Sums:
        """The same numbers without the graph that leads to them."""
        return Sums(self.total.detach(), self.count)


class Statistic(Protocol):
    """Features to sums, and sums to what losses compare.

    Attributes:
        additive: whether the sums of a grid are those of its tiles added up; what does not say so
            is evaluated whole only, unless it is an `OverlapStatistic`.

    A method ``peak_bytes(extent)`` tells of one whose work needs memory, see `peak_bytes_of`.
    """

    additive: bool

    def sums(self, features: Tensor) -> Sums:
        """``(B, C, *S)`` to additive sums ``(B, …)``."""
        ...

    def summary(self, sums: Sums) -> Tensor:
        """The statistic per position ``(B, …)``, which does not depend on the size."""
        ...


class OverlapStatistic(Statistic, Protocol):
    """A statistic that adds up over tiles which look a little beyond their own positions.

    Attributes:
        overlap: how many positions behind its own a tile has to see along each axis.
    """

    overlap: int

    def sums(
        self,
        features: Tensor,
        tile_shape: Sequence[int] | None = None,
        tile_offset: Sequence[int] | None = None,
    ) -> Sums:
        """Sums over a tile.

        Args:
            features: ``(B, C, *S)``.
            tile_shape: extent of the tile along each axis; positions behind it belong to the next
                tile. None: all of ``features``.
            tile_offset: first position of the tile in the whole field; None: 0 along each axis.
        """
        ...


def is_additive(statistic: Statistic) -> bool:
    """Whether a statistic may be summed tile by tile, with the `overlap` that it asks for.

    >>> from convnd.stats import STATISTICS
    >>> is_additive(STATISTICS["gram"]), is_additive(STATISTICS["spectrum"])
    (True, True)
    """
    return getattr(statistic, "additive", False) or overlap_of(statistic) > 0


def overlap_of(statistic: Statistic) -> int:
    """Positions behind its own that a tile has to see; 0 for most.

    >>> from convnd.stats import STATISTICS
    >>> overlap_of(STATISTICS["gram"]), overlap_of(STATISTICS["spectrum"])
    (0, 384)
    """
    return getattr(statistic, "overlap", 0)


def tile_sums(
    statistic: Statistic, features: Tensor, tile_shape: Sequence[int], tile_offset: Sequence[int]
) -> Sums:
    """The part of a field's sums that a tile adds.

    Args:
        statistic: one that `is_additive`.
        features: ``(B, C, *S)``, with `overlap_of` more behind the tile's own along each axis
            where the field has them.
        tile_shape: extent of the tile's own positions.
        tile_offset: where they begin in the field.
    """
    if overlap_of(statistic):
        return cast("OverlapStatistic", statistic).sums(features, tile_shape, tile_offset)
    return statistic.sums(features)


def peak_bytes_of(statistic: Statistic, extent: Sequence[int]) -> int:
    """Bytes that the sums of one channel and the way back to it need at their peak, about.

    Args:
        statistic: what is summed.
        extent: positions along each axis.

    Returns:
        0 where the statistic does not tell: it needs little beside the features.

    >>> from convnd.stats import STATISTICS
    >>> peak_bytes_of(STATISTICS["gram"], (64, 64))
    0
    """
    tells = getattr(statistic, "peak_bytes", None)
    return 0 if tells is None else int(tells(extent))


def blend(parts: Sequence[Sums], weights: Sequence[float]) -> Sums:
    """The sums of several fields, each counting by its weight and not by its size.

    Sums per position are averaged before anything is made of them, since raw moments average
    correctly where variances do not.

    Args:
        parts: sums of one statistic over each field.
        weights: one each, not negative; only their ratios matter.

    Returns:
        Sums for one position.

    Raises:
        ShapeError: not one weight each.
        UsageError: negative weights, or none above zero.

    >>> import torch
    >>> blend([Sums(torch.tensor(4.0), 2), Sums(torch.tensor(0.0), 9)], [1, 3])
    Sums(total=tensor(0.5000), count=1)
    """
    if len(parts) != len(weights) or not parts:
        raise ShapeError(
            "blend",
            expected=f"one weight for each of {len(parts)} styles",
            got=len(weights),
            remedy="give as many weights as styles",
        )
    if min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise UsageError(
            "blend",
            expected="weights of at least 0 with a positive sum",
            got=list(weights),
            remedy="correct them",
        )
    total = parts[0].total / parts[0].count * (weights[0] / sum(weights))
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total = total + part.total / part.count * (weight / sum(weights))
    return Sums(total, 1)
