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

from convnd.backbones import BACKBONES, Backbone, choose_device, choose_precision, load
from convnd.errors import UsageError
from convnd.losses import (
    INPUT,
    ContentLoss,
    ContentSource,
    Objective,
    StyleLoss,
    Term,
    TotalVariationLoss,
    check_normalization,
    total_variation,
)
from convnd.nn import resize_nd
from convnd.optimize import (
    OPTIMIZERS,
    Evaluate,
    Group,
    RecomputedContent,
    ShardedContent,
    ShardedEvaluation,
    Shards,
    Step,
    TiledEvaluation,
    Tiler,
    evaluate_whole,
    minimize,
    pyramid_sizes,
    refine,
    sharded_sums,
    spread_steps,
    tiled_features,
    tiled_sums,
)
from convnd.shapes import Tiling
from convnd.stats import STATISTICS, Sums, blend
from convnd_tasks.memory import Budget
from convnd_tasks.options import StyleOptions
from convnd_tasks.own import is_own, own_backbone

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
        state: all that a transfer needs to go on from here; to be asked for before the next
            step is.
        shards: who has which part; None where one process has it all.
    """

    step: int
    steps: int
    scale: int
    scales: int
    done: float
    loss: float
    parts: Mapping[str, float]
    values: Tensor
    state: Callable[[], dict[str, Any]] = field(default=dict, repr=False, compare=False)
    shards: Shards | None = field(default=None, repr=False, compare=False)

    @property
    def size(self) -> tuple[int, ...]:
        """Extent of the whole iterate along each axis."""
        return tuple(self.values.shape[2:]) if self.shards is None else self.shards.size

    def whole(self) -> Tensor | None:
        """All of the iterate, for process 0; None for others, who have to ask as well."""
        return self.values if self.shards is None else self.shards.collected(self.values)


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


def check_names(options: StyleOptions) -> None:
    """Refuse names that no table holds, before anything is read or loaded.

    Raises:
        UnknownNameError: no such backbone, layer, statistic, optimizer or normalization.
        UsageError: a module of the user's is to have its pooling or rank changed.
    """
    if not is_own(options.backbone):
        BACKBONES[options.backbone].plan.until(options.layers)
    elif (options.pooling, options.inflation) != (StyleOptions.pooling, StyleOptions.inflation):
        raise UsageError(
            "--backbone: expected one of the shipped networks with --pooling and --inflation, got "
            f"{options.backbone}, which is run as it is; leave them out"
        )
    for name in (options.statistic, *options.facts):
        STATISTICS[name]
    OPTIMIZERS[options.optimizer]
    check_normalization(options.normalization)


class StyleTransfer:
    """A backbone made ready once, for any number of transfers with the same options.

    Values are expected to span about ``[0, 1]``, as the backbones were trained; the task modules
    map HU, millivolts and colours to that and back.

    Args:
        options: see `StyleOptions`.
        spatial_dims: number of spatial axes.
        in_channels: channels of the values.

    Raises:
        UsageError: an option names something that does not exist, see `convnd.backbones.load`.
    """

    def __init__(self, options: StyleOptions, *, spatial_dims: int, in_channels: int) -> None:
        self.options = options
        self.device = choose_device(options.device)
        self.backbone, precision = self._network(spatial_dims, in_channels)
        self.backbone.to(self.device)
        self.precision = choose_precision(self.device, precision)
        self.precision.apply(self.backbone)
        # Samples along an axis for one position in the deepest layer, where that is known.
        fields = [
            self.backbone.fields[name] for name in options.layers if name in self.backbone.fields
        ]
        self._needed = max((max(map(int, field.stride)) for field in fields), default=1)

    def _network(self, spatial_dims: int, in_channels: int) -> tuple[Backbone, str]:
        """The network, and the precision it is to have."""
        options = self.options
        if is_own(options.backbone):
            network = own_backbone(
                options.backbone, options.layers, spatial_dims=spatial_dims, in_channels=in_channels
            )
            # Not every layer of others works in bfloat16.
            return network, "float32" if options.precision == "auto" else options.precision
        shipped = load(
            options.backbone,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            layers=options.layers,
            pooling=options.pooling,
            inflation=options.inflation,
        )
        return shipped, options.precision

    def run(
        self,
        content: Tensor | None,
        styles: Sequence[Tensor],
        *,
        size: Sequence[int] | None = None,
        spacing: Sequence[float] | None = None,
        start: Tensor | None = None,
        same_grid: bool = False,
        say: Callable[[str], None] | None = None,
        resume: Mapping[str, Any] | None = None,
        group: Group | None = None,
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
            resume: `Progress.state` of an earlier run with the same arguments.
            group: the processes that do this together, each with the same arguments; None is this
                one alone.
            say: is told in a line how much memory tiles take, and when it ran out.

        Raises:
            UsageError: no style, or not one blend weight each, or a texture without a size.
            ShapeError: the tensors do not fit the backbone.
            ResourceError: there is not enough memory; found out before any work is done.
            NumericalError: see `convnd.optimize.minimize`.
        """
        options = self.options
        group = Group() if group is None else group
        if not styles:
            raise UsageError("style transfer: expected at least one style, got none; give one")
        if options.blend and len(options.blend) != len(styles):
            raise UsageError(
                f"blend: expected one weight for each of {len(styles)} styles, got "
                f"{len(options.blend)}; give as many"
            )
        if size is None:
            if content is None:
                raise UsageError("texture: expected a size, got neither size nor content; give one")
            size = tuple(content.shape[2:])
        for values in (content, start, *styles):
            if values is not None:
                self.backbone.check(values, ())
        scales = min(options.scales, max(1, options.steps))
        sizes = pyramid_sizes(size, scales, shortest=self._needed)
        counts = spread_steps(options.steps, len(sizes))
        grid = tuple(size) if same_grid else None
        budget = Budget(options, self.backbone, self.device, styles[0].shape[0], say, group)
        budget.check(sizes[-1], [self._style_extent(style, sizes[-1], grid) for style in styles])
        costs = [math.prod(extent) for extent in sizes]
        work = sum(count * cost for count, cost in zip(counts, costs, strict=True))
        spacing = [1.0] * len(size) if spacing is None else spacing
        generator = torch.Generator().manual_seed(options.seed)
        iterate: Tensor | None = None
        coarse: Tensor | None = None
        passed = 0
        for scale, (extent, count) in enumerate(zip(sizes, counts, strict=True)):
            if resume is not None and scale < resume["scale"]:
                passed += count
                continue
            fine = None if content is None else self._resized(content, extent)
            references = [self.style_at(style, extent, grid) for style in styles]
            walked = None
            if resume is not None:  # the walk brings its iterate with it
                walked, resume = resume["walk"], None
                iterate = walked["now"]["values"].to(self.device)
            elif iterate is None:
                iterate = self._start(start, fine, references, extent, generator)
            elif fine is None or coarse is None:
                iterate = refine(iterate, extent)
            else:
                iterate = refine(iterate, extent, (coarse, fine))
            stretched = [
                step * whole / part for step, whole, part in zip(spacing, size, extent, strict=True)
            ]
            tiler = budget.tiler(extent)
            keep = budget.keeps_content(extent)
            shards = Shards(extent, group) if group.size > 1 else None
            objective = self.objective(
                fine, references, stretched, tiler=tiler, keep=keep, shards=shards
            )
            del references
            evaluate: Evaluate = evaluate_whole if tiler is None else TiledEvaluation(tiler)
            if shards is not None and tiler is not None:
                evaluate = ShardedEvaluation(tiler, shards)
                iterate = iterate if walked is not None else shards.part(iterate)
            for step in minimize(
                objective,
                iterate,
                steps=count,
                optimizer=options.optimizer,
                learning_rate=options.learning_rate,
                evaluate=evaluate,
                add=group.sum,
                resume=walked,
            ):
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
                    state=partial(_state, scale, step),
                    shards=shards,
                )
                iterate = step.values
            if shards is not None and scale + 1 < len(sizes):
                iterate = shards.whole(iterate)  # much smaller than what comes next
            passed += count
            coarse = fine

    def objective(
        self,
        content: Tensor | None,
        styles: Sequence[Tensor],
        spacing: Sequence[float],
        *,
        tiler: Tiler | None = None,
        keep: bool = True,
        shards: Shards | None = None,
        style_terms: Sequence[Term] | None = None,
        also: Sequence[Term] = (),
    ) -> Objective:
        """The objective at one size, its targets computed.

        Args:
            content: ``(1, C, *S)`` or None.
            styles: ``(1, C, *S_i)`` each.
            spacing: distance between samples along each axis.
            tiler: cuts what is too large to be looked at in one piece; None leaves all whole.
            keep: whether the content's features are kept, and not made again for every tile.
            shards: the processes that share the work; None is this one alone.
            style_terms: `style_terms` of an earlier objective, to be used instead of ``styles``.
            also: further terms.
        """
        options = self.options
        tiler = Tiler() if tiler is None else tiler
        terms: list[Term] = []
        with torch.no_grad():
            if content is not None and options.content_weight > 0:
                found = self._content_targets(content, tiler, keep, shards)
                terms += [
                    Term(
                        "content",
                        options.content_weight / len(options.content_layers),
                        ContentLoss(found[name], layer=name, normalization=options.normalization),
                    )
                    for name in options.content_layers
                ]
        terms += (
            self.style_terms(styles, tiler=tiler, group=None if shards is None else shards.group)
            if style_terms is None
            else style_terms
        )
        if options.smoothness > 0:
            reference = 1.0 if content is None else total_variation(content, spacing).item()
            smooth = TotalVariationLoss(spacing, reference=reference)
            terms.append(Term("smoothness", options.smoothness, smooth))
        return Objective(self.backbone, [*terms, *also], precision=self.precision)

    def style_terms(
        self,
        styles: Sequence[Tensor],
        *,
        tiler: Tiler | None = None,
        group: Group | None = None,
    ) -> list[Term]:
        """The terms that know the styles alone; they serve any number of contents of one size.

        Args:
            styles: ``(1, C, *S_i)`` each, at the size of their use, see `style_at`.
            tiler: see `objective`.
            group: the processes that share the work; None is this one alone.
        """
        options = self.options
        weights = options.blend or (1.0,) * len(styles)
        shares = options.style_layer_weights or (1.0,) * len(options.style_layers)
        terms: list[Term] = []
        if options.style_weight > 0:
            with torch.no_grad():
                targets = self._style_targets(
                    styles, weights, Tiler() if tiler is None else tiler, group
                )
            terms += [
                Term(
                    "style",
                    options.style_weight * share / sum(shares),
                    StyleLoss(
                        targets[name],
                        layer=name,
                        statistic=options.statistic,
                        normalization=options.normalization,
                    ),
                )
                for name, share in zip(options.style_layers, shares, strict=True)
            ]
        if options.fact_weight > 0:
            terms += self._facts(styles, weights)
        return terms

    def _content_targets(
        self, content: Tensor, tiler: Tiler, keep: bool, shards: Shards | None
    ) -> Mapping[str, Tensor | ContentSource]:
        layers = self.options.content_layers
        size = content.shape[2:]

        def kept(tiling: Tiling) -> Mapping[str, Tensor]:
            if len(tiling) == 1:
                return self._features(layers)(content)
            # Beside the tiles, on the CPU.
            return tiled_features(self._features(layers), content.cpu(), tiling, layers)

        def again(name: str) -> ContentSource:
            def work(tiling: Tiling) -> ContentSource:
                if shards is not None:
                    return ShardedContent(
                        self._features([name]),
                        content,
                        tiling,
                        name,
                        shards=shards,
                        tiler=tiler,
                        keep=keep,
                    )
                return RecomputedContent(self._features([name]), content, tiling, name)

            return tiler.attempt(work, self.backbone, [name], size)

        if keep and shards is None:
            return tiler.attempt(kept, self.backbone, layers, size)
        return {name: again(name) for name in layers}

    def _style_targets(
        self,
        styles: Sequence[Tensor],
        weights: Sequence[float],
        tiler: Tiler,
        group: Group | None,
    ) -> dict[str, Sums]:
        layers = self.options.style_layers
        statistic = STATISTICS[self.options.statistic]

        def sums(style: Tensor) -> dict[str, Sums]:
            def work(tiling: Tiling) -> dict[str, Sums]:
                if group is not None:
                    features = self._features(layers)
                    return sharded_sums(features, style, tiling, layers, statistic, group)
                return tiled_sums(self._features(layers), style, tiling, layers, statistic)

            return tiler.attempt(work, self.backbone, layers, style.shape[2:])

        each = [sums(style) for style in styles]
        return {name: blend([found[name] for found in each], weights) for name in layers}

    def _facts(self, styles: Sequence[Tensor], weights: Sequence[float]) -> list[Term]:
        """Terms on the values themselves, one for each statistic asked for."""
        options = self.options
        balanced = "mean" if options.normalization == "mean" else "balanced"
        return [
            Term(
                name,
                options.fact_weight,
                StyleLoss(
                    blend([STATISTICS[name].sums(style) for style in styles], weights),
                    layer=INPUT,
                    statistic=name,
                    normalization=balanced,
                ),
            )
            for name in options.facts
        ]

    def _features(self, layers: Sequence[str]) -> Callable[[Tensor], Mapping[str, Tensor]]:
        def features(values: Tensor) -> Mapping[str, Tensor]:
            found: dict[str, Tensor] = self.backbone(
                self.precision.layout(values.to(self.device)), layers
            )
            return found

        return features

    def _resized(self, values: Tensor, extent: Sequence[int]) -> Tensor:
        if tuple(values.shape[2:]) == tuple(extent):
            return values.to(self.device)
        return resize_nd(values.to(self.device), extent, mode="linear", antialias=True)

    def _style_extent(
        self, style: Tensor, extent: Sequence[int], grid: Sequence[int] | None
    ) -> list[int]:
        whole = style.shape[2:] if grid is None else grid
        ratio = self.options.style_scale * _mean_extent(extent) / _mean_extent(whole)
        return [
            each if each == 1 else max(self._needed, round(each * ratio))
            for each in style.shape[2:]
        ]

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
        if self.options.start == "style":
            return resize_nd(styles[0], extent, mode="linear", antialias=True)
        if self.options.start == "content" and content is not None:
            return content
        # Drawn on the CPU, so that a seed means the same on every device.
        shape = (*styles[0].shape[:2], *extent)
        return torch.rand(shape, generator=generator).to(self.device)


def _state(scale: int, step: Step) -> dict[str, Any]:
    return {"scale": scale, "walk": step.state()}


def _mean_extent(size: Sequence[int]) -> float:
    # Geometric, over the axes along which there is anything.
    axes = [extent for extent in size if extent > 1] or [1]
    return float(math.prod(axes) ** (1 / len(axes)))
