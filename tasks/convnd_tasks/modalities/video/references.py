"""What earlier frames and keyframes say of a frame: their results, moved along the flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from convnd_tasks.modalities.video.flow import FlowPair, warp
from convnd_tasks.modalities.video.frame_regions import FrameRegions, references_in_region
from convnd_tasks.modalities.video.input import EarlierFrame, KeyframeGuide

__all__ = ["add_guide", "warped_references"]


def add_guide(target: Tensor, mask: Tensor, guide: KeyframeGuide) -> tuple[Tensor, Tensor]:
    """Mix the warped results of earlier frames with the next keyframe, where both are valid."""
    share = guide.valid * torch.where(mask > 0, guide.share, 1.0)
    return torch.lerp(target, guide.values, share), torch.maximum(mask, guide.valid)


def warped_references(
    flows: Mapping[int, FlowPair],
    earlier: Sequence[EarlierFrame],
    regions: FrameRegions | None = None,
    *,
    keep_boundaries: bool = False,
) -> tuple[Tensor, Tensor]:
    """Warp earlier results to a frame; each pixel comes from the nearest frame with valid flow.

    Args:
        flows: flow from earlier frames, by the number of frames between.
        earlier: earlier frames, the latest one last.
        regions: the regions of the frame, in which references have to lie too; None is all of it.
        keep_boundaries: whether pixels on motion boundaries have references.

    Returns:
        The warped result, and the mask of pixels with a valid flow.
    """
    target = torch.zeros_like(earlier[-1].values)
    mask = torch.zeros_like(target[:, :1])
    for distance, pair in sorted(flows.items()):
        frame = earlier[-distance]
        valid = pair.visible_backward if keep_boundaries else pair.valid_backward
        new_pixels = valid * (1 - mask)
        new_pixels = new_pixels * references_in_region(regions, frame.regions, pair.backward)
        target = torch.where(new_pixels > 0, warp(frame.values, pair.backward), target)
        mask = mask + new_pixels
    return target, mask
