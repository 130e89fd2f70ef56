"""Targets of losses, computed tile by tile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from convnd.losses import Window, tile_index, tile_offset, tile_shape
from convnd.optimize.evaluation.tiles import (
    CropFeatures,
    crop_features,
    insert_tile,
    strip_halo,
    tile_features,
)
from convnd.optimize.evaluation.two_pass import add_sums, not_additive_error
from convnd.shapes import Tile, Tiling
from convnd.stats import Statistic, Sums, is_additive, tile_sums

__all__ = ["RecomputedContent", "tiled_features", "tiled_sums"]


class RecomputedContent:
    """Features of the content, computed again for every tile when memory cannot hold them.

    Every evaluation then costs one forward pass of the content up to the layer more.

    Args:
        features: computes the features of a crop, see `CropFeatures`.
        content: ``(B, C, *S)``.
        tiling: tiles of the content for the layer.
        layer: name of the layer.
        tiles: the tiles whose energy is summed; None is all.

    Attributes:
        channels: number of channels of the features, over all items of the batch.
        energy: sum of the squared features of the tiles.
    """

    def __init__(
        self,
        features: CropFeatures,
        content: Tensor,
        tiling: Tiling,
        layer: str,
        *,
        tiles: Sequence[Tile] | None = None,
    ) -> None:
        self._features = features
        self._content = content
        self._tiling = tiling
        self._layer = layer
        self.channels = 0
        self.energy = 0.0
        with torch.no_grad():
            for _, layers in tile_features(features, content, tiling if tiles is None else tiles):
                values = layers[layer]
                self.channels = values.shape[0] * values.shape[1]
                self.energy += float(values.square().sum(dtype=torch.float64))

    def features(self, window: Window | None) -> Tensor:
        """Return the features in a window of the layer; None is the whole layer."""
        if window is None:
            window = [slice(0, None)] * len(self._tiling.size)
        crop, crop_window, cut_axes = self._tiling.crop_for(self._layer, window)
        with torch.no_grad():
            layers = crop_features(self._features, self._content, crop, cut_axes)
            return layers[self._layer][tile_index(crop_window)]


def tiled_sums(
    features: CropFeatures,
    x: Tensor,
    tiling: Tiling,
    statistics: Mapping[str, Statistic],
    *,
    tiles: Sequence[Tile] | None = None,
) -> dict[str, Sums]:
    """Compute statistics of layers tile by tile.

    Args:
        features: computes the features of a crop, see `CropFeatures`.
        x: ``(B, C, *S)``.
        tiling: tiles of ``x``, with the statistics' overlaps in their layers.
        statistics: the statistic of each layer.
        tiles: the tiles that are summed over, at least one; None is all.

    Returns:
        The sums of each layer.

    Raises:
        UsageError: there are several tiles and the sums of a statistic do not add up over them.
    """
    for statistic in statistics.values():
        if len(tiling) > 1 and not is_additive(statistic):
            raise not_additive_error(type(statistic).__name__)
    totals: list[Sums] = []
    with torch.no_grad():
        for tile, layers in tile_features(features, x, tiling if tiles is None else tiles):
            sums = [
                tile_sums(
                    statistic,
                    layers[name],
                    tile_shape(layers[name], tile.windows[name]),
                    tile_offset(layers[name], tile.windows[name]),
                )
                for name, statistic in statistics.items()
            ]
            totals = add_sums(totals, sums)
    return dict(zip(statistics, totals, strict=True))


def tiled_features(
    features: CropFeatures, x: Tensor, tiling: Tiling, layers: Sequence[str]
) -> dict[str, Tensor]:
    """Compute the features of whole layers tile by tile.

    Args:
        features: computes the features of a crop, see `CropFeatures`.
        x: ``(B, C, *S)``.
        tiling: tiles of ``x``.
        layers: the layers.

    Returns:
        ``(B, C_l, *S_l)`` by layer, on the device of ``x``.
    """
    whole: dict[str, Tensor] = {}
    with torch.no_grad():
        for index in reversed(range(len(tiling))):  # `insert_tile` needs the last tile first
            tile = tiling[index]
            tiled = strip_halo(tile, crop_features(features, x, tile.crop, tile.cut_axes))
            for name in layers:
                values = tiled[name].to(x.device)
                whole[name] = insert_tile(values, tile.windows[name], whole.get(name))
    return whole
