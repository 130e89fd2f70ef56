"""The objective of a style transfer: content and style losses of the features of a network.

`Targets` computes the features and statistics that the losses compare with.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from convnd.backbones import MultiPlanar, choose_device
from convnd.losses import (
    INPUT,
    ContentLoss,
    LocalAffineLoss,
    Objective,
    StyleLoss,
    Term,
    TotalVariationLoss,
    total_variation,
)
from convnd.optimize import ProcessGroup, ShardedField, Tiler
from convnd.stats import (
    STATISTICS,
    AutocorrelationStatistic,
    LinearlyMappable,
    ProjectedStatistic,
    SpectrumStatistic,
    Statistic,
    Sums,
    blend,
)
from convnd.transfer.deterministic import make_deterministic
from convnd.transfer.network import load_network, log_run_settings
from convnd.transfer.options import TransferOptions
from convnd.transfer.resizing import Resizer
from convnd.transfer.targets import Targets

__all__ = ["TransferObjective"]

_LOG = logging.getLogger(__name__)


class TransferObjective:
    """Makes the objectives of any number of transfers with one network.

    Args:
        options: options of the transfers.
        spatial_dims: number of spatial axes.
        in_channels: channels of the values.
        fixed_axes: number of leading axes that keep their length, see `resolve_layers`.
        planes: planes that a network of two axes sees of data of more axes, see
            `convnd.backbones.MultiPlanar`.

    Attributes:
        options: the options, with layers for each plane where the network is a `MultiPlanar`.
        backbone: the network, on its device and in its number format.
        resizer: resizes inputs to the sizes at which the network compares them.

    Raises:
        UsageError: an option names something that does not exist, see `convnd.backbones.load`.
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
        make_deterministic(options.deterministic)
        self.options = options
        self.fixed_axes = fixed_axes
        self.device = choose_device(options.device)
        self.backbone, self.precision = load_network(
            options, spatial_dims=spatial_dims, in_channels=in_channels, planes=planes
        )
        self._requested_options = options
        self.resolve_layers(None)
        shortest = self.backbone.min_extent(self.options.layers)
        self.resizer = Resizer(self.device, fixed_axes, options.style_scale, shortest)
        self._targets = Targets(self.backbone, self.precision, self.device)
        log_run_settings(_LOG, options.backbone, self.device, self.precision)

    def resolve_layers(self, size: Sequence[int] | None) -> None:
        """Choose the planes whose features are compared, for a `MultiPlanar` backbone.

        Planes along a fixed axis show how values change along it. Contents are not compared in
        them, since this would suppress the changes of a style. Styles are compared in them with
        ``inflation="multiplanar"``.

        Args:
            size: samples of the result along each axis; None is any size without axes of length 1.
        """
        if not isinstance(self.backbone, MultiPlanar):
            return
        size = (2,) * self.backbone.spatial_dims if size is None else tuple(size)
        section = (1,) * self.fixed_axes + size[self.fixed_axes :]
        requested = self._requested_options
        style = size if requested.inflation == "multiplanar" else section
        self.options = _on_planes(requested, self.backbone, content=section, style=style)

    def objective(
        self,
        content: Tensor | None,
        styles: Sequence[Tensor],
        spacing: Sequence[float],
        *,
        tiler: Tiler | None = None,
        keep: bool = True,
        shards: ShardedField | None = None,
        style_terms: Sequence[Term] | None = None,
        value_styles: Sequence[Tensor] | None = None,
        known_bandwidth: float = 1.0,
        extra_terms: Sequence[Term] = (),
    ) -> Objective:
        """Make the objective at one size, and compute its targets.

        Args:
            content: ``(1, C, *S)``, or None for a texture.
            styles: ``(1, C, *S_i)`` each.
            spacing: distance between samples along each axis.
            tiler: cuts the field into tiles; None leaves it whole.
            keep: whether the content's features stay in memory; otherwise they are computed again
                for every tile.
            shards: the processes that share the work; None is this one alone.
            style_terms: result of `style_terms`, which is used instead of ``styles``; or None.
            value_styles: ``(1, C, *S_i)`` each, for the statistics of values; None is ``styles``.
            known_bandwidth: share of the frequencies, from 0 to the Nyquist frequency of the
                result, that the styles contain.
            extra_terms: further terms.
        """
        if content is not None:
            self.resolve_layers(content.shape[2:])
        options = self.options
        tiler = Tiler() if tiler is None else tiler
        terms: list[Term] = []
        with torch.no_grad():
            if content is not None and options.content_weight > 0:
                layers = options.content_layers
                features = self._targets.content(content, layers, tiler, keep=keep, shards=shards)
                weight, normalization = options.content_weight / len(layers), options.normalization
                for name in layers:
                    loss = ContentLoss(features[name], layer=name, normalization=normalization)
                    terms.append(Term("content", weight, loss))
        terms += (
            self.style_terms(
                styles,
                tiler=tiler,
                group=None if shards is None else shards.group,
                value_styles=value_styles,
                known_bandwidth=known_bandwidth,
            )
            if style_terms is None
            else style_terms
        )
        if options.tv_weight > 0:
            reference = 1.0 if content is None else total_variation(content, spacing).item()
            smooth = TotalVariationLoss(spacing, reference=reference)
            terms.append(Term("total_variation", options.tv_weight, smooth))
        if options.affine_weight > 0 and content is not None:
            terms.append(Term("local_affine", options.affine_weight, LocalAffineLoss(content)))
        return Objective(self.backbone, [*terms, *extra_terms], precision=self.precision)

    def style_terms(
        self,
        styles: Sequence[Tensor],
        *,
        tiler: Tiler | None = None,
        group: ProcessGroup | None = None,
        value_styles: Sequence[Tensor] | None = None,
        known_bandwidth: float = 1.0,
    ) -> list[Term]:
        """Make the terms that depend only on the styles; they serve all contents of one size.

        Args:
            styles: ``(1, C, *S_i)`` each, at the size at which they are compared.
            tiler: cuts the styles into tiles; None leaves them whole.
            group: the processes that share the work; None is this one alone.
            value_styles: as for `objective`.
            known_bandwidth: as for `objective`.
        """
        options = self.options
        weights = options.style_weights or (1.0,) * len(styles)
        projections = self._projections()
        shares = self._shares(styles)
        terms: list[Term] = []
        if options.style_weight > 0:
            with torch.no_grad():
                statistic = STATISTICS[options.style_loss]
                statistics = {
                    name: ProjectedStatistic(statistic, projections[name])
                    if name in projections
                    else statistic
                    for name in shares
                }
                tiler = Tiler() if tiler is None else tiler
                sums = [
                    self._style_sums(style, statistics, tiler, raw=[*projections], group=group)
                    for style in styles
                ]
                targets = {name: blend([part[name] for part in sums], weights) for name in shares}
            terms += [
                Term(
                    "style",
                    options.style_weight * share / sum(shares.values()),
                    StyleLoss(
                        targets[name],
                        layer=name,
                        statistic=options.style_loss,
                        normalization=options.normalization,
                        projection=projections.get(name),
                    ),
                )
                for name, share in shares.items()
            ]
        if options.value_statistics_weight > 0:
            terms += self._value_terms(
                styles if value_styles is None else value_styles, weights, known_bandwidth
            )
        return terms

    def _style_sums(
        self,
        style: Tensor,
        statistics: Mapping[str, Statistic],
        tiler: Tiler,
        *,
        raw: Collection[str],
        group: ProcessGroup | None,
    ) -> dict[str, Sums]:
        """Compute the statistics of a style by layer.

        The one plane of a style with an axis of one sample serves the planes of every orientation.
        """
        sources = {name: name for name in statistics}
        if isinstance(self.backbone, MultiPlanar) and not self.fixed_axes:
            visible = self.backbone.plane_layers(
                self._requested_options.style_layers, style.shape[2:]
            )
            first = {name.partition("@")[0]: name for name in reversed(visible)}
            sources = {
                name: name if name in visible else first[name.partition("@")[0]]
                for name in statistics
            }
        sums = self._targets.style(
            style,
            {source: statistics[name] for name, source in sources.items()},
            tiler,
            raw={sources[name] for name in raw if name in sources},
            group=group,
        )
        return {name: sums[source] for name, source in sources.items()}

    def _shares(self, styles: Sequence[Tensor]) -> dict[str, float]:
        """The weight of each style layer."""
        options = self.options
        weights = options.style_layer_weights or (1.0,) * len(options.style_layers)
        shares = dict(zip(options.style_layers, weights, strict=True))
        if isinstance(self.backbone, MultiPlanar) and self.fixed_axes and styles[0].shape[2] == 1:
            # One sample along a fixed axis does not say how a style changes along it.
            visible = self.backbone.plane_layers(
                self._requested_options.style_layers, styles[0].shape[2:]
            )
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

    def _value_terms(
        self, styles: Sequence[Tensor], weights: Sequence[float], bandwidth: float
    ) -> list[Term]:
        """Make the terms of the values themselves, one for each statistic of the options."""
        options = self.options
        statistics: dict[str, Statistic] = {
            name: STATISTICS[name] for name in options.value_statistics
        }
        if "spectrum" in statistics and bandwidth < 1:
            statistics["spectrum"] = SpectrumStatistic(max_frequency=bandwidth)
        balanced = "mean" if options.normalization == "mean" else "balanced"
        return [
            Term(
                name,
                options.value_statistics_weight,
                StyleLoss(
                    blend([_value_sums(statistic, style) for style in styles], weights),
                    layer=INPUT,
                    statistic=statistic,
                    normalization=balanced,
                ),
            )
            for name, statistic in statistics.items()
        ]


def _on_planes(
    options: TransferOptions, network: MultiPlanar, *, content: Sequence[int], style: Sequence[int]
) -> TransferOptions:
    """Return the options with the names and weights of layers for each plane of some extents."""
    return dataclasses.replace(
        options,
        content_layers=network.plane_layers(options.content_layers, content),
        style_layers=network.plane_layers(options.style_layers, style),
        style_layer_weights=tuple(
            weight
            for weight in options.style_layer_weights
            for _ in network.plane_layers(options.style_layers[:1], style)
        ),
    )


def _value_sums(statistic: Statistic, style: Tensor) -> Sums:
    if isinstance(statistic, AutocorrelationStatistic):
        return statistic.sums_in_blocks(style)
    return statistic.sums(style)
