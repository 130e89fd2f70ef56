"""The targets of a style transfer, computed in one piece, in tiles, or by several processes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from convnd.backbones import Backbone, Precision
from convnd.losses import ContentSource
from convnd.optimize import (
    ProcessGroup,
    RecomputedContent,
    ShardedContent,
    ShardedField,
    Tiler,
    sharded_sums,
    tiled_features,
    tiled_sums,
)
from convnd.shapes import Tiling
from convnd.stats import Statistic, Sums, overlap_of

__all__ = ["Targets"]


class Targets:
    """Computes the features of contents and the statistics of styles.

    Layers that share no computation are computed one after the other, so that each has tiles with
    the halo that it needs itself.

    Args:
        backbone: the network.
        precision: number format of its features.
        device: device of the network.
        style_backbone: the network that sees the styles; None is ``backbone``. For periodic results
            it is another one, since styles are not periodic.
    """

    def __init__(
        self,
        backbone: Backbone,
        precision: Precision,
        device: torch.device,
        *,
        style_backbone: Backbone | None = None,
    ) -> None:
        self._backbone, self._precision, self._device = backbone, precision, device
        self._style_backbone = backbone if style_backbone is None else style_backbone

    def content(
        self,
        content: Tensor,
        layers: Sequence[str],
        tiler: Tiler,
        *,
        keep: bool,
        shards: ShardedField | None,
    ) -> Mapping[str, Tensor | ContentSource]:
        """Return the features of a content by layer, or sources that compute them on request.

        Args:
            content: ``(1, C, *S)``.
            layers: names of the layers.
            tiler: chooses the tiles of the content.
            keep: whether features are kept in memory.
            shards: distribution of a field of the content's size over processes, each of which
                computes the features that its tiles read. None is this process alone.
        """
        size = content.shape[2:]

        def features(tiling: Tiling, names: Sequence[str]) -> Mapping[str, Tensor]:
            if len(tiling) == 1:
                return self._features(names)(content)
            # On the CPU, which leaves the device's memory to the tiles.
            return tiled_features(self._features(names), content.cpu(), tiling, names)

        def source(tiling: Tiling, name: str) -> ContentSource:
            compute = self._features([name])
            if shards is None:
                return RecomputedContent(compute, content, tiling, name)
            return ShardedContent(
                compute, content, tiling, name, shards=shards, tiler=tiler, keep=keep
            )

        targets: dict[str, Tensor | ContentSource] = {}
        if keep and shards is None:
            for names in self._backbone.independent_groups(layers):
                work = partial(features, names=names)
                targets |= tiler.run_with_retries(work, self._backbone, names, size)
            return targets
        for name in layers:
            targets[name] = tiler.run_with_retries(
                partial(source, name=name), self._backbone, [name], size
            )
        return targets

    def style(
        self,
        style: Tensor,
        statistics: Mapping[str, Statistic],
        tiler: Tiler,
        *,
        raw: Collection[str],
        group: ProcessGroup | None,
    ) -> dict[str, Sums]:
        """Return the statistics of a style by layer.

        Args:
            style: ``(1, C, *S)``.
            statistics: the statistic of each layer.
            tiler: chooses the tiles of the style.
            raw: layers that are read before their projection, see `Backbone.forward`.
            group: the processes that share the work; None is this process alone.
        """
        backbone = self._style_backbone
        overlaps = {name: overlap_of(statistic) for name, statistic in statistics.items()}

        def sums(tiling: Tiling, names: Sequence[str]) -> dict[str, Sums]:
            features = self._features(names, raw=raw, backbone=backbone)
            of_layers = {name: statistics[name] for name in names}
            if group is not None:
                return sharded_sums(features, style, tiling, of_layers, group)
            return tiled_sums(features, style, tiling, of_layers)

        targets: dict[str, Sums] = {}
        for names in backbone.independent_groups([*statistics]):
            work = partial(sums, names=names)
            targets |= tiler.run_with_retries(work, backbone, names, style.shape[2:], overlaps)
        return targets

    def _features(
        self,
        layers: Sequence[str],
        *,
        raw: Collection[str] = (),
        backbone: Backbone | None = None,
    ) -> Callable[..., Mapping[str, Tensor]]:
        backbone = self._backbone if backbone is None else backbone

        def features(values: Tensor, cut_axes: tuple[int, ...] = ()) -> Mapping[str, Tensor]:
            values = self._precision.layout(values.to(self._device))
            computed: dict[str, Tensor] = backbone.cut_along(cut_axes)(values, layers, raw=raw)
            return computed

        return features
