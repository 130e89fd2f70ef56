"""Stylises videos frame by frame along the motion of the input.

The first frame of a scene is an ordinary transfer. Each later frame starts from the result of the
frame before, warped along the optical flow of the input, and a temporal loss keeps it near that
where the flow is consistent (Ruder et al., 2016). The flow of the next frame is estimated while the
current one is optimised.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from convnd.transfer.progress import Progress
from convnd_tasks.modalities.video.frame_cache import CONTENT, FIRST_PASS, FrameCache
from convnd_tasks.modalities.video.input import (
    FrameContext,
    StylizedFrame,
    VideoSource,
    iter_frames,
)
from convnd_tasks.modalities.video.options import VideoOptions
from convnd_tasks.modalities.video.progress import StepCallback, TransferOutcome, step_callback
from convnd_tasks.runtime.prefetch import prefetch

__all__ = ["FrameStylizer", "FrameTransfer"]


class FrameTransfer(Protocol):
    """Stylises single frames of one video."""

    @property
    def references(self) -> Sequence[int]:
        """Distances, in frames, of the earlier frames that `follow` reads, from 1."""

    def prepare(self, source: VideoSource) -> None:
        """Prepare for the frames of a source."""

    def begin(
        self, content: Tensor, to_progress: StepCallback
    ) -> Generator[Progress, None, TransferOutcome]:
        """Stylise a frame ``(1, 3, H, W)`` that begins a scene.

        Args:
            content: frame of the input ``(1, 3, H, W)``.
            to_progress: converts steps of this frame to steps of the video.
        """

    def follow(
        self, context: FrameContext, values: Sequence[Tensor], to_progress: StepCallback
    ) -> Generator[Progress, None, TransferOutcome]:
        """Stylise a frame that continues a scene.

        Args:
            context: the frame, with the flow from earlier frames.
            values: results of earlier frames ``(1, 3, H, W)``, the latest one last.
            to_progress: as for `begin`.
        """


@dataclass
class _History:
    """The earlier frames of a scene, the latest one last."""

    contents: deque[Tensor] = field(default_factory=deque)
    values: deque[Tensor] = field(default_factory=deque)

    def append(self, content: Tensor, values: Tensor, length: int) -> None:
        """Add a frame, and drop the oldest ones beyond a length."""
        self.contents.append(content)
        self.values.append(values)
        while len(self.values) > length:
            self.contents.popleft()
            self.values.popleft()


class FrameStylizer:
    """Stylises the frames of a video, one after the other.

    Args:
        options: options, of which ``mode`` and ``passes`` are used.
        transfer: stylises single frames.
    """

    def __init__(self, options: VideoOptions, transfer: FrameTransfer) -> None:
        self.options = options
        self.transfer = transfer

    def run(self, source: VideoSource, cache: FrameCache) -> Iterator[Progress | StylizedFrame]:
        """Stylise frame after frame; frames in the cache are not computed again.

        Args:
            source: the frames to stylise.
            cache: open cache of finished frames.

        Yields:
            The steps of each frame, followed by the frame.

        Raises:
            InputFileError: a frame cannot be read.
            ResourceError: there is not enough memory.
            NumericalError: see `convnd.optimize.minimize`.
        """
        self.transfer.prepare(source)
        history = _History()
        total, passes = source.count(), self.options.passes
        follows = self.options.mode == "flow"
        references = self.transfer.references if follows else (1,)
        for context in prefetch(lambda: iter_frames(source, cache.records, references)):
            if context.cut:
                history = _History()
            record: Mapping[str, Any] | None = cache.records.get((FIRST_PASS, context.number))
            if record is not None:
                values = cache.load(FIRST_PASS, context.number)
            else:
                to_progress = step_callback(context.number, total, passes)
                values, record = yield from self._frame(context, history, to_progress)
                if passes > 1:
                    cache.save(CONTENT, context.number, context.content, {})
                cache.save(FIRST_PASS, context.number, values, record)
            yield StylizedFrame(
                number=context.number, content=context.content, values=values, record=record
            )
            history.append(context.content, values, references[-1])

    def _frame(
        self, context: FrameContext, history: _History, to_progress: StepCallback
    ) -> Generator[Progress, None, tuple[Tensor, dict[str, Any]]]:
        """Stylise one frame; returns its values and its record."""
        began = time.perf_counter()
        content, values = context.content, history.values
        if values and self.options.mode == "flow":
            outcome = yield from self.transfer.follow(context, values, to_progress)
        else:
            outcome = yield from self.transfer.begin(content, to_progress)
        entries = {**outcome.record(), "features": time.perf_counter() - began}
        frame_before = (history.contents[-1], values[-1]) if values else None
        return outcome.values, context.record(entries, outcome.values, frame_before)
