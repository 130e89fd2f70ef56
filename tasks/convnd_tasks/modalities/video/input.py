"""Reads the frames of a video at the size of the result, with the flow between them and cuts."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from convnd.errors import InputFileError
from convnd.nn import resize_nd
from convnd_tasks.modalities.base import MIN_EXTENT
from convnd_tasks.modalities.video.flow import FlowPair, estimate_flow, is_cut, warping_errors
from convnd_tasks.modalities.video.frame_cache import FIRST_PASS, quantize
from convnd_tasks.modalities.video.frame_regions import FrameRegions, RegionStream

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.io import Video, VideoFrame

__all__ = [
    "EarlierFrame",
    "FrameContext",
    "FrameRange",
    "KeyframeGuide",
    "StylizedFrame",
    "VideoSource",
    "fit_even",
    "iter_frames",
    "resize_frame",
    "working_size",
]


@dataclass(frozen=True, kw_only=True)
class FrameRange:
    """A choice of the frames of a video.

    Args:
        start: time of the first frame in s.
        end: time before which the last frame lies, in s; None is the end of the video.
        every: step between frames: 1 is every frame, 2 every second one.
        count: largest number of frames; None is no limit.
    """

    start: Fraction = Fraction(0)
    end: Fraction | None = None
    every: int = 1
    count: int | None = None

    def frames(self, video: Video) -> Iterator[VideoFrame]:
        """Read these frames of a video."""
        return itertools.islice(video.frames(self.start, self.end, self.every), self.count)


@dataclass(frozen=True, kw_only=True)
class VideoSource:
    """The frames of a video that are stylised.

    Args:
        video: the input.
        size: height and width of the result.
        frame_range: the frames that are used.
    """

    video: Video
    size: tuple[int, int]
    frame_range: FrameRange = FrameRange()

    def frames(self) -> Iterator[tuple[VideoFrame, Tensor]]:
        """Yield the frames, each with its values at the size of the result, see `quantize`."""
        for frame in self.frame_range.frames(self.video):
            yield frame, quantize(resize_frame(frame.values, self.size))

    def sample(self, count: int) -> list[Tensor]:
        """Read about ``count`` frames, evenly distributed over the video."""
        frame_range = self.frame_range
        stride = max(1, (self.count() or 1) // count)
        frames: list[Tensor] = []
        skip = 1
        for number, frame in enumerate(
            self.video.frames(frame_range.start, frame_range.end, frame_range.every * stride)
        ):
            if number % skip == 0:
                frames.append(resize_frame(frame.values, self.size))
            if len(frames) == 2 * count:  # of a file that does not hold its number of frames
                frames, skip = frames[::2], 2 * skip
        return frames

    def count(self) -> int | None:
        """Estimate the number of frames; None if the file does not hold it."""
        info, frame_range = self.video.info, self.frame_range
        if info.frames is None:
            return None
        first, last = 0, info.frames
        if info.rate is not None:
            first = min(last, int(frame_range.start * info.rate))
            last = (
                last if frame_range.end is None else min(last, int(frame_range.end * info.rate) + 1)
            )
        count = max(1, -(-(last - first) // frame_range.every))
        return count if frame_range.count is None else min(count, frame_range.count)


@dataclass(frozen=True, kw_only=True)
class FrameContext:
    """A frame of the input, and its relation to earlier frames.

    Args:
        number: number of the frame, from 0.
        pts: time of the frame, in ticks of the video.
        duration: duration of the frame in ticks; 0 if it ends with the next frame.
        name: name of its file, or "".
        content: the frame ``(1, 3, H, W)`` at the size of the result, see `quantize`.
        cut: whether the frame begins a scene.
        flows: flow from earlier frames of the scene, by the number of frames between.
        seconds: time spent on ``"codec"`` and ``"flow"``.
        regions: parts of the frame with styles of their own, or that a mask allows to change; None
            is all of it.
        guide: the next keyframe at this frame; None if there is none.
    """

    number: int
    pts: int
    duration: int
    name: str
    content: Tensor
    cut: bool
    flows: Mapping[int, FlowPair]
    seconds: Mapping[str, float]
    regions: FrameRegions | None = None
    guide: KeyframeGuide | None = None

    def record(
        self, outcome: Mapping[str, Any], values: Tensor, frame_before: tuple[Tensor, Tensor] | None
    ) -> dict[str, Any]:
        """Make the record of the finished frame, see `StylizedFrame`.

        Args:
            outcome: entries about the optimisation.
            values: the finished frame.
            frame_before: content and result of the frame before, for the warping errors; None
                measures none.
        """
        record = {
            "pts": self.pts,
            "duration": self.duration,
            "name": self.name,
            "cut": self.cut,
            **outcome,
            "e_warp": None,
            "input_e_warp": None,
            "codec": self.seconds["codec"],
            "flow": self.seconds["flow"],
        }
        if frame_before is not None:
            after = self.content, values
            record["input_e_warp"], record["e_warp"] = warping_errors(
                frame_before, after, self.flows[1]
            )
        return record


class KeyframeGuide(NamedTuple):
    """The next keyframe, moved along the flow to an earlier frame.

    Args:
        values: the keyframe ``(1, 3, H, W)``.
        valid: 1 where the flow is consistent all the way, ``(1, 1, H, W)``.
        share: weight of the keyframe, against that of the frame before. With the weights of all
            earlier frames the result moves evenly from one keyframe to the next.
    """

    values: Tensor
    valid: Tensor
    share: float


class EarlierFrame(NamedTuple):
    """A finished frame that later ones build on.

    Args:
        content: frame of the input, ``(1, 3, H, W)``.
        values: frame of the result, ``(1, 3, H, W)``.
        regions: regions of the frame; None is all of it.
    """

    content: Tensor
    values: Tensor
    regions: FrameRegions | None = None


@dataclass(frozen=True, kw_only=True)
class StylizedFrame:
    """A finished frame.

    Args:
        number: number of the frame, from 0.
        content: frame of the input at the size of the result, ``(1, 3, H, W)``.
        values: frame of the result, ``(1, 3, H, W)``.
        record: ``pts``, ``duration``, ``name``, ``cut``, ``steps``, ``rejected_steps``, ``loss``
            and ``parts`` (the terms of the loss); the warping errors ``e_warp`` of the result and
            ``input_e_warp`` of the input against the frame before, None at the beginning of a
            scene; and the seconds spent on ``codec``, ``flow`` and ``features``.
    """

    number: int
    content: Tensor
    values: Tensor
    record: Mapping[str, Any]


def fit_even(size: Sequence[int], max_side: int) -> tuple[int, int]:
    """Compute the size of a result: at most that of the video, with even sides if it is reduced.

    Args:
        size: height and width of the video.
        max_side: largest number of pixels along the longest side; 0 keeps the size.

    >>> fit_even((720, 1280), 512), fit_even((144, 176), 512), fit_even((33, 47), 0)
    ((288, 512), (144, 176), (33, 47))
    """
    if max_side == 0 or max(size) <= max_side:
        return size[0], size[1]
    height, width = (max(2, 2 * round(side * max_side / max(size) / 2)) for side in size)
    return height, width


def working_size(video: Video, max_side: int) -> tuple[int, int]:
    """Compute the size of the result of a video by `fit_even`.

    Raises:
        InputFileError: the size is too small for the networks.
    """
    size = fit_even(video.info.size, max_side)
    if min(size) < MIN_EXTENT:
        raise InputFileError(
            str(video.info.path),
            expected=f"frames of at least {MIN_EXTENT} pixels along each side",
            got=f"{size[1]}x{size[0]}",
            remedy="use a larger --size, or another video",
        )
    return size


def resize_frame(values: Tensor, size: Sequence[int]) -> Tensor:
    """Resize a frame ``(1, C, H, W)`` to a height and width."""
    return resize_nd(values, size, mode="linear", antialias=True)


def iter_frames(
    source: VideoSource,
    records: Mapping[tuple[int, int], Mapping[str, Any]],
    references: Sequence[int] = (1,),
    regions: RegionStream | None = None,
    *,
    needs_flow: bool = False,
) -> Iterator[FrameContext]:
    """Yield the frames of the input, with the flow between them.

    Args:
        source: the input.
        records: records of finished frames, see `FrameCache`; such frames need no flow.
        references: distances, in frames, of the earlier frames from which the flow is estimated,
            nearest first, from 1.
        regions: regions of the frames, which are computed here; or None.
        needs_flow: whether finished frames need the flow, too.
    """
    needs_flow = needs_flow or (regions is not None and regions.tracked)
    contents: deque[Tensor] = deque(maxlen=references[-1])
    earlier = 0  # frames of this scene before the current one
    began_at = time.perf_counter()
    for number, (frame, content) in enumerate(source.frames()):
        decoded_at = time.perf_counter()
        flows: dict[int, FlowPair] = {}
        record = records.get((FIRST_PASS, number))
        cut = number == 0
        if number and (record is None or needs_flow):
            flows[1] = estimate_flow(contents[-1], content)
        if record is not None:
            cut = record["cut"]
        elif number:
            cut = is_cut(contents[-1], content, flows[1].valid_backward)
        earlier = 0 if cut else earlier + 1
        if cut:
            flows = {}
        elif record is None:
            for distance in references[1:]:
                if distance <= earlier:
                    flows[distance] = estimate_flow(contents[-distance], content)
        divided = None if regions is None else regions.add(number, flows.get(1), content)
        yield FrameContext(
            number=number,
            pts=frame.pts,
            duration=frame.duration,
            name=frame.name,
            content=content,
            cut=cut,
            flows=flows,
            seconds={"codec": decoded_at - began_at, "flow": time.perf_counter() - decoded_at},
            regions=divided,
        )
        contents.append(content)
        began_at = time.perf_counter()
