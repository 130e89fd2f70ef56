"""The regions of one frame of a video."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

from convnd.transfer.regions import StyleRegion
from convnd_tasks.modalities.images.codec import color_moments, match_colors
from convnd_tasks.modalities.video.flow import warp

if TYPE_CHECKING:
    from torch import Tensor

    from convnd_tasks.modalities.video.flow import FlowPair

__all__ = ["FrameRegions", "RegionStream", "RegionStyles", "recolor", "references_in_region"]

_SAME = 0.4
"""Share of a position's regions that its reference has to lie in, too."""


class RegionStyles(NamedTuple):
    """The styles of a region.

    Args:
        name: name for messages.
        styles: indices of the styles.
        style_shares: the part of each style that is read, ``(1, 1, *S_i)``; None is all of it.
        follows_keyframes: whether the styles are keyframes, which are the result in this region.
    """

    name: str
    styles: tuple[int, ...]
    style_shares: tuple[Tensor | None, ...]
    follows_keyframes: bool = False


class RegionStream(Protocol):
    """Computes the regions of one frame after the other."""

    @property
    def tracked(self) -> bool:
        """Whether `add` needs the flow."""

    def add(self, number: int, flow: FlowPair | None, frame: Tensor) -> FrameRegions:
        """Compute the regions of a frame."""


@dataclass(frozen=True, eq=False)
class FrameRegions:
    """The regions of a frame that have styles.

    Args:
        parts: the styles of each region.
        shares: share of each position that belongs to each region, ``(1, K, *S)``.
        mask: share of the result that is used at each position, ``(1, 1, *S)``; 0 outside of the
            regions.
    """

    parts: Sequence[RegionStyles]
    shares: Tensor
    mask: Tensor

    @cached_property
    def present(self) -> Sequence[int]:
        """Indices of the regions that this frame shows."""
        seen = ((self.shares > 0) & (self.mask > 0)).flatten(2).any(2)[0].tolist()
        return [index for index, is_present in enumerate(seen) if is_present]

    @property
    def applied_mask(self) -> Tensor | None:
        """The mask, or None if it is 1 everywhere."""
        return None if bool((self.mask == 1).all()) else self.mask

    def share(self, index: int) -> Tensor:
        """Return the share of one region, ``(1, 1, *S)``."""
        return self.shares[:, index : index + 1]

    def style_regions(self) -> list[StyleRegion]:
        """Return the regions that this frame shows, for a `TransferProblem`."""
        return [
            StyleRegion(self.share(index), part.styles, part.style_shares, part.name)
            for index, part in enumerate(self.parts)
            if index in self.present
        ]

    @property
    def keyframe_share(self) -> Tensor:
        """Share of each position whose result is that of keyframes, ``(1, 1, *S)``."""
        followers = torch.tensor([part.follows_keyframes for part in self.parts])
        return self.shares[:, followers].sum(1, keepdim=True).clamp(0, 1)

    def without_keyframes(self) -> FrameRegions:
        """Return the regions whose result is not that of keyframes."""
        others = torch.tensor([not part.follows_keyframes for part in self.parts])
        shares = self.shares * others.to(self.shares)[:, None, None]
        return dataclasses.replace(self, shares=shares, mask=self.mask * (1 - self.keyframe_share))

    def with_keyframe(self, keyframe: StyleRegion) -> FrameRegions:
        """Return the same regions, in which those of keyframes have one of them as their style.

        Args:
            keyframe: the keyframe.
        """
        parts = [
            part._replace(styles=keyframe.styles, style_shares=keyframe.style_shares)
            if part.follows_keyframes
            else part
            for part in self.parts
        ]
        return dataclasses.replace(self, parts=parts)

    @staticmethod
    def stack(frames: Sequence[FrameRegions]) -> FrameRegions:
        """Join the regions of frames along a new axis of time, ``(1, K, T, H, W)``."""
        return FrameRegions(
            frames[0].parts,
            torch.stack([one.shares for one in frames], 2),
            torch.stack([one.mask for one in frames], 2),
        )

    def with_time(self, lengths: Sequence[int]) -> FrameRegions:
        """Return the same regions with parts of styles that have an axis of time.

        Args:
            lengths: number of frames of each style.
        """

        def extend(share: Tensor | None, style: int) -> Tensor | None:
            return None if share is None else share[:, :, None].repeat(1, 1, lengths[style], 1, 1)

        parts = [
            part._replace(style_shares=tuple(map(extend, part.style_shares, part.styles)))
            for part in self.parts
        ]
        return dataclasses.replace(self, parts=parts)


def references_in_region(
    regions: FrameRegions | None, reference: FrameRegions | None, flow: Tensor
) -> Tensor | float:
    """Return which positions have their reference in the same region of another frame.

    Args:
        regions: the regions of a frame; None is a frame without regions.
        reference: the regions of the other frame.
        flow: flow from the frame to the other one, ``(2, H, W)``.

    Returns:
        ``(1, 1, H, W)`` in ``{0, 1}``; 1.0 without regions.
    """
    if regions is None or reference is None:
        return 1.0
    shares = regions.shares
    common = torch.minimum(shares, warp(reference.shares, flow)).sum(1, keepdim=True)
    total = shares.sum(1, keepdim=True)
    return ((total > 0) & (common >= _SAME * total)).to(shares.dtype)


def recolor(
    content: Tensor,
    values: Tensor,
    regions: FrameRegions | None = None,
    reference: FrameRegions | None = None,
) -> Tensor:
    """Give a frame of the input the colours of a result, region by region.

    Args:
        content: frame of the input ``(1, 3, H, W)``.
        values: result of an earlier frame ``(1, 3, H, W)``.
        regions: the regions of the frame; None is all of it. Outside of them nothing changes.
        reference: the regions of the earlier frame.
    """
    if regions is None or reference is None:
        return match_colors(content, color_moments(values))
    colored, total = torch.zeros_like(content), torch.zeros_like(content[:, :1])
    for index in regions.present:
        share = regions.share(index)
        matched = content
        if index in reference.present:
            moments = color_moments(values, reference.share(index))
            matched = match_colors(content, moments, color_moments(content, share))
        colored, total = colored + share * matched, total + share
    return torch.where(total > 0, colored / total.clamp_min(1e-6), content)
