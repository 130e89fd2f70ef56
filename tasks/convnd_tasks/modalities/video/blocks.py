"""Videos as blocks of frames: time is the third axis of three-dimensional features.

A window of frames is one grid ``(1, 3, T, H, W)``, stylised as a whole from coarse to fine; only
height and width change with the scale. Windows overlap, and the frames that two of them share are
blended from one to the other. (A loss that tied the later window to the earlier one gave worse
results: the statistics of a window are sums, and its other frames compensated for the tied ones.) A
new scene begins a new window.

The network sees single frames, unless ``inflation`` lets it see time too. A picture as style is
constant in time. A video as style adds its motion: a part of the change moves along the style's
flow, position by position, on top of the content's motion. If the network also sees slices along
time, their features are style too: a dynamic texture (Doretto et al., 2003; with features of
networks Tesfaldet et al., 2018, who use a second network for the flow). These features alone gave
noise, not motion.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from convnd.errors import InputFileError
from convnd.nn import resize_nd
from convnd.transfer.network import check_names
from convnd.transfer.problem import TransferProblem
from convnd.transfer.progress import Progress
from convnd_tasks.modalities.base import MIN_EXTENT
from convnd_tasks.modalities.video.flow import estimate_flow
from convnd_tasks.modalities.video.frame_cache import FIRST_PASS, SHARED, FrameCache, quantize
from convnd_tasks.modalities.video.frame_regions import FrameRegions
from convnd_tasks.modalities.video.input import (
    FrameContext,
    StylizedFrame,
    VideoSource,
    fit_even,
    iter_frames,
    resize_frame,
)
from convnd_tasks.modalities.video.motion_average import BlockStyleTransfer, MotionCompensatedMean
from convnd_tasks.modalities.video.progress import (
    StepCallback,
    TransferOutcome,
    run_transfer,
    step_callback,
    unchanged,
)
from convnd_tasks.modalities.video.windows import (
    iter_windows,
    load_window,
    mirrored_order,
    reorder_flows,
)
from convnd_tasks.runtime.prefetch import prefetch

if TYPE_CHECKING:
    from convnd.io import Video
    from convnd_tasks.modalities.video.options import VideoOptions
    from convnd_tasks.modalities.video.video_regions import VideoRegions

__all__ = ["BlockStylizer", "make_block_transfer", "read_style_video"]

_MAX_STYLE_FRAMES = 48
"""Largest number of frames of a style video that are used; more add little."""

_MARGIN = 2
"""Frames before and after a window that are optimised and dropped if the network sees time. Next to
its zero padding it sees little, and frames would stay at the starting point."""

_OUTCOME_KEYS = ("steps", "rejected_steps", "loss", "parts", "features")


def read_style_video(video: Video, max_side: int) -> Tensor:
    """Read the first frames of a video as a style.

    Args:
        video: a video of at least 16 frames, of which at most 48 are read.
        max_side: longest side of the frames in pixels, see `fit_even`.

    Returns:
        ``(1, 3, T, H, W)``.

    Raises:
        InputFileError: it has fewer frames.
    """
    size = fit_even(video.info.size, max_side)
    frames = [
        resize_frame(frame.values, size)
        for frame in itertools.islice(video.frames(), _MAX_STYLE_FRAMES)
    ]
    if len(frames) < MIN_EXTENT:
        raise InputFileError(
            "style",
            expected=f"a video of at least {MIN_EXTENT} frames, so that it shows motion",
            got=f"{len(frames)} in {video.info.path}",
            remedy="use a longer one, or a picture",
        )
    return torch.stack(frames, 2)


def make_block_transfer(options: VideoOptions) -> BlockStyleTransfer:
    """Make the network for blocks of frames; it serves all videos of a job."""
    return BlockStyleTransfer(options, spatial_dims=3, in_channels=3, fixed_axes=1)


class BlockStylizer:
    """Stylises the windows of a video with one network and its styles.

    Args:
        options: see `VideoOptions`.
        styles: pictures ``(1, 3, H_i, W_i)``, or videos ``(1, 3, T_i, H_i, W_i)`` with the pixels
            and the frame rate of the result.
        texture: whether there is no content; the frames of the source then give only the size and
            the motion.
        on_message: callback that gets lines for users.
        transfer: network of the job, from `make_block_transfer`; None makes one.
        regions: regions of the frames; None is all of each frame.

    Raises:
        UsageError: an option names something that does not exist.
    """

    def __init__(
        self,
        options: VideoOptions,
        styles: Sequence[Tensor],
        *,
        texture: bool = False,
        on_message: Callable[[str], None] | None = None,
        transfer: BlockStyleTransfer | None = None,
        regions: VideoRegions | None = None,
    ) -> None:
        check_names(options)
        self.options = options
        self.texture = texture
        self.styles = [style[:, :, None] if style.ndim == 4 else style for style in styles]
        self.transfer = make_block_transfer(options) if transfer is None else transfer
        self._regions = regions
        self._margin = 0 if options.inflation == "auto" else _MARGIN
        style_frames = next(
            (list(style.unbind(2)) for style in self.styles if style.shape[2] > 1), []
        )
        self._style_flows = [estimate_flow(*pair) for pair in itertools.pairwise(style_frames)]
        self._on_message = on_message

    def run(self, source: VideoSource, cache: FrameCache) -> Iterator[Progress | StylizedFrame]:
        """Stylise window after window, see `FrameStylizer.run`."""
        options = self.options
        total = source.count()
        previous: StylizedFrame | None = None
        # Frames that the last window shares with the next one.
        shared_frames: list[tuple[FrameContext, Tensor, dict[str, Any]]] = []
        contexts = prefetch(lambda: iter_frames(source, cache.records, (1,), self._regions))
        for window, overlap in iter_windows(contexts, options.block_frames, options.block_overlap):
            if not overlap:  # a new scene
                for context, values, record in shared_frames:
                    previous = self._finish(cache, context, values, record, previous)
                    yield previous
                shared_frames = []
            may_continue = len(window) == options.block_frames  # another window may follow
            count = len(window) - options.block_overlap if may_continue else len(window)
            cached_window = load_window(window, count, cache)
            if cached_window is None:
                to_progress = step_callback(window[0].number + overlap, total)
                frames, record = yield from self._stylize(
                    window, shared_frames, overlap, to_progress
                )
                for context, values in zip(window[count:], frames[count:], strict=True):
                    cache.save(SHARED, context.number, values, record)
                for index, (_, values, _) in enumerate(shared_frames):
                    share = (index + 1) / (overlap + 1)
                    frames[index] = quantize(values * (1 - share) + frames[index] * share)
            else:
                frames, record = cached_window
            for context, values in zip(window[:count], frames[:count], strict=True):
                previous = self._finish(cache, context, values, record, previous)
                record = {**record, "rejected_steps": 0}  # those of the window count once
                yield previous
            shared_frames = [
                (context, values, record)
                for context, values in zip(window[count:], frames[count:], strict=True)
            ]
        for context, values, record in shared_frames:
            previous = self._finish(cache, context, values, record, previous)
            yield previous

    def _stylize(
        self,
        window: Sequence[FrameContext],
        shared_frames: Sequence[tuple[FrameContext, Tensor, dict[str, Any]]],
        overlap: int,
        to_progress: StepCallback,
    ) -> Generator[Progress, None, tuple[list[Tensor], dict[str, Any]]]:
        """Stylise a window; returns its frames, and the entries that their records share."""
        began = time.perf_counter()
        if all(context.regions and not context.regions.present for context in window):
            contents = [context.content for context in window]
            return contents, {**unchanged(contents[0]).record(), "features": 0.0}
        earlier = [values for _, values, _ in shared_frames]
        outcome = yield from self._optimize(window, earlier, to_progress)
        frames = list(outcome.values[:, :, self._margin :].unbind(2))[: len(window)]
        seconds = (time.perf_counter() - began) / (len(window) - overlap)
        return frames, {**outcome.record(), "features": seconds}

    def _optimize(
        self, window: Sequence[FrameContext], earlier: Sequence[Tensor], to_progress: StepCallback
    ) -> Generator[Progress, None, TransferOutcome]:
        """Optimise one window of frames.

        A texture starts from the frames that it shares with the window before, moved along the
        flow to the other frames, so that the two windows agree where they are blended. With a
        content they agree without that.
        """
        options = self.options
        contents = [context.content for context in window]
        order = list(range(len(contents)))
        if self._margin:
            order = mirrored_order(len(contents), options.block_frames + 2 * _MARGIN, _MARGIN)
        content = torch.stack([contents[index] for index in order], 2)
        self.transfer.trajectories = self._trajectories(window, order)
        start = content
        if self.texture:
            _, mean = self.transfer.trajectories[0]
            start = _noise_init(content.shape, self.styles[0], mean, options.seed)
            if earlier:
                is_earlier = [index < len(earlier) for index in order]
                frames = [earlier[i] if i < len(earlier) else contents[i] for i in order]
                start = mean.extrapolate(torch.stack(frames, 2), is_earlier, start)
        problem = TransferProblem(
            None if self.texture else content,
            self.styles,
            size=tuple(content.shape[2:]),
            init=start,
            same_grid=True,
            **self._region_fields([window[index] for index in order]),
        )
        steps = self.transfer.run(problem, on_message=self._on_message)
        return (yield from run_transfer(steps, to_progress))

    def _region_fields(self, frames: Sequence[FrameContext]) -> dict[str, Any]:
        """Return the fields of the problem about the regions of a block."""
        parts = [context.regions for context in frames if context.regions is not None]
        if not parts:
            return {}
        regions = FrameRegions.stack(parts).with_time([style.shape[2] for style in self.styles])
        return {"regions": regions.style_regions(), "mask": regions.applied_mask}

    def _trajectories(
        self, window: Sequence[FrameContext], order: Sequence[int]
    ) -> list[tuple[float, MotionCompensatedMean]]:
        """Make the means along which frames change, see `BlockStyleTransfer.trajectories`.

        The motion of a style video is added to that of the content, and repeats from its beginning.
        """
        options = self.options
        flows = [  # frames in the cache have no flows
            context.flows[1] if context.flows else estimate_flow(previous.content, context.content)
            for previous, context in itertools.pairwise(window)
        ]
        parts = [(1.0, flows)]
        size = window[0].content.shape[2:]
        if self._style_flows and not self.texture:
            count = len(self._style_flows)
            style_flows = [self._style_flows[context.number % count] for context in window[:-1]]
            composed_flows = [
                pair.compose(style.resized(size, options.style_scale))
                for pair, style in zip(flows, style_flows, strict=True)
            ]
            parts = [(1 - options.style_motion, flows), (options.style_motion, composed_flows)]
        zero = torch.zeros(2, *size)
        return [
            (
                weight,
                MotionCompensatedMean.from_flows(
                    reorder_flows(pairs, order, zero), options.temporal_decay
                ),
            )
            for weight, pairs in parts
            if weight
        ]

    def _finish(
        self,
        cache: FrameCache,
        context: FrameContext,
        values: Tensor,
        outcome: dict[str, Any],
        previous: StylizedFrame | None,
    ) -> StylizedFrame:
        """Save a frame with its record in the cache, unless it is there."""
        record: Any = cache.records.get((FIRST_PASS, context.number))
        if record is None:
            frame_before = None
            # A texture moves as the style does, and not along the flow of any frames.
            if previous is not None and not context.cut and not self.texture:
                frame_before = previous.content, previous.values
            entries = {name: outcome[name] for name in _OUTCOME_KEYS}
            record = context.record(entries, values, frame_before)
            cache.save(FIRST_PASS, context.number, values, record)
        return StylizedFrame(
            number=context.number, content=context.content, values=values, record=record
        )


def _noise_init(
    shape: Sequence[int], style: Tensor, mean: MotionCompensatedMean, seed: int
) -> Tensor:
    """Make smooth noise in the colours of a style, as the starting point of a texture.

    Kernels that were trained on pictures hardly see changes from frame to frame, and would leave
    white noise along time. The values of the noise are pixels of the style, sorted from dark to
    light, because a pixel that is visible in few frames, as at borders, stays near its starting
    point.
    """
    small = [max(2, n // 4) for n in shape[2:]]
    noise = torch.randn((1, 1, *small), generator=torch.Generator().manual_seed(seed))
    ranks = mean(resize_nd(noise, shape[2:], mode="linear")).flatten().argsort().argsort()
    pixels = style[0].flatten(1)
    pixels = pixels[:, pixels.sum(0).argsort()]
    return pixels[:, ranks * pixels.shape[1] // len(ranks)].view(1, -1, *shape[2:])
