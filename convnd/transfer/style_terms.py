"""The terms of an objective that compare statistics with those of styles."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor

from convnd.backbones import Backbone, MultiPlanar
from convnd.errors import UsageError
from convnd.losses import INPUT, StyleLoss, Term
from convnd.optimize import ProcessGroup, Tiler
from convnd.shapes import ReceptiveField
from convnd.stats import (
    STATISTICS,
    AutocorrelationStatistic,
    GuidedStatistic,
    LinearlyMappable,
    ProjectedStatistic,
    SpectrumStatistic,
    Statistic,
    Sums,
    blend,
    layer_guide,
    overlap_of,
)
from convnd.transfer.adjustment import TargetMemory
from convnd.transfer.options import TransferOptions
from convnd.transfer.regions import StyleRegion, fit_share
from convnd.transfer.targets import Targets

__all__ = ["StyleTermMaker"]


class _Part(NamedTuple):
    """The styles of one part of the result.

    Args:
        share: share of each position that belongs to the part; None is all of them.
        styles: ``(1, C, *S_i)`` each.
        style_shares: the parts of these styles that are read, ``(1, 1, *S_i)``, or None for all.
        weights: weight of each style; only their ratios count.
    """

    share: Tensor | None
    styles: Sequence[Tensor]
    style_shares: Sequence[Tensor | None]
    weights: Sequence[float]

    def towards(self, content: Tensor, strength: float) -> _Part:
        """Return the part with the content, in the same region, as one more style.

        Args:
            content: ``(1, C, *S)``.
            strength: weight of all styles together; that of the content is the rest.
        """
        scale = strength / sum(self.weights)
        return _Part(
            self.share,
            [*self.styles, content],
            [*self.style_shares, self.share],
            [*(weight * scale for weight in self.weights), 1 - strength],
        )

    @classmethod
    def of(
        cls, region: StyleRegion | None, styles: Sequence[Tensor], weights: Sequence[float]
    ) -> _Part:
        """Return the part of a region; None is the whole result, with all styles."""
        if region is None:
            return cls(None, styles, [None] * len(styles), weights)
        return cls(
            region.share,
            [styles[number] for number in region.styles],
            region.style_shares,
            [weights[number] for number in region.styles],
        )


@dataclass(frozen=True)
class StyleTermMaker:
    """Makes the terms of styles at one size.

    Args:
        backbone: the network.
        options: options, with layers for each plane where the network is a `MultiPlanar`.
        style_layers: the style layers without planes.
        fixed_axes: number of leading axes that keep their length.
        targets: computes statistics of styles.
        tiler: cuts the styles into tiles.
        group: the processes that share the work; None is this one alone.
        memory: statistics that were computed before, and those that are computed.
    """

    backbone: Backbone
    options: TransferOptions
    style_layers: Sequence[str]
    fixed_axes: int
    targets: Targets
    tiler: Tiler
    group: ProcessGroup | None
    memory: TargetMemory

    def terms(
        self,
        styles: Sequence[Tensor],
        value_styles: Sequence[Tensor],
        regions: Sequence[StyleRegion],
        bandwidth: float,
        content: Tensor | None = None,
        strength: float = 1.0,
    ) -> list[Term]:
        """Make the terms, see `TransferObjective.style_terms`.

        Args:
            styles: ``(1, C, *S_i)`` each, whose features are compared.
            value_styles: ``(1, C, *S_i)`` each, whose values are compared.
            regions: parts of the result with styles of their own; empty is one with all styles.
            bandwidth: share of the frequencies that the styles contain.
            content: ``(1, C, *S)``; None leaves its statistics out.
            strength: weight of the styles' statistics, from 0 to 1; that of the content's is the
                rest.
        """
        options = self.options
        weights = options.style_weights or (1.0,) * len(styles)
        parts: Sequence[StyleRegion | None] = regions or [None]
        terms: list[Term] = []
        for region in parts:
            features, values = (
                _Part.of(region, compared, weights) for compared in (styles, value_styles)
            )
            if not any(features.weights):
                continue
            if content is not None:
                features, values = (part.towards(content, strength) for part in (features, values))
            area = 1.0 if region is None else region.area
            if options.style_weight > 0:
                # The printed formula of the lecture grows with the number of positions by itself.
                scale = 1.0 if options.normalization == "lecture" else area
                terms += self._feature_terms(features, scale)
            if options.value_statistics_weight > 0:
                terms += self._value_terms(values, area, bandwidth)
        return terms

    def in_region(self, terms: Sequence[Term], share: Tensor) -> list[Term]:
        """Return terms of the whole result for a region of it, with the same targets.

        Args:
            terms: terms of `StyleLoss` that `terms` has made for a region without a share.
            share: share of each position that belongs to the region, ``(1, 1, *S)``, not 0
                everywhere.
        """
        area = float(share.mean())
        guided = []
        for term in terms:
            loss = cast("StyleLoss", term.loss)
            is_value = loss.layer == INPUT
            guide = (
                self._value_guide(share, loss.statistic)
                if is_value
                else self._guide(share, loss.layer, loss.statistic)
            )
            grows = self.options.normalization == "lecture" and not is_value
            weight = term.weight * (1.0 if grows else area)
            guided.append(replace(term, weight=weight, loss=loss.in_region(guide)))
        return guided

    def _feature_terms(self, part: _Part, scale: float) -> list[Term]:
        """Make the terms of the features of one part, one for each layer."""
        options, statistic = self.options, STATISTICS[self.options.style_loss]
        compared: str | Statistic = options.style_loss
        of_result = statistic
        if self.backbone.periodic and isinstance(statistic, AutocorrelationStatistic):
            compared = of_result = statistic.for_period()
        projections, shares = self._projections(), self._layer_weights(part.styles)
        with torch.no_grad():
            statistics = {
                name: ProjectedStatistic(statistic, projections[name])
                if name in projections
                else statistic
                for name in shares
            }
            sums = [
                self.memory.style_sums(
                    style,
                    share,
                    partial(self._style_sums, style, share, statistics, raw=[*projections]),
                )
                for style, share in zip(part.styles, part.style_shares, strict=True)
            ]
            targets = {
                name: blend([layers[name] for layers in sums], part.weights) for name in shares
            }
        return [
            Term(
                "style",
                options.style_weight * scale * share / sum(shares.values()),
                StyleLoss(
                    targets[name],
                    layer=name,
                    statistic=compared,
                    normalization=options.normalization,
                    projection=projections.get(name),
                    guide=None
                    if part.share is None
                    else self._guide(part.share, name, of_result, periodic=self.backbone.periodic),
                ),
            )
            for name, share in shares.items()
        ]

    def _style_sums(
        self,
        style: Tensor,
        share: Tensor | None,
        statistics: Mapping[str, Statistic],
        *,
        raw: Collection[str],
    ) -> dict[str, Sums]:
        """Compute the statistics of a style, or of a part of it, by layer.

        The one plane of a style with an axis of one sample serves the planes of every orientation.
        """
        sources = {name: name for name in statistics}
        if isinstance(self.backbone, MultiPlanar) and not self.fixed_axes:
            visible = self.backbone.plane_layers(self.style_layers, style.shape[2:])
            base = self.backbone.slice_layer
            first = {base(name): name for name in reversed(visible)}
            sources = {name: name if name in visible else first[base(name)] for name in statistics}
        of_sources = {source: statistics[name] for name, source in sources.items()}
        if share is not None:
            share = fit_share(share.to(style.device), style.shape[2:])
            of_sources = {
                source: GuidedStatistic(statistic, self._guide(share, source, statistic))
                for source, statistic in of_sources.items()
            }
        sums = self.targets.style(
            style,
            of_sources,
            self.tiler,
            raw={sources[name] for name in raw if name in sources},
            group=self.group,
        )
        return {name: sums[source] for name, source in sources.items()}

    def _layer_weights(self, styles: Sequence[Tensor]) -> dict[str, float]:
        """The weight of each style layer."""
        options = self.options
        weights = options.style_layer_weights or (1.0,) * len(options.style_layers)
        shares = dict(zip(options.style_layers, weights, strict=True))
        if isinstance(self.backbone, MultiPlanar) and self.fixed_axes and styles[0].shape[2] == 1:
            # One sample along a fixed axis does not say how a style changes along it.
            visible = self.backbone.plane_layers(self.style_layers, styles[0].shape[2:])
            shares = {name: share for name, share in shares.items() if name in visible}
        return shares

    def _projections(self) -> dict[str, Tensor]:
        """Return the projections of style layers that are applied to sums instead of features."""
        options = self.options
        if not isinstance(STATISTICS[options.style_loss], LinearlyMappable):
            return {}
        content = options.content_layers if options.content_weight > 0 else ()
        projections = {
            name: self.backbone.projection(name)
            for name in options.style_layers
            if name not in content
        }
        return {name: matrix for name, matrix in projections.items() if matrix is not None}

    def _guide(
        self, share: Tensor, layer: str, statistic: Statistic, *, periodic: bool = False
    ) -> Tensor:
        """Bring a region to the positions of a layer, see `layer_guide`."""
        field = self.backbone.receptive_fields.get(layer)
        if field is None:
            raise UsageError(
                "regions",
                expected="a network whose receptive fields are known",
                got=f"{self.options.backbone}, whose {layer} has none",
                remedy="use another --backbone",
            )
        return layer_guide(share, field, periodic=periodic, overlap=overlap_of(statistic))

    def _value_terms(self, part: _Part, scale: float, bandwidth: float) -> list[Term]:
        """Make the terms of the values of one part, one for each statistic of the options."""
        options = self.options
        statistics: dict[str, Statistic] = {
            name: STATISTICS[name] for name in options.value_statistics
        }
        if "spectrum" in statistics and bandwidth < 1:
            statistics["spectrum"] = SpectrumStatistic(max_frequency=bandwidth)
        balanced = "mean" if options.normalization == "mean" else "balanced"
        terms = []
        for name, statistic in statistics.items():
            sums = []
            for style, share in zip(part.styles, part.style_shares, strict=True):
                guide = None
                if share is not None:
                    fitted = fit_share(share.to(style.device), style.shape[2:])
                    guide = self._value_guide(fitted, statistic)
                sums.append(_value_sums(statistic, style, guide))
            guide, periodic = None, self.backbone.periodic
            if part.share is not None:
                guide = self._value_guide(part.share, statistic, periodic=periodic)
            if periodic and isinstance(statistic, AutocorrelationStatistic):
                statistic = statistic.for_period()
            loss = StyleLoss(
                blend(sums, part.weights),
                layer=INPUT,
                statistic=statistic,
                normalization=balanced,
                guide=guide,
            )
            terms.append(Term(name, options.value_statistics_weight * scale, loss))
        return terms

    def _value_guide(
        self, share: Tensor, statistic: Statistic, *, periodic: bool = False
    ) -> Tensor:
        """Return the weights of values; those of a spectrum fall smoothly at the region's ends."""
        reach = getattr(statistic, "taper", 0)
        extents = share.shape[2:]
        reaches = [
            0 if axis < self.fixed_axes or extent == 1 else reach
            for axis, extent in enumerate(extents)
        ]
        field = ReceptiveField(
            tuple(2 * one + 1 for one in reaches),
            (1,) * len(extents),
            tuple(-one for one in reaches),
        )
        overlap = overlap_of(statistic)
        return layer_guide(share, field, erode=reach > 0, periodic=periodic, overlap=overlap)


def _value_sums(statistic: Statistic, style: Tensor, weight: Tensor | None) -> Sums:
    if isinstance(statistic, AutocorrelationStatistic):
        return statistic.sums_in_blocks(style, weight=weight)
    return statistic.sums(style, weight=weight)
