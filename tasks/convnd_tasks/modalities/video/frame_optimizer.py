"""Optimises single frames of a video, near a target from another frame where there is one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from convnd.losses import TemporalLoss, Term
from convnd.optimize import (
    TiledEvaluation,
    evaluate_masked,
    evaluate_whole,
    has_converged,
    minimize,
)
from convnd.transfer.adjustment import TargetMemory
from convnd.transfer.memory import MemoryBudget, check_budgets
from convnd.transfer.memory_model import MemoryModel
from convnd.transfer.network import check_names
from convnd.transfer.problem import TransferProblem
from convnd.transfer.progress import Progress
from convnd.transfer.regions import StyleRegion
from convnd.transfer.style_transfer import StyleTransfer
from convnd_tasks.modalities.video.frame_cache import quantize
from convnd_tasks.modalities.video.frame_regions import FrameRegions, RegionStyles, recolor
from convnd_tasks.modalities.video.input import EarlierFrame, FrameContext, VideoSource
from convnd_tasks.modalities.video.keyframes import Keyframes
from convnd_tasks.modalities.video.options import VideoOptions
from convnd_tasks.modalities.video.progress import (
    StepCallback,
    TransferOutcome,
    run_transfer,
    unfinished_text,
)
from convnd_tasks.modalities.video.references import add_guide, warped_references

__all__ = ["FrameOptimizer", "make_frame_transfer"]

_FEW_REFERENCES = 0.05
"""Share of the regions with valid references below which a frame begins anew."""


def make_frame_transfer(options: VideoOptions) -> StyleTransfer:
    """Make the network for single frames; it serves all videos of a job."""
    return StyleTransfer(options, spatial_dims=2, in_channels=3)


class FrameOptimizer:
    """Stylises frames by optimisation, with one network and its styles.

    Args:
        options: see `VideoOptions`.
        styles: pictures ``(1, 3, H_i, W_i)``.
        on_message: callback that gets lines for users.
        transfer: network of the job, from `make_frame_transfer`; None makes one.
        regions: the styles of each region; empty is one of all positions with all styles.
        keyframes: weights the styles of each frame; None is the same weights for all frames.
        strength: place of the targets between the statistics of each frame of the input (0) and
            those of the styles (1); without keyframes.

    Attributes:
        references: see `FrameTransfer`.

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
        regions: Sequence[RegionStyles] = (),
        keyframes: Keyframes | None = None,
        strength: float = 1.0,
    ) -> None:
        check_names(options)
        self.options = options
        self.references = options.references
        self.styles = styles
        self.transfer = make_frame_transfer(options) if transfer is None else transfer
        self._regions = regions
        self._keyframes = keyframes
        self._strength = strength
        self._terms: list[list[Term]] = []
        self._resized_styles: list[Tensor] = []
        self._memory = TargetMemory()
        self._evaluate: Any = evaluate_whole
        self._on_message = on_message
        self._has_warned = False

    def prepare(self, source: VideoSource) -> None:
        """Plan the memory, and compute the targets of the style, for the frames of a source."""
        size = self._size = source.size
        transfer = self.transfer
        self._resized_styles = [transfer.resizer.style_at(style, size) for style in self.styles]
        model = MemoryModel(self.options, transfer.backbone, transfer.device)
        budget = MemoryBudget(model, self._on_message)
        check_budgets([budget], size, [style.shape[2:] for style in self._resized_styles])
        plan = budget.plan(size)
        self._tiler, self._history = plan.tiler, plan.history
        if self._tiler is not None:
            self._evaluate = TiledEvaluation(self._tiler)
        self._make_targets()

    def change(self, options: VideoOptions) -> None:
        """Stylise the frames that follow with other weights; what is known of the styles stays.

        Args:
            options: options, of which the strength, the temporal weight and those of
                `convnd.transfer.adjustment.LIVE_OPTIONS` count.
        """
        if options.style_scale != self.options.style_scale:
            resizer = replace(self.transfer.resizer, style_scale=options.style_scale)
            self._resized_styles = [resizer.style_at(style, self._size) for style in self.styles]
        self.options = options
        self.transfer = self.transfer.with_live_options(options)
        self._strength = options.strength if self._keyframes is None else 1.0
        self._make_targets()

    def _make_targets(self) -> None:
        """Compute the targets of the styles, at the size of the frames."""
        parts = [
            [StyleRegion(None, part.styles, part.style_shares, part.name)] for part in self._regions
        ]
        self._terms = [self._terms_of_part(part) for part in parts or [[]]]

    def begin(
        self, context: FrameContext, to_progress: StepCallback
    ) -> Generator[Progress, None, TransferOutcome]:
        """Transfer a frame like a picture, from coarse to fine, see `FrameTransfer.begin`."""
        losses: list[tuple[int, float]] = []
        regions, styles = context.regions, self.styles
        if self._keyframes is not None:
            weights = self._keyframes.weights(context.number)
            nearest = self._keyframes.region(max(weights, key=weights.__getitem__))
            styles = [self.styles[nearest.styles[0]]] if regions is None else styles
            regions = None if regions is None else regions.with_keyframe(nearest)
        if regions is None:
            problem = TransferProblem(context.content, styles, strength=self._strength)
        else:
            problem = TransferProblem(
                context.content,
                self.styles,
                mask=regions.applied_mask,
                regions=regions.style_regions(),
                strength=self._strength,
            )
        steps = self.transfer.run(problem, on_message=self._on_message)
        outcome = yield from run_transfer(_record_losses(steps, losses), to_progress)
        if self.options.mode == "flow" and not self._has_warned and self._on_message is not None:
            text = unfinished_text([loss for scale, loss in losses if scale == losses[-1][0]])
            if text:
                self._has_warned = True
                self._on_message(
                    f"the first frame is not finished after {outcome.steps} "
                    f"step{'' if outcome.steps == 1 else 's'}: {text}; later "
                    "frames continue from it, and colours drift; use more --steps (default "
                    f"{VideoOptions.steps})"
                )
        return outcome

    def follow(
        self,
        context: FrameContext,
        earlier: Sequence[EarlierFrame],
        to_progress: StepCallback,
    ) -> Generator[Progress, None, TransferOutcome]:
        """Optimise a frame, starting from its references, see `FrameTransfer.follow`."""
        if earlier:
            keeps = context.guide is not None  # else the next keyframe alone would be at boundaries
            target, mask = warped_references(
                context.flows, earlier, context.regions, keep_boundaries=keeps
            )
        else:
            target = torch.zeros_like(context.content)
            mask = torch.zeros_like(target[:, :1])
        if context.guide is not None:
            target, mask = add_guide(target, mask, context.guide)
        if context.regions is not None:
            styled = (context.regions.mask > 0).to(mask)
            if (mask * styled).sum() < _FEW_REFERENCES * styled.sum():
                return (yield from self.begin(context, to_progress))
        # Pixels without a valid reference start from the input, in the colours of the result.
        if earlier:
            last = earlier[-1]
            colored = recolor(context.content, last.values, context.regions, last.regions)
        else:
            assert context.guide is not None
            colored = recolor(context.content, context.guide.values)
        start = torch.where(mask > 0, target, colored)
        return (
            yield from self.optimize(
                context.content,
                start,
                target,
                mask,
                to_progress,
                number=context.number,
                regions=context.regions,
            )
        )

    def optimize(
        self,
        content: Tensor,
        start: Tensor,
        target: Tensor,
        mask: Tensor,
        to_progress: StepCallback,
        *,
        number: int,
        regions: FrameRegions | None = None,
    ) -> Generator[Progress, None, TransferOutcome]:
        """Optimise a frame until its loss settles.

        Args:
            content: frame of the input ``(1, 3, H, W)``.
            start: starting point.
            target: warped result of another frame, for the temporal loss.
            mask: confidence of the target ``(1, 1, H, W)``.
            to_progress: converts steps of this frame to steps of the video.
            number: number of the frame, from 0.
            regions: the regions of the frame; None is all of it.
        """
        options, device = self.options, self.transfer.device
        content, start, evaluate = content.to(device), start.to(device), self._evaluate
        if regions is not None:
            applied = regions.mask.to(device)
            start = torch.where(applied > 0, start, content)
            evaluate = evaluate_masked(evaluate, content, applied)
        objective = self.transfer.objective(
            content,
            [],
            [1.0, 1.0],
            tiler=self._tiler,
            style_terms=self._style_terms(content, number, regions),
            extra_terms=self._temporal_terms(target.to(device), mask.to(device)),
        )
        losses, best = list[float](), None
        for step in minimize(
            objective,
            start,
            steps=options.frame_steps,
            optimizer=options.optimizer,
            learning_rate=options.learning_rate,
            evaluate=evaluate,
            history=self._history,
        ):
            yield to_progress(step)
            if step.note and self._on_message is not None:
                self._on_message(step.note)
            losses.append(step.loss)
            best = step if best is None or step.loss <= best.loss else best
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

    def _temporal_terms(self, target: Tensor, mask: Tensor) -> list[Term]:
        if self.options.temporal_weight <= 0:
            return []
        energy = float(target.square().sum(1).mean())
        loss = TemporalLoss(target, mask, reference=energy)
        return [Term("temporal", self.options.temporal_weight, loss)]

    def _style_terms(
        self, content: Tensor, number: int, regions: FrameRegions | None
    ) -> list[Term]:
        """Return the terms of the styles of a frame, from targets that were made once."""
        if self._strength < 1:
            return self.transfer.style_terms(
                self._resized_styles,
                tiler=self._tiler,
                regions=() if regions is None else regions.style_regions(),
                content=content,
                strength=self._strength,
                memory=TargetMemory(styles=[*self._memory.styles]),  # of no other frame
            )
        of_keyframes: list[Term] = []
        if self._keyframes is not None:
            for keyframe, weight in self._keyframes.weights(number).items():
                known = self._terms_of_part([self._keyframes.region(keyframe)])
                of_keyframes += [replace(term, weight=term.weight * weight) for term in known]
        if regions is None:
            return of_keyframes or self._terms[0]
        return [
            term
            for index in regions.present
            for term in self.transfer.terms_in_region(
                of_keyframes if regions.parts[index].follows_keyframes else self._terms[index],
                regions.share(index),
            )
        ]

    def _terms_of_part(self, part: Sequence[StyleRegion]) -> list[Term]:
        """Make the terms of one region; the statistics of its styles are computed once."""
        return self.transfer.style_terms(
            self._resized_styles, tiler=self._tiler, regions=part, memory=self._memory
        )


def _record_losses(
    steps: Iterable[Progress], losses: list[tuple[int, float]]
) -> Iterator[Progress]:
    """Append phase and loss of each step to a list, and yield the step."""
    for progress in steps:
        losses.append((progress.phase, progress.loss))
        yield progress
