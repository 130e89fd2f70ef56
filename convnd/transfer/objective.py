"""The objective of a style transfer: content and style losses of the features of a network.

`Targets` computes the features and statistics that the losses compare with.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Collection, Sequence
from typing import Self

import torch
from torch import Tensor

from convnd.backbones import MultiPlanar, choose_device
from convnd.losses import (
    ContentLoss,
    LocalAffineLoss,
    Objective,
    Term,
    TotalVariationLoss,
    total_variation,
)
from convnd.optimize import ProcessGroup, ShardedField, Tiler
from convnd.stats import layer_guide
from convnd.transfer.adjustment import TargetMemory, live_options
from convnd.transfer.deterministic import make_deterministic
from convnd.transfer.network import load_network, log_run_settings
from convnd.transfer.options import TransferOptions
from convnd.transfer.regions import StyleRegion
from convnd.transfer.resizing import Resizer
from convnd.transfer.style_terms import StyleTermMaker
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
        style_backbone = self.backbone
        if options.seamless:
            # Statistics with traces of the style's border could not be reached without a border.
            style_backbone = self.backbone.with_mirrored_border()
            self.backbone = self.backbone.as_periodic()
        self.resolve_layers(None)
        shortest = self.backbone.min_extent(self.options.layers)
        self.resizer = Resizer(
            self.device, fixed_axes, options.style_scale, shortest, options.seamless
        )
        self._targets = Targets(
            self.backbone, self.precision, self.device, style_backbone=style_backbone
        )
        log_run_settings(_LOG, options.backbone, self.device, self.precision)

    def with_live_options(self, options: TransferOptions) -> Self:
        """Return the same with other weights, which shares the network.

        Args:
            options: the options whose `LIVE_OPTIONS` are taken.
        """
        changed = copy.copy(self)
        changed.options = live_options(self.options, options)
        changed._requested_options = live_options(self._requested_options, options)
        changed.resizer = dataclasses.replace(self.resizer, style_scale=options.style_scale)
        return changed

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
        regions: Sequence[StyleRegion] = (),
        strength: float = 1.0,
        memory: TargetMemory | None = None,
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
            known_bandwidth: share of the result's frequencies that the styles contain.
            extra_terms: further terms.
            regions: parts of the result with styles of their own, at this size; empty is one of all
                positions with all styles.
            strength: place of the targets between the statistics of content (0) and styles (1).
            memory: targets of earlier objectives of this network and size, which are not computed
                again, and those of this one; None keeps none.

        Raises:
            UsageError: there are regions, and the receptive field of a layer is not known.
        """
        if content is not None:
            self.resolve_layers(content.shape[2:])
        tiler = Tiler() if tiler is None else tiler
        terms: list[Term] = []
        if content is not None and self.options.content_weight > 0:
            terms = self._content_terms(content, tiler, keep=keep, shards=shards, memory=memory)
        if style_terms is None:
            style_terms = self.style_terms(
                styles,
                tiler=tiler,
                group=None if shards is None else shards.group,
                value_styles=value_styles,
                known_bandwidth=known_bandwidth,
                regions=regions,
                content=content,
                strength=strength,
                memory=memory,
            )
        terms += [*style_terms, *self._smoothness_terms(content, spacing), *extra_terms]
        return Objective(self.backbone, terms, precision=self.precision)

    def _content_terms(
        self,
        content: Tensor,
        tiler: Tiler,
        *,
        keep: bool,
        shards: ShardedField | None,
        memory: TargetMemory | None,
    ) -> list[Term]:
        """Make the terms that compare features with those of the content."""
        options, layers = self.options, self.options.content_layers
        losses = None if memory is None else memory.content
        if losses is None:
            with torch.no_grad():
                features = self._targets.content(content, layers, tiler, keep=keep, shards=shards)
                losses = [
                    ContentLoss(features[name], layer=name, normalization=options.normalization)
                    for name in layers
                ]
        if memory is not None:
            memory.content = losses
        return [Term("content", options.content_weight / len(layers), loss) for loss in losses]

    def _smoothness_terms(self, content: Tensor | None, spacing: Sequence[float]) -> list[Term]:
        """Make the terms of the values and their neighbours."""
        options, terms = self.options, []
        if options.tv_weight > 0:
            reference = 1.0 if content is None else total_variation(content, spacing).item()
            smooth = TotalVariationLoss(spacing, reference=reference)
            terms.append(Term("total_variation", options.tv_weight, smooth))
        if options.affine_weight > 0 and content is not None:
            affine = LocalAffineLoss(content, periodic=options.seamless)
            terms.append(Term("local_affine", options.affine_weight, affine))
        return terms

    def narrow_layers(self, region: StyleRegion) -> list[str]:
        """List the style layers in which no position sees mostly a region.

        Their statistics follow the surroundings of the region too.

        Args:
            region: the region, at the size of the result.
        """
        if region.share is None:
            return []
        fields = self.backbone.receptive_fields
        return [
            name
            for name in self.options.style_layers
            if name in fields
            and bool((layer_guide(region.share, fields[name], erode=False) <= 0.5).all())
        ]

    def style_terms(
        self,
        styles: Sequence[Tensor],
        *,
        tiler: Tiler | None = None,
        group: ProcessGroup | None = None,
        value_styles: Sequence[Tensor] | None = None,
        known_bandwidth: float = 1.0,
        regions: Sequence[StyleRegion] = (),
        content: Tensor | None = None,
        strength: float = 1.0,
        memory: TargetMemory | None = None,
    ) -> list[Term]:
        """Make the terms that depend only on the styles; they serve all contents of one size.

        The weight of a region is its share of the positions. Each position is then pulled towards
        its style as strongly as if the region were a picture of its own.

        Args:
            styles: ``(1, C, *S_i)`` each, at the size at which they are compared.
            tiler: cuts the styles into tiles; None leaves them whole.
            group: the processes that share the work; None is this one alone.
            value_styles: as for `objective`.
            known_bandwidth: as for `objective`.
            regions: as for `objective`.
            content: ``(1, C, *S)``, whose statistics count if the strength is below 1; or None.
            strength: as for `objective`.
            memory: as for `objective`.
        """
        value_styles = styles if value_styles is None else value_styles
        if strength == 1:
            content = None
        maker = self._term_maker(tiler, group, memory)
        return maker.terms(styles, value_styles, regions, known_bandwidth, content, strength)

    def terms_in_region(self, terms: Sequence[Term], share: Tensor) -> list[Term]:
        """Return terms of styles for a part of the result; their targets are not made again.

        Args:
            terms: result of `style_terms` for one region without a share.
            share: share of each position that belongs to the region, ``(1, 1, *S)``, not 0
                everywhere.
        """
        return self._term_maker().in_region(terms, share.to(self.device))

    def _term_maker(
        self,
        tiler: Tiler | None = None,
        group: ProcessGroup | None = None,
        memory: TargetMemory | None = None,
    ) -> StyleTermMaker:
        return StyleTermMaker(
            self.backbone,
            self.options,
            self._requested_options.style_layers,
            self.fixed_axes,
            self._targets,
            Tiler() if tiler is None else tiler,
            group,
            TargetMemory() if memory is None else memory,
        )


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
