"""Style transfer over any number of spatial axes: values in, optimisation steps out.

Pictures, signals, arrays and videos differ in how they are read and written. The optimisation
between reading and writing is here, once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

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
from convnd.transfer.scales import Scale, compared_style_size, plan_scales
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
    scales: Sequence[Scale]
    memory: MemoryBudget
    group: ProcessGroup
    on_message: Callable[[str], None]


class _Counts(NamedTuple):
    """Steps of the coarser scales, which may end early, and how many of them were rejected."""

    taken: int = 0
    rejected: int = 0


class StyleTransfer(TransferObjective):
    """A network made ready once, for any number of transfers with the same options.

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
        super().__init__(
            options,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            fixed_axes=fixed_axes,
            planes=planes,
        )
        strides = [
            max(map(int, self.backbone.receptive_fields[name].stride))
            for name in self.options.layers
            if name in self.backbone.receptive_fields
        ]
        # Samples along an axis for one position in the deepest layer, where that is known.
        self._shortest = max(strides, default=1)

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
        self.resolve_layers(size)
        options = self.options
        location = None if content is None else (content.device, tuple(content.shape[2:]))
        batch = styles[0].shape[0]
        model = MemoryModel(options, self.backbone, self.device, batch, group, location)
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
            scales=plan_scales(
                size,
                scales=options.scales,
                steps=options.steps,
                fixed_axes=self.fixed_axes,
                shortest=self._shortest,
            ),
            memory=MemoryBudget(model, on_message),
            group=group,
            on_message=(lambda _: None) if on_message is None else on_message,
        )
        compared = styles if feature_styles is None else feature_styles
        problem.memory.check(
            size, [self._style_size(style, size, problem.style_grid) for style in compared]
        )
        yield from self._run_scales(problem, resume)

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

    def _run_scales(
        self, problem: _Problem, resume: Mapping[str, Any] | None
    ) -> Iterator[Progress]:
        """Every scale after the other; each starts from the refined result of the one before."""
        generator = torch.Generator().manual_seed(self.options.seed)
        values: Tensor | None = None
        coarse_content: Tensor | None = None
        before = _Counts()
        if resume is not None:
            self._check_state(problem, resume)
        for scale in problem.scales:
            if resume is not None and scale.number < resume["scale"]:
                continue
            content = None
            if problem.content is not None:
                content = self._resized(problem.content, scale.size)
            styles = self._styles_at(problem.styles, scale.size, problem.style_grid)
            optimizer_state = None
            if resume is not None:  # the optimiser's state brings its own values
                optimizer_state, before = resume["optimizer"], _Counts(*resume["before"])
                values = optimizer_state["step"]["values"].to(self.device)
                resume = None
            elif values is None:
                values = self._initial(problem, content, styles, scale.size, generator)
            else:
                contents = None
                if content is not None and coarse_content is not None:
                    contents = coarse_content, content
                values = refine(values, scale.size, contents)
                del contents
            coarse_content = None
            plan = problem.memory.plan(scale.size)
            shards = ShardedField(scale.size, problem.group) if problem.group.size > 1 else None
            objective = self._objective_at(problem, scale, content, styles, plan, shards)
            del styles  # they may be as large as the result
            start = [values]  # handed over, so that the optimiser alone holds it
            values = None
            for progress in self._run_scale(
                problem, scale, objective, plan, shards, start, optimizer_state, before
            ):
                yield progress
                values = progress.values
            assert values is not None
            if progress.shards is not None and scale.number + 1 < len(problem.scales):
                values = progress.shards.gather(values)  # much smaller than the next scale
            before = _Counts(progress.step, progress.rejected_steps)
            coarse_content = content
            del progress, optimizer_state, objective

    @staticmethod
    def _check_state(problem: _Problem, resume: Mapping[str, Any]) -> None:
        """Check what the optimiser does not: the scale, and the size of the values at it."""
        with state_errors():
            number = resume["scale"]
            if not all(map(is_count, (number, *_Counts(*resume["before"])))):
                raise ValueError("no number of a scale or of steps")
            field = ShardedField(problem.scales[number].size, problem.group)
            extents = [stop - start for start, stop in field.local_box]
            values = resume["optimizer"]["step"]["values"]
            check_field(values, (*problem.styles[0].shape[:2], *extents))

    def _run_scale(
        self,
        problem: _Problem,
        scale: Scale,
        objective: Objective,
        plan: TilingPlan,
        shards: ShardedField | None,
        start: list[Tensor],
        optimizer_state: dict[str, Any] | None,
        before: _Counts,
    ) -> Iterator[Progress]:
        """One scale: its evaluator and its steps."""
        tiler = plan.tiler
        evaluate: Evaluator = evaluate_whole if tiler is None else TiledEvaluation(tiler)
        values = start.pop()
        if shards is not None and tiler is not None:
            evaluate = ShardedEvaluation(tiler, shards)
            values = values if optimizer_state is not None else shards.local_part(values)
        handed_over = [values]
        del values
        samples = problem.styles[0].shape[0] * scale.samples
        work_of_step = multiplications_per_sample(self.backbone) * samples
        transformed = count_transformed_weights(self.backbone) if self.precision.winograd else 0
        share = fixed_share(work_of_step, self.precision.dtype, transformed)
        last = problem.scales[-1]
        work = last.work_before + last.steps * last.samples
        for step in self.optimize(
            objective,
            handed_over.pop(),
            evaluate=evaluate,
            steps=scale.steps,
            all_reduce=problem.group.all_reduce,
            offload=plan.offload(),
            resume=optimizer_state,
        ):
            if step.note:
                problem.on_message(step.note)
            yield Progress(
                step=before.taken + step.index,
                steps=before.taken + last.steps_before + last.steps - scale.steps_before,
                scale=scale.number + 1,
                scales=len(problem.scales),
                fraction_done=(scale.work_before + step.index * scale.samples) / max(work, 1),
                loss=step.loss,
                parts=step.parts,
                values=step.values,
                rejected_steps=before.rejected + step.rejected_steps,
                state=partial(_state, scale.number, before, step),
                shards=shards,
                fixed_share=share,
            )

    def _objective_at(
        self,
        problem: _Problem,
        scale: Scale,
        content: Tensor | None,
        styles: Sequence[Tensor],
        plan: TilingPlan,
        shards: ShardedField | None,
    ) -> Objective:
        """The objective at one scale."""
        compared = styles
        if problem.feature_styles is not None:
            compared = self._styles_at(problem.feature_styles, scale.size, problem.style_grid)
        spacing = [
            step * whole / part
            for step, whole, part in zip(problem.spacing, problem.size, scale.size, strict=True)
        ]
        extra = () if problem.extra_terms is None else problem.extra_terms(scale.size)
        return self.objective(
            content,
            compared,
            spacing,
            value_styles=styles,
            known_bandwidth=min(1.0, problem.known_bandwidth * problem.size[0] / scale.size[0]),
            tiler=plan.tiler,
            keep=plan.keep_content,
            shards=shards,
            extra_terms=extra,
        )

    def optimize(
        self, objective: Objective, start: Tensor, *, evaluate: Evaluator, **more: Any
    ) -> Iterator[Step]:
        """The steps at one scale, see `convnd.optimize.minimize`."""
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
        """The starting point of the coarsest scale."""
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


def _state(scale: int, before: _Counts, step: Step) -> dict[str, Any]:
    return {"scale": scale, "before": list(before), "optimizer": step.state()}
