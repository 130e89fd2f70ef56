"""Style transfer over any number of spatial axes: values in, optimisation steps out.

Pictures, signals, arrays and videos differ in how they are read and written. The optimisation
between reading and writing is here, once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from convnd.errors import UsageError
from convnd.losses import Objective, Term
from convnd.nn import resize_nd
from convnd.optimize import (
    Evaluator,
    ProcessGroup,
    ShardedEvaluation,
    ShardedField,
    Step,
    TiledEvaluation,
    evaluate_whole,
    evaluate_within,
    minimize,
    refine,
)
from convnd.optimize.base import is_count
from convnd.optimize.state import check_field, state_errors
from convnd.transfer.memory import MemoryBudget
from convnd.transfer.memory_model import MemoryModel
from convnd.transfer.objective import TransferObjective
from convnd.transfer.options import TransferOptions
from convnd.transfer.progress import Progress
from convnd.transfer.random_phase import random_phase_noise
from convnd.transfer.scales import Phase, compared_style_size, plan_phases
from convnd.transfer.step_cost import (
    count_transformed_weights,
    fixed_share,
    multiplications_per_sample,
)
from convnd.transfer.tiling_plan import TilingPlan

__all__ = ["StyleTransfer"]


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """The arguments of one `StyleTransfer.run`, resolved."""

    content: Tensor | None
    styles: Sequence[Tensor]
    size: tuple[int, ...]
    spacing: Sequence[float]
    init: Tensor | None
    style_grid: tuple[int, ...] | None
    feature_styles: Sequence[Tensor] | None
    initial: Callable[[Tensor], Tensor] | None
    extra_terms: Callable[[tuple[int, ...]], Sequence[Term]] | None
    known_bandwidth: float
    bounds: tuple[float, float] | None
    phases: Sequence[Phase]
    memory: Sequence[MemoryBudget]
    group: ProcessGroup
    on_message: Callable[[str], None]


@dataclass
class _Handover:
    """What a phase begins with, and then leaves to the optimiser alone.

    Args:
        values: to start from, the local part where several processes share them; None before the
            first phase.
        content: at the size of the phase before.
        memory: what the optimiser has learnt, and from how many times fewer samples, see
            `convnd.optimize.minimize`.
        state: of the optimiser, to resume from.
        taken: steps of the phases before, which may end early.
        rejected: how many of them were rejected.
    """

    values: Tensor | None = None
    content: Tensor | None = None
    memory: tuple[dict[str, Any], float] | None = None
    state: dict[str, Any] | None = None
    taken: int = 0
    rejected: int = 0

    def refine(
        self, size: tuple[int, ...], content: Tensor | None, shards: ShardedField | None
    ) -> None:
        """Resize the values for the next phase.

        Args:
            size: samples along each axis.
            content: at this size.
            shards: the processes that share them there.
        """
        assert self.values is not None
        contents = None if content is None or self.content is None else (self.content, content)
        values = refine(self.values, size, contents)
        self.values = values if shards is None else shards.local_part(values)

    def start(self) -> dict[str, Any]:
        """The arguments of `convnd.optimize.minimize`, which nothing here keeps alive."""
        arguments = {"start": self.values, "inherit": self.memory, "resume": self.state}
        self.values = self.content = self.memory = self.state = None
        return arguments


class StyleTransfer(TransferObjective):
    """Networks made ready once, for any number of transfers with the same options.

    Several networks work in turn: each continues the result of the one before, and compares it
    with targets of its own. What is inherited from `TransferObjective` is the last one's.

    Values are expected to span about ``[0, 1]``, as the backbones were trained. The kinds of data
    map colours, millivolts and Hounsfield units to that and back.

    Args:
        options: see `TransferOptions`.
        spatial_dims: number of spatial axes.
        in_channels: channels of the values.
        fixed_axes: leading axes that keep their length at every scale, as the frames of a video.
            A style with one sample along them says nothing of what happens there.
        planes: of data of three and more axes, see `convnd.backbones.MultiPlanar`.

    Raises:
        UsageError: an option names something that does not exist, see `convnd.backbones.load`.

    >>> options = TransferOptions(backbone="compact", size=0, steps=1, scales=1)
    >>> transfer = StyleTransfer(options, spatial_dims=1, in_channels=1)
    >>> wave = torch.linspace(0, 6, 64).sin().view(1, 1, 64)
    >>> [progress.step for progress in transfer.run(wave, [wave.flip(2)])]
    [0, 1]
    """

    def __init__(
        self,
        options: TransferOptions,
        *,
        spatial_dims: int,
        in_channels: int,
        fixed_axes: int = 0,
        planes: Collection[tuple[int, ...]] | None = None,
    ) -> None:
        *earlier, last = (dataclasses.replace(options, backbone=name) for name in options.backbones)
        shared: Any = {
            "spatial_dims": spatial_dims,
            "in_channels": in_channels,
            "fixed_axes": fixed_axes,
            "planes": planes,
        }
        before = [TransferObjective(each, **shared) for each in earlier]
        super().__init__(last, **shared)
        self.networks = (*before, self)
        self._shortest = max(
            network.backbone.shortest(network.options.layers) for network in self.networks
        )

    def run(
        self,
        content: Tensor | None,
        styles: Sequence[Tensor],
        *,
        size: Sequence[int] | None = None,
        spacing: Sequence[float] | None = None,
        init: Tensor | None = None,
        same_grid: bool = False,
        feature_styles: Sequence[Tensor] | None = None,
        initial: Callable[[Tensor], Tensor] | None = None,
        extra_terms: Callable[[tuple[int, ...]], Sequence[Term]] | None = None,
        known_bandwidth: float = 1.0,
        bounds: tuple[float, float] | None = None,
        resume: Mapping[str, Any] | None = None,
        group: ProcessGroup | None = None,
        on_message: Callable[[str], None] | None = None,
    ) -> Iterator[Progress]:
        """Optimise from coarse to fine, yielding every evaluated step.

        Args:
            content: ``(B, C, *S)``; None makes a texture out of the styles alone.
            styles: at least one ``(B, C, *S_i)``, of any size.
            size: samples of the result along each axis; None is the content's.
            spacing: distance between samples of the result along each axis, for total variation;
                None is 1 along every axis.
            init: the starting point, instead of the one that the options name.
            same_grid: styles are sampled as the result is (in time or in millimetres), and keep
                that sampling at every scale, however many samples they have.
            feature_styles: one for each style, compared by features in its place; statistics of
                values keep to ``styles``.
            initial: changes the content, or the noise that a texture starts from, into the starting
                point, where the options name the content as such.
            extra_terms: makes further terms of the objective for a size.
            known_bandwidth: share of the result's frequencies, from 0 to its Nyquist frequency,
                that the styles contain.
            bounds: lowest and highest value of a result, which is cut there when it is written,
                see `convnd.optimize.evaluate_within`; None is none.
            resume: `Progress.state` of an earlier run with the same arguments.
            group: the processes that share the work, each with the same arguments; None is this
                one alone.
            on_message: is called with one line when the work is cut into tiles, when memory runs
                out, and when steps are rejected.

        Raises:
            UsageError: no style, another number of weights than styles, or a texture without a
                size.
            ShapeError: the tensors do not fit the backbone.
            ResourceError: there is not enough memory; found out before any work is done.
            NumericalError: see `convnd.optimize.minimize`.
        """
        size = self._check(content, styles, size, init)
        group = ProcessGroup() if group is None else group
        for network in self.networks:
            network.resolve_layers(size)
        options = self.options
        problem = _Problem(
            content=content,
            styles=styles,
            size=size,
            spacing=[1.0] * len(size) if spacing is None else spacing,
            init=init,
            style_grid=size if same_grid else None,
            feature_styles=feature_styles,
            initial=initial,
            extra_terms=extra_terms,
            known_bandwidth=known_bandwidth,
            bounds=bounds,
            phases=plan_phases(
                size,
                scales=options.scales,
                steps=options.steps,
                costs=[_cost(network) for network in self.networks],
                fixed_axes=self.fixed_axes,
                shortest=self._shortest,
            ),
            memory=self._budgets(content, styles, group, on_message, bounds is not None),
            group=group,
            on_message=(lambda _: None) if on_message is None else on_message,
        )
        compared = styles if feature_styles is None else feature_styles
        sizes = [self._style_size(style, size, problem.style_grid) for style in compared]
        for budget in problem.memory:
            budget.check(size, sizes)
        yield from self._run_phases(problem, resume)

    def _budgets(
        self,
        content: Tensor | None,
        styles: Sequence[Tensor],
        group: ProcessGroup,
        on_message: Callable[[str], None] | None,
        bounded: bool,
    ) -> list[MemoryBudget]:
        """The memory budget of each network."""
        location = None if content is None else (content.device, tuple(content.shape[2:]))
        batch = styles[0].shape[0]
        shared = self.device, batch, group, location, bounded
        return [
            MemoryBudget(MemoryModel(network.options, network.backbone, *shared), on_message)
            for network in self.networks
        ]

    def _check(
        self,
        content: Tensor | None,
        styles: Sequence[Tensor],
        size: Sequence[int] | None,
        init: Tensor | None,
    ) -> tuple[int, ...]:
        """Check the inputs of `run`; returns the size of the result."""
        if not styles:
            raise UsageError(
                "style transfer", expected="at least one style", got="none", remedy="give one"
            )
        self.options.check_style_weights(len(styles))
        if size is None:
            if content is None:
                raise UsageError(
                    "texture", expected="a size", got="neither size nor content", remedy="give one"
                )
            size = content.shape[2:]
        for values in (content, init, *styles):
            if values is not None:
                self.backbone.check(values, ())
        return tuple(size)

    def _run_phases(
        self, problem: _Problem, resume: Mapping[str, Any] | None
    ) -> Iterator[Progress]:
        """Every phase after the other; each starts from the refined result of the one before."""
        generator = torch.Generator().manual_seed(self.options.seed)
        handover = _Handover()
        if resume is not None:
            self._check_state(problem, resume)
        for phase in problem.phases:
            if resume is not None and phase.number < resume["phase"]:
                continue
            content = None
            if problem.content is not None:
                content = self._resized(problem.content, phase.size)
            styles = self._styles_at(problem.styles, phase.size, problem.style_grid)
            shards = ShardedField(phase.size, problem.group) if problem.group.size > 1 else None
            if resume is not None:
                handover = self._handover_of(resume)
                resume = None
            elif handover.values is None:
                values = self._initial(problem, content, styles, phase.size, generator)
                handover.values = values if shards is None else shards.local_part(values)
                del values
            elif problem.phases[phase.number - 1].size != phase.size:
                handover.refine(phase.size, content, shards)
            plan = problem.memory[phase.network].plan(phase.size)
            objective = self._objective_at(problem, phase, content, styles, plan, shards)
            del styles  # they may be as large as the result
            for progress in self._run_phase(problem, phase, objective, plan, shards, handover):
                yield progress
                values, state = progress.values, progress.state
            following = problem.phases[phase.number + 1 :][:1]
            self._note_early_end(problem, phase, progress.step - handover.taken, bool(following))
            handover = _Handover(
                values, content, None, None, progress.step, progress.rejected_steps
            )
            for after in following:
                ratio = after.samples / phase.samples
                # Sums over positions grow with their number, and so do their gradients.
                if ratio == 1 or self.options.normalization in ("balanced", "mean"):
                    handover.memory = state()["optimizer"]["optimizer"], ratio
                if ratio != 1 and shards is not None:
                    handover.values = shards.gather(values)  # much smaller than the next size
            del progress, objective, values, state

    def _handover_of(self, resume: Mapping[str, Any]) -> _Handover:
        """What a phase continues from after an interruption: the optimiser's own state."""
        state = resume["optimizer"]
        taken, rejected = resume["before"]
        values = state["step"]["values"].to(self.device)
        return _Handover(values, None, None, state, taken, rejected)

    @staticmethod
    def _note_early_end(problem: _Problem, phase: Phase, steps: int, more: bool) -> None:
        """Tell users that the last phase has ended before all of its steps."""
        if not more and steps < phase.steps:
            problem.on_message(
                f"nothing is gained any more: {steps} of the last {phase.steps} steps are taken"
            )

    @staticmethod
    def _check_state(problem: _Problem, resume: Mapping[str, Any]) -> None:
        """Check what the optimiser does not: the phase, and the size of the values in it."""
        with state_errors():
            number = resume["phase"]
            taken, rejected = resume["before"]
            if not all(map(is_count, (number, taken, rejected))):
                raise ValueError("no number of a phase or of steps")
            field = ShardedField(problem.phases[number].size, problem.group)
            extents = [stop - start for start, stop in field.local_box]
            values = resume["optimizer"]["step"]["values"]
            check_field(values, (*problem.styles[0].shape[:2], *extents))

    def _run_phase(
        self,
        problem: _Problem,
        phase: Phase,
        objective: Objective,
        plan: TilingPlan,
        shards: ShardedField | None,
        handover: _Handover,
    ) -> Iterator[Progress]:
        """One phase: its evaluator and its steps."""
        tiler = plan.tiler
        evaluate: Evaluator = evaluate_whole if tiler is None else TiledEvaluation(tiler)
        if shards is not None and tiler is not None:
            evaluate = ShardedEvaluation(tiler, shards)
        if problem.bounds is not None:
            evaluate = evaluate_within(evaluate, problem.bounds)
        last = problem.phases[-1]
        work = max(1, last.work_before + last.work)
        before = handover.taken, handover.rejected
        share_fixed = _fixed_share(
            self.networks[phase.network], problem.styles[0].shape[0] * phase.samples
        )
        for step in self.optimize(
            objective,
            **handover.start(),
            evaluate=evaluate,
            steps=phase.steps,
            tolerance=self.options.tolerance,
            all_reduce=problem.group.all_reduce,
            offload=plan.offload(),
        ):
            if step.note:
                problem.on_message(step.note)
            share = step.index / max(1, phase.steps)
            yield Progress(
                step=before[0] + step.index,
                steps=before[0] + last.steps_before + last.steps - phase.steps_before,
                phase=phase.number + 1,
                phases=len(problem.phases),
                fraction_done=(phase.work_before + share * phase.work) / work,
                loss=step.loss,
                parts=step.parts,
                values=step.values,
                rejected_steps=before[1] + step.rejected_steps,
                state=partial(_state, phase.number, before, step),
                shards=shards,
                fixed_share=share_fixed,
            )

    def _objective_at(
        self,
        problem: _Problem,
        phase: Phase,
        content: Tensor | None,
        styles: Sequence[Tensor],
        plan: TilingPlan,
        shards: ShardedField | None,
    ) -> Objective:
        """The objective of one phase."""
        compared = styles
        if problem.feature_styles is not None:
            compared = self._styles_at(problem.feature_styles, phase.size, problem.style_grid)
        spacing = [
            step * whole / part
            for step, whole, part in zip(problem.spacing, problem.size, phase.size, strict=True)
        ]
        extra = () if problem.extra_terms is None else problem.extra_terms(phase.size)
        return self.networks[phase.network].objective(
            content,
            compared,
            spacing,
            value_styles=styles,
            known_bandwidth=min(1.0, problem.known_bandwidth * problem.size[0] / phase.size[0]),
            tiler=plan.tiler,
            keep=plan.keep_content,
            shards=shards,
            extra_terms=extra,
        )

    def optimize(
        self, objective: Objective, start: Tensor, *, evaluate: Evaluator, **more: Any
    ) -> Iterator[Step]:
        """The steps of one phase, see `convnd.optimize.minimize`."""
        return minimize(
            objective,
            start,
            optimizer=self.options.optimizer,
            learning_rate=self.options.learning_rate,
            evaluate=evaluate,
            **more,
        )

    def _resized(self, values: Tensor, size: Sequence[int]) -> Tensor:
        if tuple(values.shape[2:]) == tuple(size):
            return values.to(self.device)
        return resize_nd(values.to(self.device), size, mode="linear", antialias=True)

    def _style_size(
        self, style: Tensor, size: Sequence[int], style_grid: Sequence[int] | None
    ) -> list[int]:
        """Samples of a style along each axis where it is compared with a result of a size."""
        extents, first = style.shape[2:], self.fixed_axes
        whole = extents if style_grid is None or (first and extents[0] == 1) else style_grid
        resized = compared_style_size(
            extents[first:],
            size[first:],
            whole[first:],
            scale=self.options.style_scale,
            shortest=self._shortest,
        )
        return [*extents[:first], *resized]

    def style_at(
        self, style: Tensor, size: Sequence[int], style_grid: Sequence[int] | None = None
    ) -> Tensor:
        """A style at the size at which it is compared with a result.

        Args:
            style: ``(1, C, *S_i)``.
            size: of the result.
            style_grid: the result's full size, where styles are sampled as it is (see `run`).
        """
        return self._resized(style, self._style_size(style, size, style_grid))

    def _styles_at(
        self, styles: Sequence[Tensor], size: Sequence[int], style_grid: Sequence[int] | None
    ) -> list[Tensor]:
        return [self.style_at(style, size, style_grid) for style in styles]

    def _initial(
        self,
        problem: _Problem,
        content: Tensor | None,
        styles: Sequence[Tensor],
        size: Sequence[int],
        generator: torch.Generator,
    ) -> Tensor:
        """The starting point of the first phase."""
        if problem.init is not None:
            return self._resized(problem.init, size)
        if self.options.init == "style":
            return resize_nd(styles[0], size, mode="linear", antialias=True)
        if self.options.init == "content" and content is not None:
            return content if problem.initial is None else problem.initial(content)
        # Drawn on the CPU, so that a seed means the same on every device.
        if content is None and self.options.init == "content":
            weights = self.options.style_weights
            noise = random_phase_noise(styles, size, weights=weights, generator=generator)
            return noise if problem.initial is None else problem.initial(noise)
        shape = (*styles[0].shape[:2], *size)
        return torch.rand(shape, generator=generator).to(self.device)


def _cost(network: TransferObjective) -> float:
    """Time of a step with a network, relative to others, at equal numbers of samples.

    Part of it is arithmetic, which grows with the number of weights, and part is traffic of memory,
    which grows with that of features. Their geometric mean gives 0.36 for compact relative to
    VGG-19, and 0.34 was measured.
    """
    weights = sum(parameter.numel() for parameter in network.backbone.parameters())
    one = [64] * network.backbone.spatial_dims
    features = network.backbone.activation_bytes(one, network.options.layers)
    return math.sqrt(max(1, weights) * max(1, features))


def _fixed_share(network: TransferObjective, samples: int) -> float:
    """The share of a step's time that does not depend on the size, see `fixed_share`."""
    backbone, precision = network.backbone, network.precision
    work = multiplications_per_sample(backbone) * samples
    transformed = count_transformed_weights(backbone) if precision.winograd else 0
    return fixed_share(work, precision.dtype, transformed)


def _state(phase: int, before: tuple[int, int], step: Step) -> dict[str, Any]:
    return {"phase": phase, "before": list(before), "optimizer": step.state()}
