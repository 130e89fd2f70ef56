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
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from convnd.losses import TemporalLoss, Term
from convnd.optimize import Step, TiledEvaluation, evaluate_whole, has_converged, minimize
from convnd.transfer.memory import MemoryBudget
from convnd.transfer.memory_model import MemoryModel
from convnd.transfer.network import check_names
from convnd.transfer.network_transfer import NetworkTransfer
from convnd.transfer.problem import TransferProblem
from convnd.transfer.progress import Progress
from convnd.transfer.style_transfer import StyleTransfer
from convnd_tasks.modalities.images.codec import color_moments, match_colors
from convnd_tasks.modalities.video.flow import FlowPair, estimate_flow, warp, warping_error
from convnd_tasks.modalities.video.frame_cache import (
    CONTENT,
    FIRST_PASS,
    SECOND_PASS,
    FrameCache,
    quantize,
)
from convnd_tasks.modalities.video.input import (
    FrameContext,
    StylizedFrame,
    VideoSource,
    iter_frames,
)
from convnd_tasks.modalities.video.options import VideoOptions
from convnd_tasks.modalities.video.progress import (
    StepCallback,
    TransferOutcome,
    run_transfer,
    step_callback,
)
from convnd_tasks.runtime.prefetch import prefetch

__all__ = ["FrameStylizer", "NetworkFrameStylizer", "make_frame_transfer"]

_FINISHED_OVER, _FINISHED_DECREASE = 4, 0.15
"""A first frame counts as finished if its loss decreased by less than 0.15 over its last 4 steps.
The decrease is about 0.03 after the default 80 steps, 0.1 after 40, and 0.3 after 20."""


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


def make_frame_transfer(options: VideoOptions) -> StyleTransfer:
    """Make the network for single frames; it serves all videos of a job."""
    return StyleTransfer(options, spatial_dims=2, in_channels=3)


class FrameStylizer:
    """Stylises the frames of a video with one network and its styles.

    Args:
        options: see `VideoOptions`.
        styles: pictures ``(1, 3, H_i, W_i)``.
        on_message: callback that gets lines for users.
        transfer: network of the job, from `make_frame_transfer`; None makes one.

    Raises:
        UsageError: an option names something that does not exist.
    """

    def __init__(
        self,
        options: VideoOptions,
        styles: Sequence[Tensor],
        on_message: Callable[[str], None] | None = None,
        *,
        transfer: StyleTransfer | None = None,
    ) -> None:
        check_names(options)
        self.options = options
        self.styles = styles
        self.transfer = make_frame_transfer(options) if transfer is None else transfer
        self._terms: list[Term] = []
        self._evaluate: Any = evaluate_whole
        self._on_message = on_message
        self._has_warned = False

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
        self._prepare(source.size)
        history = _History()
        total, passes = source.count(), self.options.passes
        for context in prefetch(lambda: iter_frames(self.options, source, cache.records)):
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
            history.append(context.content, values, self.options.references[-1])

    def run_backward_pass(
        self, cache: FrameCache, count: int
    ) -> Iterator[Progress | StylizedFrame]:
        """Run the second pass, from the last frame to the first.

        Args:
            cache: cache that holds the content and the frames of the first pass.
            count: number of frames.

        Yields:
            The steps of each frame, followed by the frame.

        Raises:
            InputFileError: a frame is missing in the cache.
            NumericalError: see `convnd.optimize.minimize`.
        """
        later: StylizedFrame | None = None
        for number in reversed(range(count)):
            content = cache.load(CONTENT, number)
            began = time.perf_counter()
            flows = None if later is None else estimate_flow(content, later.content)
            flow_seconds = time.perf_counter() - began
            record: dict[str, Any] | None = cache.records.get((SECOND_PASS, number))
            if record is not None:
                values = cache.load(SECOND_PASS, number)
            else:
                values = cache.load(FIRST_PASS, number)
                record = dict(cache.records[FIRST_PASS, number])
                record |= {"flow": record["flow"] + flow_seconds}
                if later is not None and flows is not None and not later.record["cut"]:
                    began = time.perf_counter()
                    to_progress = step_callback(2 * count - 1 - number, count, 2)
                    # Optimise the frame again, close to the warped frame after it.
                    target, mask = warp(later.values, flows.forward), flows.valid_forward
                    start = torch.where(mask > 0, (values + target) / 2, values)
                    outcome = yield from self._optimize(content, start, target, mask, to_progress)
                    values = outcome.values
                    record |= {
                        **outcome.record(),
                        "steps": record["steps"] + outcome.steps,
                        "rejected_steps": record["rejected_steps"] + outcome.rejected_steps,
                        "features": record["features"] + time.perf_counter() - began,
                        "later_e_warp": warping_error(values, later.values, flows),
                    }
                cache.save(SECOND_PASS, number, values, record)
            later = StylizedFrame(number=number, content=content, values=values, record=record)
            yield later

    def _prepare(self, size: Sequence[int]) -> None:
        """Plan the memory, and compute the targets of the style, for frames of this size."""
        transfer, options = self.transfer, self.options
        styles = [transfer.resizer.style_at(style, size) for style in self.styles]
        model = MemoryModel(options, transfer.backbone, transfer.device)
        budget = MemoryBudget(model, self._on_message)
        budget.check(size, [style.shape[2:] for style in styles])
        self._tiler = budget.plan(size).tiler
        if self._tiler is not None:
            self._evaluate = TiledEvaluation(self._tiler)
        self._terms = transfer.style_terms(styles, tiler=self._tiler)

    def _frame(
        self, context: FrameContext, history: _History, to_progress: StepCallback
    ) -> Generator[Progress, None, tuple[Tensor, dict[str, Any]]]:
        """Stylise one frame; returns its values and its record."""
        began = time.perf_counter()
        if history.values and self.options.mode == "flow":
            target, mask = _warped_references(context.flows, history.values)
            # Pixels without a valid reference start from the input, in the colours of the result.
            recolored_content = match_colors(context.content, color_moments(history.values[-1]))
            start = torch.where(mask > 0, target, recolored_content)
            outcome = yield from self._optimize(context.content, start, target, mask, to_progress)
        else:
            outcome = yield from self._first_frame(context.content, to_progress)
        entries = {**outcome.record(), "features": time.perf_counter() - began}
        frame_before = (history.contents[-1], history.values[-1]) if history.values else None
        return outcome.values, context.record(entries, outcome.values, frame_before)

    def _first_frame(
        self, content: Tensor, to_progress: StepCallback
    ) -> Generator[Progress, None, TransferOutcome]:
        """Transfer a single frame like a picture, from coarse to fine."""
        losses: list[tuple[int, float]] = []
        problem = TransferProblem(content, self.styles)
        steps = self.transfer.run(problem, on_message=self._on_message)
        outcome = yield from run_transfer(_record_losses(steps, losses), to_progress)
        if self.options.mode == "flow" and not self._has_warned and self._on_message is not None:
            text = _unfinished_text([loss for scale, loss in losses if scale == losses[-1][0]])
            if text:
                self._has_warned = True
                self._on_message(
                    f"the first frame is not finished after {outcome.steps} "
                    f"step{'' if outcome.steps == 1 else 's'}: {text}; later "
                    "frames continue from it, and colours drift; use more --steps (default "
                    f"{VideoOptions.steps})"
                )
        return outcome

    def _optimize(
        self,
        content: Tensor,
        start: Tensor,
        target: Tensor,
        mask: Tensor,
        to_progress: StepCallback,
    ) -> Generator[Progress, None, TransferOutcome]:
        """Optimise a frame until its loss settles.

        Args:
            content: frame of the input ``(1, 3, H, W)``.
            start: starting point.
            target: warped result of another frame, which the temporal loss compares with.
            mask: confidence of the target ``(1, 1, H, W)``.
            to_progress: converts steps of this frame to steps of the video.
        """
        options, device = self.options, self.transfer.device
        extra_terms = []
        if options.temporal_weight > 0:
            energy = float(target.square().sum(1).mean())
            loss = TemporalLoss(target.to(device), mask.to(device), reference=energy)
            extra_terms.append(Term("temporal", options.temporal_weight, loss))
        objective = self.transfer.objective(
            content.to(device),
            [],
            [1.0, 1.0],
            tiler=self._tiler,
            style_terms=self._terms,
            extra_terms=extra_terms,
        )
        losses: list[float] = []
        best: Step | None = None
        for step in minimize(
            objective,
            start.to(device),
            steps=options.frame_steps,
            optimizer=options.optimizer,
            learning_rate=options.learning_rate,
            evaluate=self._evaluate,
        ):
            yield to_progress(step)
            if step.note and self._on_message is not None:
                self._on_message(step.note)
            losses.append(step.loss)
            if best is None or step.loss <= best.loss:
                best = step
            if has_converged(losses, over=options.settle_over, tolerance=options.settle_tolerance):
                break
        assert best is not None
        return TransferOutcome(
            values=quantize(best.values),
            steps=len(losses) - 1,
            rejected_steps=step.rejected_steps,
            loss=best.loss,
            parts=best.parts,
        )


class NetworkFrameStylizer(FrameStylizer):
    """Stylises each frame by one pass of a trained network, without optical flow.

    Frames are independent, but the network draws the same pattern at the same position of each.

    Args:
        options: options, of which ``references`` is used; the mode becomes ``"independent"``.
        transfer: the network.
        on_message: callback that gets lines for users.
    """

    def __init__(
        self,
        options: VideoOptions,
        transfer: NetworkTransfer,
        on_message: Callable[[str], None] | None = None,
    ) -> None:
        self.options = dataclasses.replace(options, mode="independent")
        self.styles = []
        self._network = transfer
        self._on_message = on_message

    def _prepare(self, size: Sequence[int]) -> None:
        del size

    def _first_frame(
        self, content: Tensor, to_progress: StepCallback
    ) -> Generator[Progress, None, TransferOutcome]:
        steps = self._network.run(TransferProblem(content, [content]), on_message=self._on_message)
        return (yield from run_transfer(steps, to_progress))


def _record_losses(
    steps: Iterable[Progress], losses: list[tuple[int, float]]
) -> Iterator[Progress]:
    """Append phase and loss of each step to a list, and yield the step."""
    for progress in steps:
        losses.append((progress.phase, progress.loss))
        yield progress


def _unfinished_text(losses: Sequence[float]) -> str:
    """Explain why a frame is not finished, by its losses at the last scale; "" if it is finished.

    >>> _unfinished_text([9.0, 5.0, 3.0, 2.0, 1.5, 1.2, 1.1, 1.06, 1.05, 1.04])
    ''
    >>> _unfinished_text([9.0, 5.0, 3.0, 2.0, 1.5, 1.2, 1.1, 1.05, 1.01])
    'its loss still fell by 33 % in the last 4'
    >>> _unfinished_text([20.0, 19.9])
    'it took 1 step at its full size'
    """
    if len(losses) <= _FINISHED_OVER:
        count = len(losses) - 1
        return f"it took {count} step{'' if count == 1 else 's'} at its full size"
    earlier_loss, last_loss = losses[-1 - _FINISHED_OVER], losses[-1]
    decrease = (earlier_loss - last_loss) / abs(earlier_loss) if earlier_loss else 0.0
    if decrease < _FINISHED_DECREASE:
        return ""
    return f"its loss still fell by {100 * decrease:.0f} % in the last {_FINISHED_OVER}"


def _warped_references(
    flows: Mapping[int, FlowPair], values: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Warp earlier results to a frame; each pixel comes from the nearest frame with valid flow.

    Args:
        flows: flow from earlier frames, by the number of frames between.
        values: earlier results ``(1, 3, H, W)``, the latest one last.

    Returns:
        The warped result, and the mask of pixels with a valid flow.
    """
    target = torch.zeros_like(values[-1])
    mask = torch.zeros_like(values[-1][:, :1])
    for distance, pair in sorted(flows.items()):
        new_pixels = pair.valid_backward * (1 - mask)
        target = torch.where(new_pixels > 0, warp(values[-distance], pair.backward), target)
        mask = mask + new_pixels
    return target, mask
