"""What a statistic is: something that forgets where, and adds up over tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from convnd.errors import ShapeError, UsageError

__all__ = ["Statistic", "Sums", "blend"]


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

    def detached(self) -> Sums:
        """The same numbers without the graph that leads to them."""
        return Sums(self.total.detach(), self.count)


class Statistic(Protocol):
    """Features to sums, and sums to what losses compare.

    Attributes:
        additive: whether the sums of a grid are those of its tiles added up; what does not say so
            is evaluated whole only, but for statistics of the values themselves that have an
            overlap (`convnd.losses.Loss`).
    """

    additive: bool

    def sums(self, features: Tensor) -> Sums:
        """``(B, C, *S)`` to additive sums ``(B, …)``."""
        ...

    def summary(self, sums: Sums) -> Tensor:
        """The statistic per position ``(B, …)``, which does not depend on the size."""
        ...


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
            f"blend: expected one weight for each of {len(parts)} styles, got {len(weights)}; "
            "give as many weights as styles"
        )
    if min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise UsageError(
            f"blend: expected weights of at least 0 with a positive sum, got {list(weights)}; "
            "correct them"
        )
    total = parts[0].total / parts[0].count * (weights[0] / sum(weights))
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total = total + part.total / part.count * (weight / sum(weights))
    return Sums(total, 1)
