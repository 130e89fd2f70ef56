"""What `ArbitraryStyleNet` reads of styles, and the parts of a content that take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from convnd.feedforward.matching import AffineMap, StylePatches
from convnd.losses import tile_index
from convnd.stats import Sums

__all__ = ["StylePart", "StyleTargets", "blend_parts", "with_shares_of_1"]


@dataclass(frozen=True)
class StyleTargets:
    """Statistics and patches of styles, which are all that the network reads of them.

    Args:
        sums: sums of the values and of each level by name, see `convnd.stats.CovarianceStatistic`.
        patches: features of the styles in blocks.
    """

    sums: Mapping[str, Sums]
    patches: StylePatches


@dataclass(frozen=True)
class StylePart:
    """A part of a content, and what it takes from styles.

    Args:
        targets: statistics and patches of the styles.
        share: share of each position that belongs to the part, ``(1, 1, H, W)``; None is 1.
        maps: result of `ArbitraryStyleNet.match`; None matches this part of this content.
    """

    targets: StyleTargets
    share: Tensor | None = None
    maps: Mapping[str, AffineMap] | None = None

    def cut(self, window: Sequence[slice]) -> StylePart:
        """Return the part of a crop.

        Args:
            window: the crop's pixels along each axis.
        """
        return self if self.share is None else replace(self, share=self.share[tile_index(window)])


def with_shares_of_1(parts: Sequence[StylePart], like: Tensor) -> list[StylePart]:
    """Scale the shares so that they add up to 1 at each position.

    Where no part is, the first one counts. A single part is everywhere.

    Args:
        parts: the parts.
        like: tensor of the size ``(1, C, H, W)``, with the shares' device and number format.

    >>> share = torch.tensor([[[[1.0, 1.0, 0.0]]]])
    >>> targets = StyleTargets({}, StylePatches("deep", {}))
    >>> parts = [StylePart(targets, share), StylePart(targets, 1 - share.cumsum(3) / 2)]
    >>> [part.share.flatten().tolist() for part in with_shares_of_1(parts, share)]
    [[0.6666666865348816, 1.0, 1.0], [0.3333333432674408, 0.0, 0.0]]
    """
    if len(parts) == 1:
        return [replace(parts[0], share=None)]
    ones = torch.ones_like(like[:, :1])
    shares = [ones if part.share is None else part.share.to(like) for part in parts]
    total = torch.stack(shares).sum(0)
    shares[0] = torch.where(total > 0, shares[0], ones)
    total = torch.where(total > 0, total, ones)
    return [replace(part, share=share / total) for part, share in zip(parts, shares, strict=True)]


def blend_parts(values: Sequence[Tensor], shares: Sequence[Tensor | None]) -> Tensor:
    """Average features by the shares of their parts, which add up to 1.

    Args:
        values: features ``(1, C, *S)`` of each part.
        shares: ``(1, 1, *S')`` each, at least as large as the features; None for a single part.
    """
    if len(values) == 1:
        return values[0]
    total = torch.zeros_like(values[0])
    window = tile_index([slice(extent) for extent in total.shape[2:]])
    for part, share in zip(values, shares, strict=True):
        assert share is not None
        total = total + share[window] * part
    return total
