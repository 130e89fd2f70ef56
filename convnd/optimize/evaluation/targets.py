"""Targets of losses, tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from convnd.losses import Window, tile_index, tile_offset, tile_shape
from convnd.optimize.evaluation.tiles import insert_tile, strip_halo, tile_features
from convnd.optimize.evaluation.two_pass import all_reduce_sums, not_additive_error
from convnd.shapes import Tile, Tiling
from convnd.stats import Statistic, Sums, is_additive, tile_sums

__all__ = ["RecomputedContent", "tiled_features", "tiled_sums"]

Features = Callable[[Tensor], Mapping[str, Tensor]]


class RecomputedContent:
    """Features of the content computed again for every tile, where there is no room to keep them.

    Costs each evaluation one forward pass of the content up to its layer.

    Args:
        features: of a crop, by layer.
        content: ``(B, C, *S)``.
        tiling: of it, for one layer.
        layer: that layer.
        tiles: those whose energy counts; None is all.
    """

    def __init__(
        self,
        features: Features,
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
            for _, found in tile_features(features, content, tiling if tiles is None else tiles):
                values = found[layer]
                self.channels = values.shape[0] * values.shape[1]
                self.energy += float(values.square().sum(dtype=torch.float64))

    def at(self, window: Window | None) -> Tensor:
        """Features in a window of the layer; None is all of it."""
        where = [slice(0, None)] * len(self._tiling.size) if window is None else window
        crop, place = self._tiling.crop_for(self._layer, where)
        with torch.no_grad():
            return self._features(self._content[tile_index(crop)])[self._layer][tile_index(place)]


def tiled_sums(
    features: Features,
    x: Tensor,
    tiling: Tiling,
    statistics: Mapping[str, Statistic],
    *,
    tiles: Sequence[Tile] | None = None,
) -> dict[str, Sums]:
    """Statistics of layers, tile by tile.

    Args:
        features: of a crop, by layer.
        x: ``(B, C, *S)``.
        tiling: of ``x``, with the statistics' overlaps in their layers.
        statistics: for every layer asked for, what is summed.
        tiles: those that are summed over, at least one; None is all.

    Raises:
        UsageError: there are several tiles and the statistic does not add up over them.
    """
    for statistic in statistics.values():
        if len(tiling) > 1 and not is_additive(statistic):
            raise not_additive_error(type(statistic).__name__)
    totals: list[Sums] | None = None
    with torch.no_grad():
        for tile, found in tile_features(features, x, tiling if tiles is None else tiles):
            each = [
                tile_sums(
                    statistic,
                    found[name],
                    tile_shape(found[name], tile.windows[name]),
                    tile_offset(found[name], tile.windows[name]),
                )
                for name, statistic in statistics.items()
            ]
            totals = all_reduce_sums(totals, each)
    assert totals is not None
    return dict(zip(statistics, totals, strict=True))


def tiled_features(
    features: Features, x: Tensor, tiling: Tiling, layers: Sequence[str]
) -> dict[str, Tensor]:
    """The features of whole layers, computed tile by tile.

    Args:
        features: of a crop, by layer.
        x: ``(B, C, *S)``.
        tiling: of ``x``.
        layers: the layers asked for.

    Returns:
        ``(B, C_l, *S_l)`` each, on the device of ``x``.
    """
    whole: dict[str, Tensor] = {}
    with torch.no_grad():
        for index in reversed(range(len(tiling))):  # the last tile tells where layers end
            tile = tiling[index]
            found = strip_halo(tile, features(x[tile_index(tile.crop)]))
            for name in layers:
                values = found[name].to(x.device)
                whole[name] = insert_tile(values, tile.windows[name], whole.get(name))
    return whole
