"""Features of single tiles, and whole layers put together from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from convnd.losses import Window, tile_index
from convnd.nn.layout import CHANNELS_LAST
from convnd.shapes import Tile

__all__ = ["insert_tile", "strip_halo", "tile_features", "write_tiles"]


def tile_features(
    features: Callable[[Tensor], Mapping[str, Tensor]], x: Tensor, tiles: Iterable[Tile]
) -> Iterator[tuple[Tile, dict[str, Tensor]]]:
    """Compute the features of one tile after the other.

    Args:
        features: returns the features of a crop ``(B, C, *S')`` by layer.
        x: ``(B, C, *S)``.
        tiles: tiles of ``x``.

    Yields:
        A tile and its features by layer, without the halo.
    """
    for tile in tiles:
        yield tile, strip_halo(tile, features(x[tile_index(tile.crop)]))


def strip_halo(tile: Tile, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the features of a crop by layer, without the tile's halo."""
    return {name: values[tile_index(tile.crop_windows[name])] for name, values in features.items()}


def insert_tile(values: Tensor, window: Window, layer: Tensor | None) -> Tensor:
    """Write a tile's features into the layer.

    Args:
        values: features of the tile ``(B, C, *S')``.
        window: the tile's place in the layer.
        layer: the layer ``(B, C, *S)`` that earlier tiles were written into. None allocates it; the
            tile must then be the last one of the layer, whose window shows where the layer ends.

    Returns:
        The layer.
    """
    if layer is None:
        extent = [part.start + n for part, n in zip(window, values.shape[2:], strict=True)]
        order = torch.contiguous_format
        if values.stride(1) == 1:  # channels are innermost
            order = CHANNELS_LAST.get(values.ndim - 2, order)
        shape = (*values.shape[:2], *extent)
        layer = torch.empty(shape, dtype=values.dtype, device=values.device, memory_format=order)
    layer[tile_index(window)] = values
    return layer


def write_tiles(
    compute: Callable[[Tensor, Sequence[int]], Tensor],
    x: Tensor,
    tiles: Iterable[Tile],
    layer: str,
    out: Tensor,
) -> Tensor:
    """Compute a layer of the input's extent tile by tile.

    Args:
        compute: returns the layer of a crop ``(B, C, *S')``, from the crop and the position of its
            first sample in ``x``.
        x: ``(B, C, *S)``.
        tiles: tiles of ``x`` for the layer.
        layer: name of the layer in the tiles.
        out: receives the layer, ``(B, C_l, *S)``.

    Returns:
        ``out``.
    """
    for tile in tiles:
        origin = [part.start for part in tile.crop]
        values = compute(x[tile_index(tile.crop)], origin)[tile_index(tile.crop_windows[layer])]
        out[tile_index(tile.windows[layer])] = values.to(out)
    return out
