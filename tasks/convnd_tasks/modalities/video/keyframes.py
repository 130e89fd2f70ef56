"""Keyframes: frames of the result that a user has painted, or stylised elsewhere.

A keyframe is the result of its frame. The frames between two keyframes follow both: they start from
the frame before and from the next keyframe, both moved along the optical flow, and their style is
that of the two keyframes, weighted by the distance in time. This is the task of Jamriška et al.
(2019, "Stylizing video by example"), solved by optimisation instead of patches.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from convnd.errors import InputFileError, UsageError
from convnd.transfer.regions import StyleRegion
from convnd_tasks.modalities.video.flow import warp
from convnd_tasks.modalities.video.frame_cache import quantize
from convnd_tasks.modalities.video.input import FrameContext, KeyframeGuide, resize_frame

if TYPE_CHECKING:
    from torch import Tensor

    from convnd_tasks.modalities.inputs import TransferInputs
    from convnd_tasks.modalities.video.input import VideoSource
    from convnd_tasks.modalities.video.options import VideoOptions
    from convnd_tasks.runtime.settings import JobSettings

__all__ = ["Keyframes", "check_keyframe_options", "make_keyframes"]

_SAME = 0.5
"""Share of a position, here and in the keyframe, that has to take the keyframe's result."""


class Keyframes:
    """The keyframes of one video.

    Args:
        frames: result of each keyframe ``(1, 3, H, W)``, by the number of its frame.
        styles: index of the style that each keyframe is, by the number of its frame.
        messages: lines for users.

    Attributes:
        styles: as above.

    >>> frame = torch.zeros(1, 3, 16, 16)
    >>> keyframes = Keyframes({0: frame, 10: frame}, {0: 0, 10: 1})
    >>> keyframes.weights(4), keyframes.weights(12)
    ({0: 0.6, 10: 0.4}, {10: 1.0})
    """

    def __init__(
        self,
        frames: Mapping[int, Tensor],
        styles: Mapping[int, int],
        messages: Sequence[str] = (),
    ) -> None:
        self.frames = frames
        self.messages = messages
        self.styles = styles
        self._shares: dict[int, Tensor] = {}
        self._numbers = sorted(frames)

    def weights(self, number: int) -> dict[int, float]:
        """Return the weight of each keyframe for a frame, by the distance in time.

        Args:
            number: number of the frame, from 0.

        Returns:
            Weights that add up to 1, by the number of the keyframe.
        """
        place = bisect.bisect_right(self._numbers, number)
        if place == 0:
            return {self._numbers[0]: 1.0}
        before = self._numbers[place - 1]
        if place == len(self._numbers) or before == number:
            return {before: 1.0}
        after = self._numbers[place]
        share = (number - before) / (after - before)
        return {before: 1 - share, after: share}

    def region(self, number: int) -> StyleRegion:
        """Return a keyframe as a style, of which the part counts that is its frame's result.

        Args:
            number: number of its frame; `guided` has yielded this frame.
        """
        share = self._shares.get(number)
        return StyleRegion(None, (self.styles[number],), (share,), f"keyframe {number}")

    def guided(self, contexts: Iterable[FrameContext]) -> Iterator[FrameContext]:
        """Add the guides to the frames before a keyframe, which are read up to that one.

        Args:
            contexts: the frames, with the flow from the frame before.

        Raises:
            InputFileError: a keyframe lies behind the last frame.
        """
        segment: list[FrameContext] = []
        count = 0
        for context in contexts:
            count = context.number + 1
            if context.number > self._numbers[-1]:
                yield context
                continue
            # The flow from the nearest frame is enough to find the place in the next keyframe.
            segment.append(context)
            if context.number in self.frames:
                yield from self._guide(segment)
                segment = []
        if count <= self._numbers[-1]:
            raise keyframe_range_error(self._numbers[-1], count)

    def _guide(self, segment: Sequence[FrameContext]) -> list[FrameContext]:
        """Move the keyframe at the end of a segment to the frames before it in its scene."""
        *earlier, last = segment
        keyframe = self.frames[last.number]
        share = None if last.regions is None else last.regions.keyframe_share
        if share is not None and bool((share > 0).any()):
            self._shares[last.number] = share
        displacement = torch.zeros(2, *keyframe.shape[2:])
        valid = torch.ones_like(keyframe[:, :1])
        guided = [last]
        following = last
        for context in reversed(earlier):
            if following.cut:
                guided.append(context)
                continue
            pair = following.flows[1]
            displacement = pair.forward + warp(displacement[None], pair.forward)[0]
            # Boundaries count as valid: over many frames their masks would cover whole areas.
            valid = pair.visible_forward * (warp(valid, pair.forward) > 0.5)
            known = valid
            if share is not None and context.regions is not None:
                in_both = torch.minimum(context.regions.keyframe_share, warp(share, displacement))
                known = valid * (in_both > _SAME)
            guide = KeyframeGuide(
                warp(keyframe, displacement), known, 1 / (last.number - context.number + 1)
            )
            guided.append(dataclasses.replace(context, guide=guide))
            following = context
        return guided[::-1]


def make_keyframes(
    inputs: TransferInputs, styles: Sequence[Tensor], source: VideoSource
) -> Keyframes | None:
    """Make the keyframes of a video; None if there are none.

    Args:
        inputs: the inputs.
        styles: values of the styles ``(1, 3, H_i, W_i)``.
        source: the frames of the video.

    Raises:
        InputFileError: a keyframe lies behind the last frame.
    """
    if not inputs.keyframes:
        return None
    count = source.count()
    last = max(inputs.keyframes)
    if count is not None and last >= count:
        raise keyframe_range_error(last, count)
    frames, messages = {}, []
    for number, index in inputs.keyframes.items():
        values = styles[index]
        size = tuple(values.shape[2:])
        if size not in (source.size, source.video.info.size):
            before, now = ("x".join(map(str, reversed(one))) for one in (size, source.size))
            name = inputs.style_name(index)
            messages.append(f"keyframe {number} ({name}): resized from {before} to {now}")
        frames[number] = quantize(resize_frame(values, source.size))
    return Keyframes(frames, inputs.keyframes, messages)


def check_keyframe_options(
    options: VideoOptions, settings: JobSettings, *, is_trained: bool = False
) -> None:
    """Check that the options of a job with keyframes apply to them.

    Args:
        options: options of the job.
        settings: settings of the job.
        is_trained: whether a trained network makes the result.

    Raises:
        UsageError: one of them does not.
    """
    for name, applies, value in (
        ("--instant", not options.is_instant, "one pass for each frame"),
        ("--mode", options.mode == "flow", options.mode),
        ("--texture", not settings.texture, "no content"),
        ("--preview", not settings.preview, "the first frame alone"),
        ("--style-regions", not settings.style_regions, "maps of styles"),
        ("--colors", options.colors == "style", options.colors),
        ("--style-weights", not options.style_weights, "weights of the styles"),
        ("trained network", not is_trained, "a network for one style"),
    ):
        if not applies:
            raise UsageError(
                name,
                expected="frames that follow the optical flow between keyframes, in their colours",
                got=value,
                remedy="leave it or --keyframe out",
            )


def keyframe_range_error(number: int, count: int) -> InputFileError:
    """Make the error of a keyframe behind the last frame."""
    return InputFileError(
        f"--keyframe {number}",
        expected=f"the number of one of {count} frames, from 0 to {count - 1}",
        got=number,
        remedy="give a smaller one; frames are counted after --from and --every",
    )
