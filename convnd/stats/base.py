"""The interface of a statistic: sums over positions, which add up over tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from convnd.errors import ShapeError, UsageError
from convnd.nn._native import traced_as_leaf
from convnd.nn.transforms import full_precision

__all__ = [
    "OverlapStatistic",
    "Statistic",
    "StatisticModule",
    "Sums",
    "accumulable",
    "blend",
    "count_positions",
    "is_additive",
    "overlap_of",
    "peak_bytes_of",
    "tile_sums",
]


def accumulable(values: Tensor) -> Tensor:
    """Convert values to a number format that holds sums of many of them.

    That is float32; float64 stays. Float16 ends at 65,504, and bfloat16 has 8 significant bits.

    Args:
        values: any shape.

    >>> accumulable(torch.ones(2, dtype=torch.float16)).dtype
    torch.float32
    """
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def count_positions(features: Tensor, weight: Tensor | None = None) -> float:
    """Count the positions of features, or add up their weights.

    Args:
        features: ``(B, C, *S)``.
        weight: weight of each position ``(B, 1, *S)`` or ``(1, 1, *S)``; None is 1.

    Returns:
        For weights of several items, the mean of their sums.

    >>> count_positions(torch.zeros(1, 3, 4, 5))
    20
    >>> count_positions(torch.zeros(1, 3, 2), torch.tensor([[[0.5, 0.0]]]))
    0.5
    """
    if weight is None:
        return math.prod(features.shape[2:])
    return float(weight.sum(dtype=torch.float64)) / len(weight)


@dataclass(frozen=True)
class Sums:
    r"""A statistic summed over positions, and the number of positions.

    The sums of a grid are the sum of those of its tiles. The exact evaluation in tiles and on
    several processes relies on this.

    Args:
        total: any shape without spatial axes.
        count: number of positions, or the sum of their weights.

    >>> import torch
    >>> (Sums(torch.tensor(2.0), 3) + Sums(torch.tensor(1.0), 1)).count
    4
    """

    total: Tensor
    count: float

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.total + other.total, self.count + other.count)

    def detach(self) -> Sums:
        """The same values, detached from the graph of automatic differentiation."""
        return Sums(self.total.detach(), self.count)


class Statistic(Protocol):
    r"""Maps features to sums :math:`s`, and sums to the values that losses compare.

    For features of a grid that is cut into tiles, :math:`s(grid) = \sum_{tiles} s(tile)`. A
    statistic that needs much memory also has a method ``peak_bytes(extent)``, see `peak_bytes_of`.

    Attributes:
        additive: whether that equation holds. A statistic without this attribute is computed on
            whole grids only, unless it is an `OverlapStatistic`.
    """

    additive: bool

    def sums(self, features: Tensor, *, weight: Tensor | None = None) -> Sums:
        """Sum the statistic over positions.

        Args:
            features: ``(B, C, *S)``.
            weight: weight of each position ``(B, 1, *S)`` or ``(1, 1, *S)``, at least 0, with the
                same sum for each item; None is 1.

        Returns:
            The total ``(B, …)``, and the number of positions or the sum of their weights.
        """
        ...

    def summary(self, sums: Sums) -> Tensor:
        """Compute the statistic per position ``(B, …)``, which does not depend on the size."""
        ...


class StatisticModule(nn.Module):
    """The base class of the statistics of this package, as modules of torch.

    A call returns the `summary` of the `sums` of features ``(B, C, *S)``. Weights of positions and
    maps of channels are buffers.

    >>> from convnd.stats import STATISTICS
    >>> STATISTICS["gram"](torch.tensor([[[1.0, 3.0]]])).item()  # (1² + 3²) / 2
    5.0
    """

    def sums(self, features: Tensor, *, weight: Tensor | None = None) -> Sums:
        """Sum the statistic over positions, see `Statistic.sums`."""
        raise NotImplementedError

    def summary(self, sums: Sums) -> Tensor:
        """Compute the statistic per position, see `Statistic.summary`."""
        raise NotImplementedError

    @traced_as_leaf
    def forward(self, features: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """Compute the statistic of features per position.

        Args:
            features: ``(B, C, *S)``.
            weight: weight of each position ``(B, 1, *S)`` or ``(1, 1, *S)``; None is 1.
        """
        with full_precision(features):
            return self.summary(self.sums(features, weight=weight))


class OverlapStatistic(Statistic, Protocol):
    """A statistic that adds up over tiles if each tile also sees the first positions of the next.

    Attributes:
        overlap: number of positions after its own that a tile reads along each axis.
    """

    overlap: int

    def sums(
        self,
        features: Tensor,
        tile_shape: Sequence[int] | None = None,
        tile_offset: Sequence[int] | None = None,
        *,
        weight: Tensor | None = None,
    ) -> Sums:
        """Sum the statistic over a tile.

        Args:
            features: ``(B, C, *S)``.
            tile_shape: extent of the tile along each axis; positions after it belong to the next
                tile. None is all of ``features``.
            tile_offset: first position of the tile in the whole field; None is 0 along each axis.
            weight: as for `Statistic.sums`.
        """
        ...


def is_additive(statistic: Statistic) -> bool:
    """Whether a statistic can be computed tile by tile, with the overlap that it needs.

    >>> from convnd.stats import STATISTICS
    >>> is_additive(STATISTICS["gram"]), is_additive(STATISTICS["spectrum"])
    (True, True)
    """
    return getattr(statistic, "additive", False) or overlap_of(statistic) > 0


def overlap_of(statistic: Statistic) -> int:
    """Number of positions after its own that a tile has to see; 0 for most statistics.

    >>> from convnd.stats import STATISTICS
    >>> overlap_of(STATISTICS["gram"]), overlap_of(STATISTICS["spectrum"])
    (0, 384)
    """
    return getattr(statistic, "overlap", 0)


def tile_sums(
    statistic: Statistic, features: Tensor, tile_shape: Sequence[int], tile_offset: Sequence[int]
) -> Sums:
    """Compute the sums of one tile of a field.

    Args:
        statistic: one that `is_additive`.
        features: ``(B, C, *S)``: the tile, followed along each axis by `overlap_of` more positions
            if the field has them.
        tile_shape: extent of the tile along each axis.
        tile_offset: first position of the tile in the field.
    """
    if overlap_of(statistic) or getattr(statistic, "reads_positions", False):
        return cast("OverlapStatistic", statistic).sums(features, tile_shape, tile_offset)
    return statistic.sums(features)


def peak_bytes_of(statistic: Statistic, extent: Sequence[int]) -> int:
    """Estimate the peak memory of a statistic of one channel and its gradient, in bytes.

    Args:
        statistic: the statistic.
        extent: positions along each axis.

    Returns:
        0 if the statistic needs little memory beyond the features.

    >>> from convnd.stats import STATISTICS
    >>> peak_bytes_of(STATISTICS["gram"], (64, 64))
    0
    """
    estimate = getattr(statistic, "peak_bytes", None)
    return 0 if estimate is None else int(estimate(extent))


def blend(parts: Sequence[Sums], weights: Sequence[float]) -> Sums:
    r"""Average the sums per position of several fields.

    .. math:: \bar s = \sum_i w_i \frac{s_i}{N_i} \Big/ \sum_i w_i

    with the sums :math:`s_i` over :math:`N_i` positions. Sums are averaged instead of summaries,
    because the mean of raw moments is the moment of all fields together; the mean of variances is
    not their variance.

    Args:
        parts: sums of one statistic over each field.
        weights: one for each field, at least 0; only their ratios matter.

    Returns:
        Sums for one position.

    Raises:
        ShapeError: the numbers of fields and weights differ.
        UsageError: a weight is negative, or none is above 0.

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
            remedy="give one above 0 for each style that counts",
        )
    total = parts[0].total / parts[0].count * (weights[0] / sum(weights))
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total = total + part.total / part.count * (weight / sum(weights))
    return Sums(total, 1)
