"""Clips: frame by frame, held together by motion.

A frame that begins a scene is an ordinary transfer. Later ones start from the result before,
warped along the optical flow of the input, and are held to it by a term of the objective where the
flow can be relied on (Ruder et al., 2016). The flow of the next frame is looked for while the
present one is worked on.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from convnd.losses import TemporalLoss, Term
from convnd.optimize import Step, TiledEvaluation, evaluate_whole, has_converged, minimize
from convnd.transfer.memory import Budget
from convnd.transfer.style_transfer import Progress, StyleTransfer, check_names
from convnd_tasks.modalities.images.codec import match_colors
from convnd_tasks.modalities.video.flow import Motion, motion, warp, warping_error
from convnd_tasks.modalities.video.input import (
    Look,
    Part,
    count_frames,
    looks,
    reporter,
    walked,
    working_size,
)
from convnd_tasks.modalities.video.keeping import FrameStore, rounded
from convnd_tasks.modalities.video.options import VideoOptions
from convnd_tasks.pipeline.prefetch import prefetch

if TYPE_CHECKING:
    from convnd.io import Video

__all__ = ["Finished", "VideoTransfer"]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished frame.

    Args:
        number: from 0.
        content: the input's frame at the size of the result ``(1, 3, H, W)``.
        values: the result.
        record: ``pts``, ``name``, ``steps``, ``rejected_steps``, ``loss``, ``parts``, ``cut``,
            ``e_warp`` of the result and of the input against the frame before
            (None at the beginning of a scene), and seconds: ``codec``, ``flow``, ``features``.
    """

    number: int
    content: Tensor
    values: Tensor
    record: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Walk:
    """Where an optimisation has ended."""

    values: Tensor
    steps: int
    rejected_steps: int
    loss: float
    parts: Mapping[str, float]

    def record(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "rejected_steps": self.rejected_steps,
            "loss": self.loss,
            "parts": dict(self.parts),
        }


@dataclass
class _Past:
    """Earlier frames of the scene, the last one last."""

    contents: deque[Tensor] = field(default_factory=deque)
    values: deque[Tensor] = field(default_factory=deque)


class VideoTransfer:
    """A network and a style made ready once, for all frames of a clip.

    Args:
        options: see `VideoOptions`.
        styles: ``(1, 3, *S_i)`` each.

    Raises:
        UsageError: an option names something that does not exist.
    """

    def __init__(self, options: VideoOptions, styles: Sequence[Tensor]) -> None:
        check_names(options)
        self.options = options
        self.styles = styles
        self.transfer = StyleTransfer(options, spatial_dims=2, in_channels=3)
        self._terms: list[Term] = []
        self._evaluate: Any = evaluate_whole
        self._tell: Callable[[str], None] = lambda _: None

    def run(
        self,
        clip: Video,
        store: FrameStore,
        part: Part | None = None,
        *,
        watch: Callable[[Progress], None] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> Iterator[Finished]:
        """Stylise, frame after frame; those that are kept already are taken as they are.

        Args:
            clip: what to stylise.
            store: keeps finished frames; opened.
            part: which frames; None is all.
            watch: is told of every step.
            say: is told in a line what there is to know.

        Raises:
            InputFileError: no frames, or frames that are too small.
            ResourceError: there is not enough memory.
            NumericalError: see `convnd.optimize.minimize`.
        """
        part = Part() if part is None else part
        size = working_size(clip, self.options.size)
        self._prepare(size, say)
        past = _Past()
        total = count_frames(clip, part)
        for look in prefetch(lambda: looks(self.options, clip, part, size, store)):
            if look.cut:
                past = _Past()
            kept = store.records.get((1, look.number))
            if kept is not None:
                values = store.load(1, look.number)
            else:
                report = reporter(watch, look.number, total, self.options.passes)
                values, kept = self._frame(look, past, report)
                if self.options.passes > 1:
                    store.keep(0, look.number, look.content, {})
                store.keep(1, look.number, values, kept)
            yield Finished(number=look.number, content=look.content, values=values, record=kept)
            past.contents.append(look.content)
            past.values.append(values)
            while len(past.values) > self.options.references[-1]:
                past.contents.popleft()
                past.values.popleft()

    def run_back(
        self,
        store: FrameStore,
        count: int,
        *,
        watch: Callable[[Progress], None] | None = None,
    ) -> Iterator[Finished]:
        """The second pass, from the last frame to the first.

        Args:
            store: holds the frames of the first pass and the content.
            count: how many.
            watch: is told of every step.

        Raises:
            InputFileError: a kept frame is gone.
            NumericalError: see `convnd.optimize.minimize`.
        """
        later: Tensor | None = None
        later_content: Tensor | None = None
        for number in reversed(range(count)):
            content, values = store.load(0, number), store.load(1, number)
            began = time.perf_counter()
            between = None if later_content is None else motion(content, later_content)
            flow_seconds = time.perf_counter() - began
            cut_behind = number + 1 < count and store.records[1, number + 1]["cut"]
            kept = store.records.get((2, number))
            if kept is not None:
                values = store.load(2, number)
            else:
                record = dict(store.records[1, number])
                record |= {"flow": record["flow"] + flow_seconds}
                if between is not None and later is not None and not cut_behind:
                    target, mask = warp(later, between.forward), between.seen_after
                    start = torch.where(mask > 0, (values + target) / 2, values)
                    report = reporter(watch, 2 * count - 1 - number, count, 2)
                    began = time.perf_counter()
                    walk = self._walk(content, start, target, mask, report)
                    values = walk.values
                    record |= {
                        **walk.record(),
                        "steps": record["steps"] + walk.steps,
                        "rejected_steps": record["rejected_steps"] + walk.rejected_steps,
                        "features": record["features"] + time.perf_counter() - began,
                        "later_e_warp": warping_error(values, later, between),
                    }
                kept = record
                store.keep(2, number, values, kept)
            yield Finished(number=number, content=content, values=values, record=kept)
            later, later_content = values, content

    def _prepare(self, size: Sequence[int], say: Callable[[str], None] | None) -> None:
        transfer, options = self.transfer, self.options
        self._tell = self._tell if say is None else say
        styles = [transfer.style_at(style, size) for style in self.styles]
        budget = Budget(options, transfer.backbone, transfer.device, 1, say)
        budget.check(size, [style.shape[2:] for style in styles])
        self._tiler = budget.tiler(size)
        if self._tiler is not None:
            self._evaluate = TiledEvaluation(self._tiler)
        self._terms = transfer.style_terms(styles, tiler=self._tiler)

    def _frame(
        self, look: Look, past: _Past, report: Callable[[Step], None]
    ) -> tuple[Tensor, dict[str, Any]]:
        began = time.perf_counter()
        if past.values and self.options.mode == "flow":
            target, mask = _references(look.motions, past.values)
            # What comes into view: the input, in the colours that the result has.
            filler = match_colors(look.content, past.values[-1])
            start = torch.where(mask > 0, target, filler)
            walk = self._walk(look.content, start, target, mask, report)
        else:
            walk = self._begin(look.content, report)
        record: dict[str, Any] = {
            "pts": look.pts,
            "name": look.name,
            "cut": look.cut,
            **walk.record(),
            "e_warp": None,
            "input_e_warp": None,
            "codec": look.seconds["codec"],
            "flow": look.seconds["flow"],
            "features": time.perf_counter() - began,
        }
        if past.values:
            between = look.motions[1]
            record["e_warp"] = warping_error(past.values[-1], walk.values, between)
            record["input_e_warp"] = warping_error(past.contents[-1], look.content, between)
        return walk.values, record

    def _begin(self, content: Tensor, report: Callable[[Step], None]) -> _Walk:
        """A frame by itself: an ordinary transfer, coarse to fine."""
        last = walked(self.transfer.run(content, self.styles, on_message=self._tell), report)
        return _Walk(
            values=rounded(last.values),
            steps=last.index,
            rejected_steps=last.rejected_steps,
            loss=last.loss,
            parts=last.parts,
        )

    def _walk(
        self,
        content: Tensor,
        start: Tensor,
        target: Tensor,
        mask: Tensor,
        report: Callable[[Step], None],
    ) -> _Walk:
        """From a start near the end, held to a target, until it has come to rest."""
        options, device = self.options, self.transfer.device
        also = []
        if options.temporal_weight > 0:
            energy = float(target.square().sum(1).mean())
            loss = TemporalLoss(target.to(device), mask.to(device), reference=energy)
            also.append(Term("temporal", options.temporal_weight, loss))
        objective = self.transfer.objective(
            content.to(device),
            [],
            [1.0, 1.0],
            tiler=self._tiler,
            style_terms=self._terms,
            extra_terms=also,
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
            report(step)
            if step.note:
                self._tell(step.note)
            losses.append(step.loss)
            if best is None or step.loss <= best.loss:
                best = step
            if has_converged(losses, over=options.settle_over, tolerance=options.settle_tolerance):
                break
        assert best is not None
        return _Walk(
            values=rounded(best.values),
            steps=len(losses) - 1,
            rejected_steps=step.rejected_steps,
            loss=best.loss,
            parts=best.parts,
        )


def _references(motions: Mapping[int, Motion], values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """What earlier results say, each pixel by the nearest that can be relied on; and where."""
    target = torch.zeros_like(values[-1])
    mask = torch.zeros_like(values[-1][:, :1])
    for back, between in sorted(motions.items()):
        fresh = between.seen_before * (1 - mask)
        target = torch.where(fresh > 0, warp(values[-back], between.backward), target)
        mask = mask + fresh
    return target, mask
