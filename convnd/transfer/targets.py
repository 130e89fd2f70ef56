"""Targets of a style transfer: computed whole, in tiles, or by several processes."""

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
    """What a network sees of contents and styles.

    Layers that have nothing on their way in common are asked for one after the other, so that the
    tiles of each have no halo of another's.

    Args:
        backbone: the network.
        precision: that it has.
        device: where it is.
    """

    def __init__(self, backbone: Backbone, precision: Precision, device: torch.device) -> None:
        self._backbone, self._precision, self._device = backbone, precision, device

    def content(
        self,
        content: Tensor,
        layers: Sequence[str],
        tiler: Tiler,
        *,
        keep: bool,
        shards: ShardedField | None,
    ) -> Mapping[str, Tensor | ContentSource]:
        """Features of a content, or what makes them when they are asked for.

        Args:
            content: ``(1, C, *S)``.
            layers: the layers asked for.
            tiler: cuts it.
            keep: whether features are kept.
            shards: of the content, where several processes share the work; each then makes what
                its tiles see.
        """
        size = content.shape[2:]

        def kept(tiling: Tiling, names: Sequence[str]) -> Mapping[str, Tensor]:
            if len(tiling) == 1:
                return self._features(names)(content)
            # Beside the tiles, on the CPU.
            return tiled_features(self._features(names), content.cpu(), tiling, names)

        def again(tiling: Tiling, name: str) -> ContentSource:
            features = self._features([name])
            if shards is None:
                return RecomputedContent(features, content, tiling, name)
            return ShardedContent(
                features, content, tiling, name, shards=shards, tiler=tiler, keep=keep
            )

        found: dict[str, Tensor | ContentSource] = {}
        if keep and shards is None:
            for names in self._backbone.independent_groups(layers):
                found |= tiler.run_with_retries(
                    partial(kept, names=names), self._backbone, names, size
                )
            return found
        for name in layers:
            found[name] = tiler.run_with_retries(
                partial(again, name=name), self._backbone, [name], size
            )
        return found

    def style(
        self,
        style: Tensor,
        statistics: Mapping[str, Statistic],
        tiler: Tiler,
        *,
        raw: Collection[str],
        group: ProcessGroup | None,
    ) -> dict[str, Sums]:
        """Statistics of a style.

        Args:
            style: ``(1, C, *S)``.
            statistics: by layer.
            tiler: cuts it.
            raw: layers that are taken from before their taps, see `Backbone.forward`.
            group: the processes that share the work; None is this one alone.
        """
        overlaps = {name: overlap_of(statistic) for name, statistic in statistics.items()}

        def work(tiling: Tiling, names: Sequence[str]) -> dict[str, Sums]:
            features = self._features(names, raw=raw)
            chosen = {name: statistics[name] for name in names}
            if group is not None:
                return sharded_sums(features, style, tiling, chosen, group)
            return tiled_sums(features, style, tiling, chosen)

        found: dict[str, Sums] = {}
        for names in self._backbone.independent_groups([*statistics]):
            some = partial(work, names=names)
            found |= tiler.run_with_retries(some, self._backbone, names, style.shape[2:], overlaps)
        return found

    def _features(
        self, layers: Sequence[str], *, raw: Collection[str] = ()
    ) -> Callable[[Tensor], Mapping[str, Tensor]]:
        def features(values: Tensor) -> Mapping[str, Tensor]:
            found: dict[str, Tensor] = self._backbone(
                self._precision.layout(values.to(self._device)), layers, raw=raw
            )
            return found

        return features
