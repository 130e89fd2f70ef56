"""Stylises frames of a video in one pass of a network.

The strokes that a network draws on a moving object differ from frame to frame, and their mean would
be blurred. So a frame that continues a scene keeps the strokes of the frame before: its fine detail
is warped along the optical flow of the input, and the coarse part follows the network's output.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from convnd.transfer.problem import TransferProblem
from convnd_tasks.modalities.video.flow import warp_bicubic
from convnd_tasks.modalities.video.frame_cache import quantize
from convnd_tasks.modalities.video.frame_regions import references_in_region
from convnd_tasks.modalities.video.progress import StepCallback, TransferOutcome, run_transfer

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.transfer.one_pass import OnePassTransfer
    from convnd.transfer.progress import Progress
    from convnd_tasks.modalities.video.input import EarlierFrame, FrameContext, VideoSource
    from convnd_tasks.modalities.video.video_regions import VideoRegions

__all__ = ["FrameNetwork"]

_SAMPLE_FRAMES = 16
"""Number of frames whose statistics stand for the whole video."""

_RADIUS = 6
"""Radius in pixels of the box that is applied twice to separate coarse parts from detail."""

_SHARE = 0.5
"""Share of the change of the coarse part that a frame takes over."""

_SAME, _DIFFERENT = 0.05, 0.15
"""Mean differences of the coarse parts, between which less and less of the warped frame is kept."""

_GAINS = 0.9, 1.1
"""Range of the gain of the warped detail, which keeps its energy at that of the network's output.
Resampling would blur or sharpen it from frame to frame."""

_DARKEST = 1e-6
"""Energy of detail below which it is not amplified."""


class FrameNetwork:
    """Stylises frames by one pass of a network each.

    Args:
        transfer: the network.
        styles: pictures ``(1, 3, H_i, W_i)``, which a network for one style does not read.
        on_message: callback that gets lines for users.
        regions: regions of the frames; None is all of each frame.

    Attributes:
        references: see `FrameTransfer`.
    """

    references = (1,)

    def __init__(
        self,
        transfer: OnePassTransfer,
        styles: Sequence[Tensor],
        on_message: Callable[[str], None] | None = None,
        regions: VideoRegions | None = None,
    ) -> None:
        self._transfers = [transfer]
        self._regions = regions
        self._styles = styles
        self._on_message = on_message

    def prepare(self, source: VideoSource) -> None:
        """Read styles and sample frames for the network for any style; nothing for others."""
        (transfer,) = self._transfers
        if not transfer.reads_styles:
            return
        frames = source.sample(_SAMPLE_FRAMES)
        if self._regions is None:
            self._transfers = [transfer.for_frames(self._styles, frames)] if frames else [transfer]
            return
        divided = self._regions.sample(_SAMPLE_FRAMES)
        if self._regions.tracked:  # the map is that of the first frame
            frames = frames[:1]
        elif len(divided) == 1:
            divided = divided * len(frames)
        self._transfers = []
        for index, part in enumerate(self._regions.parts):
            pairs = [
                (frame, regions.share(index))
                for frame, regions in zip(frames, divided, strict=False)
                if index in regions.present
            ]
            styles = [self._styles[number] for number in part.styles]
            self._transfers.append(
                transfer.with_styles(part.styles).for_frames(
                    styles, [frame for frame, _ in pairs] or frames, [share for _, share in pairs]
                )
            )

    def begin(
        self, context: FrameContext, to_progress: StepCallback
    ) -> Generator[Progress, None, TransferOutcome]:
        """Stylise a frame, see `FrameTransfer.begin`."""
        content, regions = context.content, context.regions
        first = self._transfers[0]
        if regions is None or len(self._transfers) < 2:
            problem = TransferProblem(content, self._styles)
            steps = first.run(problem, on_message=self._on_message)
        else:
            parts = [
                (
                    self._transfers[index],
                    TransferProblem(content, self._styles, mask=regions.share(index)),
                )
                for index in regions.present
            ]
            steps = first.run_parts(parts, content, on_message=self._on_message)
        return (yield from run_transfer(steps, to_progress))

    def follow(
        self,
        context: FrameContext,
        earlier: Sequence[EarlierFrame],
        to_progress: StepCallback,
    ) -> Generator[Progress, None, TransferOutcome]:
        """Stylise a frame, and keep the detail of the one before, see `FrameTransfer.follow`."""
        outcome = yield from self.begin(context, to_progress)
        if not self._transfers[0].draws_strokes:
            return outcome
        flow, last = context.flows[1], earlier[-1]
        warped = warp_bicubic(last.values, flow.backward)
        mask = flow.visible_backward * references_in_region(
            context.regions, last.regions, flow.backward
        )
        kept_values = keep_detail(outcome.values, warped, mask)
        return dataclasses.replace(outcome, values=quantize(kept_values))


def keep_detail(output: Tensor, warped: Tensor, mask: Tensor) -> Tensor:
    """Mix the output for a frame with the detail of the warped frame before.

    Args:
        output: output of the network ``(1, 3, H, W)``.
        warped: the frame before, warped to this one.
        mask: 1 where it is valid, otherwise 0, ``(1, 1, H, W)``.

    Returns:
        ``(1, 3, H, W)``; the output where the mask is 0, or where the coarse parts differ.
    """
    coarse_output, coarse_warped = _blur(output), _blur(warped)
    detail = warped - coarse_warped
    energies = torch.cat([output - coarse_output, detail]).square().mean(1, keepdim=True)
    energy, warped_energy = _blur(energies).chunk(2)
    gain = (energy / warped_energy.clamp_min(_DARKEST)).sqrt().clamp(*_GAINS)
    change = coarse_output - coarse_warped
    difference = change.abs().mean(1, keepdim=True)
    share = mask * ((_DIFFERENT - difference) / (_DIFFERENT - _SAME)).clamp(0, 1)
    share = torch.minimum(share, F.avg_pool2d(share, 3, 1, 1))  # without a hard edge
    return torch.lerp(output, coarse_warped + _SHARE * change + gain * detail, share)


def _blur(x: Tensor) -> Tensor:
    """Blur values ``(B, C, H, W)``; the outermost pixels are repeated."""
    import cv2

    planes = x.flatten(0, 1).permute(1, 2, 0).contiguous().numpy()
    for _ in range(2):
        planes = cv2.blur(planes, (2 * _RADIUS + 1,) * 2, borderType=cv2.BORDER_REPLICATE)
    return torch.from_numpy(planes).reshape(*x.shape[2:], -1).permute(2, 0, 1).view(x.shape)
