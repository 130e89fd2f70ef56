"""Stylises videos frame by frame along the motion of the input.

The first frame of a scene is an ordinary transfer. Each later frame starts from the result of the
frame before, warped along the optical flow of the input, and a temporal loss keeps it near that
where the flow is consistent (Ruder et al., 2016). The flow of the next frame is estimated while the
current one is optimised.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from convnd.transfer.progress import Progress
from convnd_tasks.modalities.video.frame_cache import CONTENT, FIRST_PASS, FrameCache, quantize
from convnd_tasks.modalities.video.input import (
    EarlierFrame,
    FrameContext,
    StylizedFrame,
    VideoSource,
    iter_frames,
)
from convnd_tasks.modalities.video.options import VideoOptions
from convnd_tasks.modalities.video.progress import (
    StepCallback,
    TransferOutcome,
    step_callback,
    unchanged,
)
from convnd_tasks.runtime.changes import Changes
from convnd_tasks.runtime.prefetch import prefetch

if TYPE_CHECKING:
    from convnd_tasks.modalities.video.keyframes import Keyframes
    from convnd_tasks.modalities.video.video_regions import VideoRegions

__all__ = ["FrameStylizer", "FrameTransfer"]


class FrameTransfer(Protocol):
    """Stylises single frames of one video."""

    @property
    def references(self) -> Sequence[int]:
        """Distances, in frames, of the earlier frames that `follow` reads, from 1."""

    def prepare(self, source: VideoSource) -> None:
        """Prepare for the frames of a source."""

    def begin(
        self, context: FrameContext, to_progress: StepCallback
    ) -> Generator[Progress, None, TransferOutcome]:
        """Stylise a frame that begins a scene.

        Args:
            context: the frame.
            to_progress: converts steps of this frame to steps of the video.
        """

    def follow(
        self,
        context: FrameContext,
        earlier: Sequence[EarlierFrame],
        to_progress: StepCallback,
    ) -> Generator[Progress, None, TransferOutcome]:
        """Stylise a frame that continues a scene.

        Args:
            context: the frame, with the flow from earlier frames.
            earlier: earlier frames of the scene, the latest one last; empty if only the guide of
                the context is known.
            to_progress: as for `begin`.
        """


class FrameStylizer:
    """Stylises the frames of a video, one after the other.

    Args:
        options: options, of which ``mode`` and ``passes`` are used.
        transfer: stylises single frames.
        regions: regions of the frames; None is all of each frame.
        keyframes: frames of the result that are known; None is none.
        changes: changes of the options between frames; None is none.
        on_change: is called with the changed options, before the next frame is stylised.
    """

    def __init__(
        self,
        options: VideoOptions,
        transfer: FrameTransfer,
        regions: VideoRegions | None = None,
        keyframes: Keyframes | None = None,
        changes: Changes | None = None,
        on_change: Callable[[VideoOptions], None] = lambda _: None,
    ) -> None:
        self.options = options
        self.transfer = transfer
        self.regions = regions
        self.keyframes = keyframes
        self.changes = changes
        self._on_change = on_change

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
        total, passes = source.count(), self.options.passes
        follows = self.options.mode == "flow"
        references = self.transfer.references if follows else (1,)
        earlier: deque[EarlierFrame] = deque(maxlen=references[-1])
        keyframes = self.keyframes
        contexts: Iterator[FrameContext] = prefetch(
            lambda: iter_frames(
                source, cache.records, references, self.regions, needs_flow=keyframes is not None
            )
        )
        if keyframes is not None:
            contexts = keyframes.guided(contexts)
        for context in contexts:
            if context.cut:
                earlier.clear()
            record: Mapping[str, Any] | None = cache.records.get((FIRST_PASS, context.number))
            if record is not None:
                values = cache.load(FIRST_PASS, context.number)
                self._repeat_changes(context.number, record.get("changes", []))
            else:
                to_progress = step_callback(context.number, total, passes)
                changed = self._take_changes(context.number)
                values, record = yield from self._frame(context, earlier, to_progress)
                record |= {"changes": changed} if changed else {}
                if passes > 1:
                    cache.save(CONTENT, context.number, context.content, {})
                cache.save(FIRST_PASS, context.number, values, record)
            yield StylizedFrame(
                number=context.number, content=context.content, values=values, record=record
            )
            earlier.append(EarlierFrame(context.content, values, context.regions))

    def _take_changes(self, number: int) -> list[str]:
        """Apply the changes that are due before a frame; returns them as they are typed."""
        if self.changes is None or not (due := self.changes.take(number, self.options)):
            return []
        self._on_change(self.changes.apply(self.options))
        return [str(change) for change in due]

    def _repeat_changes(self, number: int, texts: Sequence[str]) -> None:
        """Apply the changes that an earlier run made before a finished frame."""
        if self.changes is not None and texts:
            applied = [*self.changes.texts, *texts]
            self.changes.restore({"applied": applied, "considered": number})
            self._on_change(self.changes.apply(self.options))

    def _frame(
        self, context: FrameContext, earlier: Sequence[EarlierFrame], to_progress: StepCallback
    ) -> Generator[Progress, None, tuple[Tensor, dict[str, Any]]]:
        """Stylise one frame; returns its values and its record."""
        began = time.perf_counter()
        keyframe = None
        if self.keyframes is not None and context.number in self.keyframes.frames:
            keyframe = self.keyframes.frames[context.number]
        if keyframe is not None and context.regions is None:
            outcome = unchanged(keyframe)
        elif keyframe is not None:
            outcome = yield from self._beside(keyframe, context, earlier, to_progress)
        elif context.regions is not None and not context.regions.present:
            outcome = unchanged(context.content)
        else:
            outcome = yield from self._transfer(context, earlier, to_progress)
        entries = {**outcome.record(), "features": time.perf_counter() - began}
        frame_before = (earlier[-1].content, earlier[-1].values) if earlier else None
        return outcome.values, context.record(entries, outcome.values, frame_before)

    def _transfer(
        self, context: FrameContext, earlier: Sequence[EarlierFrame], to_progress: StepCallback
    ) -> Generator[Progress, None, TransferOutcome]:
        if (earlier or context.guide is not None) and self.options.mode == "flow":
            return (yield from self.transfer.follow(context, earlier, to_progress))
        return (yield from self.transfer.begin(context, to_progress))

    def _beside(
        self,
        keyframe: Tensor,
        context: FrameContext,
        earlier: Sequence[EarlierFrame],
        to_progress: StepCallback,
    ) -> Generator[Progress, None, TransferOutcome]:
        """Stylise the regions of a frame that have other styles than its keyframe."""
        assert context.regions is not None
        share, regions = context.regions.keyframe_share, context.regions.without_keyframes()
        known = torch.lerp(context.content, keyframe, share)
        if not regions.present:
            return unchanged(known)
        others = dataclasses.replace(context, content=known, regions=regions)
        outcome = yield from self._transfer(others, earlier, to_progress)
        return dataclasses.replace(
            outcome, values=quantize(torch.lerp(outcome.values, keyframe, share))
        )
