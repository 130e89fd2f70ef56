"""The phases of one transfer, each of which continues the result of the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from convnd.backbones import MultiPlanar
from convnd.losses import Objective
from convnd.optimize import (
    Evaluator,
    ProcessGroup,
    ShardedEvaluation,
    ShardedField,
    Smoothing,
    Step,
    TiledEvaluation,
    evaluate_masked,
    evaluate_whole,
    evaluate_within,
)
from convnd.transfer.adjustment import Adjust, TargetMemory, check_adjustment
from convnd.transfer.handover import Handover, check_resumed, local_part
from convnd.transfer.memory import MemoryBudget, check_budgets
from convnd.transfer.memory_model import MemoryModel
from convnd.transfer.objective import TransferObjective
from convnd.transfer.problem import TransferProblem
from convnd.transfer.progress import Progress
from convnd.transfer.regions import StyleRegion
from convnd.transfer.resizing import Resizer
from convnd.transfer.scales import Phase, pattern_scale, plan_phases
from convnd.transfer.starting_point import DetailMaker, starting_point
from convnd.transfer.step_cost import count_statistics, fixed_share_of_step, step_cost
from convnd.transfer.tiling_plan import TilingPlan

__all__ = ["PhaseRunner"]


class PhaseRunner:
    """Plans the phases of one transfer and runs them.

    Args:
        problem: inputs of the transfer.
        networks: networks in the order of their work, with resolved layers.
        resizer: resizes the inputs.
        optimize: makes the steps of one phase, see `convnd.optimize.minimize`.
        group: the processes that share the work.
        on_message: is called with one line when the work is cut into tiles, when memory runs out,
            and when steps are rejected.
        adjust: is asked after every step whether problem or options change; None is nobody.

    Raises:
        ResourceError: there is not enough memory.
    """

    def __init__(
        self,
        problem: TransferProblem,
        networks: Sequence[TransferObjective],
        resizer: Resizer,
        optimize: Callable[..., Iterator[Step]],
        group: ProcessGroup,
        on_message: Callable[[str], None],
        adjust: Adjust | None = None,
    ) -> None:
        self._adjust, self._last_step = adjust, -1
        self._problem = problem
        self._networks = networks
        self._resizer = resizer
        self._optimize = optimize
        self._group = group
        self._on_message = on_message
        self._options = networks[-1].options
        styles = [
            resizer.style_size(style.shape[2:], problem.size, problem.style_grid)
            for style in problem.compared_styles
        ]
        first, plane = resizer.fixed_axes, problem.size[resizer.fixed_axes :]
        scales = [pattern_scale(style[first:], plane) for style in styles]
        if problem.content is None:  # a texture's detail begins with noise, and needs its steps
            scales = [0.0]
        self._phases = plan_phases(
            problem.size,
            scales=self._options.scales,
            steps=self._options.steps,
            costs=[step_cost(network.backbone, network.options.layers) for network in networks],
            fixed_axes=resizer.fixed_axes,
            shortest=resizer.shortest,
            pattern_scale=min(scales),
        )
        content, batch = problem.content, problem.styles[0].shape[0]
        location = None if content is None else (content.device, tuple(content.shape[2:]))
        cut = problem.bounds is not None or problem.mask is not None
        shared = resizer.device, batch, group, location, cut
        self._budgets = [
            MemoryBudget(MemoryModel(network.options, network.backbone, *shared), on_message)
            for network in networks
        ]
        finest = {phase.network for phase in self._phases if phase.size == self._phases[-1].size}
        check_budgets([self._budgets[network] for network in finest], problem.size, styles)
        for region in self._regions_at(self._phases[-1]):
            layers = networks[-1].narrow_layers(region)
            names = dict.fromkeys(map(MultiPlanar.slice_layer, layers))  # once for all planes
            if names:
                on_message(
                    f"{region.name} is smaller than the receptive field of {', '.join(names)}: "
                    "its surroundings count there, too"
                )

    def run(self, resume: Mapping[str, Any] | None) -> Iterator[Progress]:
        """Yield the steps of every phase.

        Args:
            resume: `Progress.state` of an earlier run, or None.
        """
        problem, handover, first = self._problem, Handover(), 0
        if resume is not None:
            check_resumed(resume, self._phases, self._group, problem.styles[0].shape[:2])
            first = resume["phase"]
        for phase in self._phases[first:]:
            content = None
            if problem.content is not None:
                content = self._resizer.resize_field(problem.content, phase.size)
            styles = self._at_size(self._problem.styles, phase)
            shards = ShardedField(phase.size, self._group) if self._group.size > 1 else None
            if resume is not None:
                handover = Handover.resumed(resume, self._resizer.device)
                resume = None
            elif handover.values is None:
                values = starting_point(
                    problem, self._options, self._resizer, content, styles, phase.size, self._group
                )
                mask = self._mask_at(phase)
                if content is not None and mask is not None:
                    values = torch.where(mask > 0, values, content)
                handover.values = local_part(values, shards)
                del values
            elif self._phases[phase.number - 1].size != phase.size:
                detail = DetailMaker(
                    problem,
                    self._options,
                    self._resizer,
                    self._regions_at(phase),
                    self._phases[phase.number - 1].size,
                )
                added = partial(detail.change, content, styles)
                handover.refine(phase.size, content, shards, added, periodic=self._resizer.periodic)
                del added
            plan = self._budgets[phase.network].plan(phase.size)
            memory = None if self._adjust is None else TargetMemory()
            evaluate = self._evaluator(phase, plan, shards, content)
            is_adjusted = True
            while is_adjusted:
                objective = self._objective(phase, content, styles, plan, shards, memory)
                del styles  # they may be as large as the result
                is_adjusted = False
                for progress in self._run_phase(phase, objective, evaluate, plan, shards, handover):
                    yield progress
                    is_adjusted = self._take_adjustment(progress.step)
                    if is_adjusted:
                        break
                steps = progress.step - handover.steps
                handover = self._hand_over(phase, progress, content, again=is_adjusted)
                styles = self._at_size(self._problem.styles, phase) if is_adjusted else []
                del progress, objective
            if phase is self._phases[-1] and steps < phase.steps:
                self._on_message(
                    f"the loss no longer falls: {steps} of the last {phase.steps} steps are taken"
                )

    def _take_adjustment(self, step: int) -> bool:
        """Take other options or another problem after a step; return whether there are any."""
        is_new, self._last_step = step != self._last_step, step
        if not is_new or self._adjust is None or (adjustment := self._adjust(step)) is None:
            return False
        check_adjustment(self._problem, adjustment)
        self._problem, options = adjustment
        self._networks = [network.with_live_options(options) for network in self._networks]
        self._resizer = replace(self._resizer, style_scale=options.style_scale)
        self._options = self._networks[-1].options
        return True

    def _at_size(self, styles: Sequence[Tensor], phase: Phase) -> list[Tensor]:
        grid = self._problem.style_grid
        return [self._resizer.style_at(style, phase.size, grid) for style in styles]

    def _regions_at(self, phase: Phase) -> list[StyleRegion]:
        resize = partial(self._resizer.resize, size=phase.size)
        return [region.resized(resize) for region in self._problem.regions]

    def _objective(
        self,
        phase: Phase,
        content: Tensor | None,
        styles: Sequence[Tensor],
        plan: TilingPlan,
        shards: ShardedField | None,
        memory: TargetMemory | None,
    ) -> Objective:
        """Make the objective of one phase."""
        problem = self._problem
        compared = styles
        if problem.feature_styles is not None:
            compared = self._at_size(problem.feature_styles, phase)
        return self._networks[phase.network].objective(
            content,
            compared,
            problem.spacing_at(phase.size),
            value_styles=styles,
            known_bandwidth=problem.bandwidth_at(phase.size),
            tiler=plan.tiler,
            keep=plan.keep_content,
            shards=shards,
            extra_terms=() if problem.extra_terms is None else problem.extra_terms(phase.size),
            regions=self._regions_at(phase),
            strength=problem.strength,
            memory=memory,
        )

    def _run_phase(
        self,
        phase: Phase,
        objective: Objective,
        evaluate: Evaluator,
        plan: TilingPlan,
        shards: ShardedField | None,
        handover: Handover,
    ) -> Iterator[Progress]:
        """Yield the steps of one phase."""
        network, last = self._networks[phase.network], self._phases[-1]
        work = last.work_before + last.work
        steps, rejected_steps = counts = handover.steps, handover.rejected_steps
        samples = self._problem.styles[0].shape[0] * phase.samples
        share_fixed = fixed_share_of_step(
            network.backbone, network.precision, samples, count_statistics(objective)
        )
        for step in self._optimize(
            objective,
            **handover.start(),
            evaluate=evaluate,
            steps=phase.steps,
            tolerance=self._options.tolerance,
            all_reduce=self._group.all_reduce,
            offload=plan.offload(),
            history=plan.history,
            precondition=self._precondition(phase, shards),
        ):
            if step.note:
                self._on_message(step.note)
            yield Progress(
                step=steps + step.index,
                steps=steps + last.steps_before + last.steps - phase.steps_before,
                phase=phase.number + 1,
                phases=len(self._phases),
                fraction_done=(phase.work_before + phase.work_until(step.index)) / work,
                loss=step.loss,
                parts=step.parts,
                values=step.values,
                rejected_steps=rejected_steps + step.rejected_steps,
                state=partial(_state, phase.number, counts, step),
                shards=shards,
                fixed_share=share_fixed,
            )

    def _precondition(
        self, phase: Phase, shards: ShardedField | None
    ) -> Callable[[Tensor], Tensor] | None:
        """Make the preconditioner of L-BFGS in one phase, see `Smoothing`."""
        if self._options.optimizer != "lbfgs":
            return None
        smoothing = Smoothing(
            phase.size,
            fixed_axes=range(self._resizer.fixed_axes),
            periodic=self._resizer.periodic,
        )
        mask = self._mask_at(phase)

        def precondition(values: Tensor) -> Tensor:
            values = values if shards is None else shards.gather(values)
            if mask is None:
                return local_part(smoothing(values), shards)
            # A gradient is 0 outside of the mask, and the step has to be so too.
            return local_part(smoothing(values * mask) * mask, shards)

        return precondition

    def _mask_at(self, phase: Phase) -> Tensor | None:
        mask = self._problem.mask
        return None if mask is None else self._resizer.resize(mask, phase.size).clamp(0, 1)

    def _evaluator(
        self,
        phase: Phase,
        plan: TilingPlan,
        shards: ShardedField | None,
        content: Tensor | None,
    ) -> Evaluator:
        """Make the evaluator of a phase: whole, in tiles, or shared by processes."""
        tiler, problem = plan.tiler, self._problem
        evaluate: Evaluator = evaluate_whole if tiler is None else TiledEvaluation(tiler)
        if shards is not None and tiler is not None:
            evaluate = ShardedEvaluation(tiler, shards)
        mask = self._mask_at(phase)
        if content is not None and mask is not None:
            local_content = local_part(content, shards)
            evaluate = evaluate_masked(evaluate, local_content, local_part(mask, shards))
        return evaluate if problem.bounds is None else evaluate_within(evaluate, problem.bounds)

    def _hand_over(
        self, phase: Phase, progress: Progress, content: Tensor | None, *, again: bool
    ) -> Handover:
        """Make the handover to the next phase, or to this one once more."""
        handover = Handover(
            progress.values,
            content,
            steps=progress.step,
            rejected_steps=progress.rejected_steps,
        )
        following_number = phase.number + (not again)
        for following in self._phases[following_number : following_number + 1]:
            ratio = following.samples / phase.samples
            # Sums over positions grow with their number, and so do their gradients.
            if ratio == 1 or self._options.normalization in ("balanced", "mean"):
                handover.memory = progress.state()["optimizer"]["optimizer"], ratio
            if ratio != 1 and progress.shards is not None:
                # The whole field is needed to resize it, and is much smaller than the next one.
                handover.values = progress.shards.gather(progress.values)
        return handover


def _state(phase: int, counts: tuple[int, int], step: Step) -> dict[str, Any]:
    return {"phase": phase, "before": list(counts), "optimizer": step.state()}
