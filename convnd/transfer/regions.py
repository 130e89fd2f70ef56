"""Regions of a result, each of which takes the statistics of its own styles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from convnd.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["StyleRegion", "fit_share"]


def fit_share(share: Tensor, size: Sequence[int]) -> Tensor:
    """Resize shares of positions.

    Args:
        share: values from 0 to 1, ``(B, C, *S)``.
        size: extent of the result along each axis.

    Returns:
        ``(B, C, *size)``; the same shares if they have this size.
    """
    from convnd.nn import resize_nd  # loads torch, which resolving the names of files does not need

    if tuple(share.shape[2:]) == tuple(size):
        return share
    return resize_nd(share, size, mode="linear", antialias=True).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class StyleRegion:
    """A part of the result, and the parts of styles whose statistics it takes.

    Args:
        share: share of each position that belongs to the region, from 0 to 1, ``(1, 1, *S)``, or
            ``(B, 1, *S)`` for each item of a batch; None is 1.
        styles: indices of the styles in `TransferProblem.styles`, at least one.
        style_shares: for each of these styles, the part that is read, ``(1, 1, *S_i)``; None is
            all of it. Empty is None for each.
        name: name for messages.

    Raises:
        UsageError: there is no style, or the region is empty.

    >>> import torch
    >>> left = torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
    >>> StyleRegion(left, (0,)).area
    0.5
    """

    share: Tensor | None
    styles: tuple[int, ...]
    style_shares: tuple[Tensor | None, ...] = ()
    name: str = "region"

    def __post_init__(self) -> None:
        if not self.styles:
            raise UsageError(
                self.name, expected="at least one style", got="none", remedy="give one"
            )
        if self.share is not None and bool((self.share == 1).all()):
            object.__setattr__(self, "share", None)  # sums with weights cost more, and round
        if not self.style_shares:
            object.__setattr__(self, "style_shares", (None,) * len(self.styles))
        for share in (self.share, *self.style_shares):
            if share is not None and not bool((share > 0).any()):
                raise UsageError(
                    self.name,
                    expected="a region with some positions",
                    got="an empty one",
                    remedy="leave it out",
                )

    @property
    def area(self) -> float:
        """Share of the result that the region covers."""
        return 1.0 if self.share is None else float(self.share.mean())

    def resized(self, resize: Callable[[Tensor], Tensor]) -> StyleRegion:
        """Return the region for another size of the result.

        Args:
            resize: resizes the region.
        """
        return self if self.share is None else replace(self, share=resize(self.share).clamp(0, 1))
