"""Style transfer over any number of spatial axes: values in, steps out.

Images, signals, volumes and clips differ in how they are read and written. What happens in
between is here, once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from convnd.backbones import BACKBONES, INFLATIONS
from convnd.backbones.user_models import is_user_model
from convnd.errors import UsageError
from convnd.losses import Objective, Term, check_normalization
from convnd.nn import resize_nd
from convnd.optimize import (
    OPTIMIZERS,
    Evaluator,
    ProcessGroup,
    ShardedEvaluation,
    ShardedField,
    Step,
    TiledEvaluation,
    evaluate_whole,
    minimize,
    pyramid_sizes,
    refine,
    spread_steps,
)
from convnd.registry import unknown_name
from convnd.stats import STATISTICS
from convnd.transfer.memory import Budget
from convnd.transfer.objective import TransferObjective
from convnd.transfer.options import TransferOptions

__all__ = ["Progress", "StyleTransfer", "check_names", "fit"]


@dataclass(frozen=True)
class Progress:
    """One evaluated iterate of a transfer.

    Args:
        step: of `steps`, over all scales; 0 is the start.
        steps: how many there will be.
        scale: number of the current size, from 1 (coarse).
        scales: how many sizes.
        done: share of the whole work that is done, in ``[0, 1]``.
        loss: the objective.
        parts: weighted share of content, style and smoothness in it.
        values: the iterate ``(1, C, *S)`` at the current size; of several processes, the part of
            this one.
        rejected_steps: number of rejected steps so far, see `convnd.optimize.minimize`.
        state: all that a transfer needs to go on from here; to be asked for before the next
            step is.
        shards: who has which part; None where one process has it all.
        beside: likewise of other fields in the state, of other sizes.
    """

    step: int
    steps: int
    scale: int
    scales: int
    done: float
    loss: float
    parts: Mapping[str, float]
    values: Tensor
    rejected_steps: int = 0
    state: Callable[[], dict[str, Any]] = field(default=dict, repr=False, compare=False)
    shards: ShardedField | None = field(default=None, repr=False, compare=False)
    beside: Sequence[ShardedField] = field(default=(), repr=False, compare=False)

    @property
    def size(self) -> tuple[int, ...]:
        """Extent of the whole iterate along each axis."""
        return tuple(self.values.shape[2:]) if self.shards is None else self.shards.size

    def whole(self) -> Tensor | None:
        """All of the iterate, for process 0; None for others, who have to ask as well."""
        return self.values if self.shards is None else self.shards.gather_to_root(self.values)


def fit(size: Sequence[int], longest: int) -> tuple[int, ...]:
    """The extents scaled so that the longest is ``longest``; an axis of length 1 stays.

    Args:
        size: extents along each axis.
        longest: 0 leaves them as they are.

    >>> fit((600, 800), 512), fit((600, 800), 0)
    ((384, 512), (600, 800))
    """
    if longest == 0:
        return tuple(size)
    ratio = longest / max(size)
    return tuple(max(1, round(extent * ratio)) for extent in size)


def check_names(options: TransferOptions) -> None:
    """Refuse names that no table holds, before anything is read or loaded.

    Raises:
        UnknownNameError: no such backbone, layer, inflation, statistic, optimizer or normalization.
        UsageError: a module of the user's is to have its pooling or rank changed.
    """
    if not is_user_model(options.backbone):
        BACKBONES[options.backbone].plan.truncate(options.layers)
    elif (options.pooling, options.inflation) != (
        TransferOptions.pooling,
        TransferOptions.inflation,
    ):
        raise UsageError(
            "--backbone: expected one of the shipped networks with --pooling and --inflation, got "
            f"{options.backbone}, which is run as it is; leave them out"
        )
    if options.inflation not in (*INFLATIONS, "multiplanar", "auto"):
        raise unknown_name("inflation", options.inflation, ["auto", "multiplanar", *INFLATIONS])
    for name in (options.style_loss, *options.value_statistics):
        STATISTICS[name]
    OPTIMIZERS[options.optimizer]
    check_normalization(options.normalization)


class StyleTransfer(TransferObjective):
    """A network made ready once, for any number of transfers with the same options.

    Values are expected to span about ``[0, 1]``, as the backbones were trained; the task modules
    map HU, millivolts and colours to that and back.

    Args:
        options: see `TransferOptions`.
        spatial_dims: number of spatial axes.
        in_channels: channels of the values.
        steady: axes at the front that are never made coarser, as the frames of a clip. A style of
            one sample along them says nothing of what happens there.

    Raises:
        UsageError: an option names something that does not exist, see `convnd.backbones.load`.
    """

    def __init__(
        self, options: TransferOptions, *, spatial_dims: int, in_channels: int, steady: int = 0
    ) -> None:
        super().__init__(options, spatial_dims=spatial_dims, in_channels=in_channels, steady=steady)
        # Samples along an axis for one position in the deepest layer, where that is known.
        fields = [
            self.backbone.receptive_fields[name]
            for name in self.options.layers
            if name in self.backbone.receptive_fields
        ]
        self._needed = max((max(map(int, field.stride)) for field in fields), default=1)

    def run(
        self,
        content: Tensor | None,
        styles: Sequence[Tensor],
        *,
        size: Sequence[int] | None = None,
        spacing: Sequence[float] | None = None,
        start: Tensor | None = None,
        same_grid: bool = False,
        feature_styles: Sequence[Tensor] | None = None,
        initial: Callable[[Tensor], Tensor] | None = None,
        extra_terms: Callable[[tuple[int, ...]], Sequence[Term]] | None = None,
        band: float = 1.0,
        say: Callable[[str], None] | None = None,
        resume: Mapping[str, Any] | None = None,
        group: ProcessGroup | None = None,
    ) -> Iterator[Progress]:
        """Transfer, from coarse to fine, yielding every evaluated iterate.

        Args:
            content: ``(B, C, *S)``; None makes a texture out of the styles alone.
            styles: at least one ``(B, C, *S_i)``, of any size.
            size: extent of the result; None is the content's.
            spacing: distance between samples of the result along each axis, for smoothness;
                None is 1 everywhere.
            start: the iterate to start with, instead of what the options name.
            same_grid: styles are sampled as the result is (in time, or in millimetres), and keep
                to that at every size, however many samples they have.
            feature_styles: what features are compared with instead of ``styles``, one for each;
                statistics of values keep to ``styles``.
            initial: changes the content into what the optimisation starts from, where the
                options say that it starts from the content.
            extra_terms: makes further terms of the objective for a size.
            band: share of the result's frequencies, from 0 to its Nyquist, that the styles know of.
            resume: `Progress.state` of an earlier run with the same arguments.
            group: the processes that do this together, each with the same arguments; None is this
                one alone.
            say: is told in a line how much memory tiles take, when it ran out, and when steps are
                rejected.

        Raises:
            UsageError: no style, or not one blend weight each, or a texture without a size.
            ShapeError: the tensors do not fit the backbone.
            ResourceError: there is not enough memory; found out before any work is done.
            NumericalError: see `convnd.optimize.minimize`.
        """
        options = self.options
        group = ProcessGroup() if group is None else group
        if not styles:
            raise UsageError("style transfer: expected at least one style, got none; give one")
        if options.style_weights and len(options.style_weights) != len(styles):
            raise UsageError(
                f"style_weights: expected one weight for each of {len(styles)} styles, got "
                f"{len(options.style_weights)}; give as many"
            )
        if size is None:
            if content is None:
                raise UsageError("texture: expected a size, got neither size nor content; give one")
            size = tuple(content.shape[2:])
        self.look_at(size)
        options = self.options
        for values in (content, start, *styles):
            if values is not None:
                self.backbone.check(values, ())
        scales = min(options.scales, max(1, options.steps))
        frames, plane = size[: self.steady], size[self.steady :]
        sizes = [(*frames, *s) for s in pyramid_sizes(plane, scales, shortest=self._needed)]
        counts = spread_steps(options.steps, len(sizes))
        grid = tuple(size) if same_grid else None
        budget = Budget(
            options, self.backbone, self.device, styles[0].shape[0], say, group, content
        )
        references_of_features = styles if feature_styles is None else feature_styles
        budget.check(
            sizes[-1],
            [self._style_extent(style, sizes[-1], grid) for style in references_of_features],
        )
        costs = [math.prod(extent) for extent in sizes]
        work = sum(count * cost for count, cost in zip(counts, costs, strict=True))
        spacing = [1.0] * len(size) if spacing is None else spacing
        generator = torch.Generator().manual_seed(options.seed)
        iterate: Tensor | None = None
        coarse: Tensor | None = None
        passed = rejected_steps = 0
        for scale, (extent, count) in enumerate(zip(sizes, counts, strict=True)):
            if resume is not None and scale < resume["scale"]:
                passed += count
                continue
            fine = None if content is None else self._resized(content, extent)
            references = self._styles_at(styles, extent, grid)
            walked = None
            if resume is not None:  # the walk brings its iterate with it
                walked, rejected_steps, resume = resume["walk"], resume["rejected_steps"], None
                iterate = walked["step"]["values"].to(self.device)
            elif iterate is None:
                iterate = self._start(start, fine, references, extent, generator)
                if initial is not None and start is None and options.init == "content":
                    iterate = initial(iterate)
            elif fine is None or coarse is None:
                iterate = refine(iterate, extent)
            else:
                iterate = refine(iterate, extent, (coarse, fine))
            coarse = None
            stretched = [
                step * whole / part for step, whole, part in zip(spacing, size, extent, strict=True)
            ]
            tiler = budget.tiler(extent)
            keep = budget.keeps_content(extent)
            shards = ShardedField(extent, group) if group.size > 1 else None
            objective = self.objective(
                fine,
                references
                if feature_styles is None
                else self._styles_at(feature_styles, extent, grid),
                stretched,
                value_styles=references,
                band=min(1.0, band * size[0] / extent[0]),
                tiler=tiler,
                keep=keep,
                shards=shards,
                also=() if extra_terms is None else extra_terms(tuple(extent)),
            )
            del references
            evaluate: Evaluator = evaluate_whole if tiler is None else TiledEvaluation(tiler)
            if shards is not None and tiler is not None:
                evaluate = ShardedEvaluation(tiler, shards)
                iterate = iterate if walked is not None else shards.local_part(iterate)
            handed = [iterate]  # to the walk alone, which leaves it with its first step
            iterate = None
            for step in self.walk(
                objective,
                handed.pop(),
                evaluate=evaluate,
                steps=count,
                all_reduce=group.all_reduce,
                offload=budget.offload(extent),
                resume=walked,
            ):
                if step.note and say is not None:
                    say(step.note)
                before = sum(n * cost for n, cost in zip(counts[:scale], costs, strict=False))
                yield Progress(
                    step=passed + step.index,
                    steps=sum(counts),
                    scale=scale + 1,
                    scales=len(sizes),
                    done=(before + step.index * costs[scale]) / max(work, 1),
                    loss=step.loss,
                    parts=step.parts,
                    values=step.values,
                    rejected_steps=rejected_steps + step.rejected_steps,
                    state=partial(_state, scale, rejected_steps, step),
                    shards=shards,
                )
                iterate = step.values
            assert iterate is not None
            if shards is not None and scale + 1 < len(sizes):
                iterate = shards.gather(iterate)  # much smaller than what comes next
            passed += count
            rejected_steps += step.rejected_steps
            coarse = fine
            del objective, evaluate, step  # all that was kept at this size

    def walk(
        self, objective: Objective, start: Tensor, *, evaluate: Evaluator, **more: Any
    ) -> Iterator[Step]:
        """The steps at one size, see `convnd.optimize.minimize`."""
        return minimize(
            objective,
            start,
            optimizer=self.options.optimizer,
            learning_rate=self.options.learning_rate,
            evaluate=evaluate,
            **more,
        )

    def _resized(self, values: Tensor, extent: Sequence[int]) -> Tensor:
        if tuple(values.shape[2:]) == tuple(extent):
            return values.to(self.device)
        return resize_nd(values.to(self.device), extent, mode="linear", antialias=True)

    def _style_extent(
        self, style: Tensor, extent: Sequence[int], grid: Sequence[int] | None
    ) -> list[int]:
        own, first = style.shape[2:], self.steady
        whole = own if grid is None or (first and own[0] == 1) else grid
        ratio = self.options.style_scale
        ratio *= _mean_extent(extent[first:]) / _mean_extent(whole[first:])
        resized = (each if each == 1 else max(self._needed, round(each * ratio)) for each in own)
        return [*own[:first], *list(resized)[first:]]

    def style_at(
        self, style: Tensor, extent: Sequence[int], grid: Sequence[int] | None = None
    ) -> Tensor:
        """A style at the size at which it is compared with a result.

        Args:
            style: ``(1, C, *S_i)``.
            extent: of the result.
            grid: the result's own extent, where styles are sampled as it is (see `run`).
        """
        return self._resized(style, self._style_extent(style, extent, grid))

    def _styles_at(
        self, styles: Sequence[Tensor], extent: Sequence[int], grid: Sequence[int] | None
    ) -> list[Tensor]:
        return [self.style_at(style, extent, grid) for style in styles]

    def _start(
        self,
        start: Tensor | None,
        content: Tensor | None,
        styles: Sequence[Tensor],
        extent: Sequence[int],
        generator: torch.Generator,
    ) -> Tensor:
        if start is not None:
            return self._resized(start, extent)
        if self.options.init == "style":
            return resize_nd(styles[0], extent, mode="linear", antialias=True)
        if self.options.init == "content" and content is not None:
            return content
        # Drawn on the CPU, so that a seed means the same on every device.
        shape = (*styles[0].shape[:2], *extent)
        return torch.rand(shape, generator=generator).to(self.device)


def _state(scale: int, rejected_steps: int, step: Step) -> dict[str, Any]:
    return {"scale": scale, "rejected_steps": rejected_steps, "walk": step.state()}


def _mean_extent(size: Sequence[int]) -> float:
    # Geometric, over the axes along which there is anything.
    axes = [extent for extent in size if extent > 1] or [1]
    return float(math.prod(axes) ** (1 / len(axes)))
