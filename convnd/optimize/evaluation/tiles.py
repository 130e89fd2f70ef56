"""Features of single tiles, and whole layers put together from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from convnd.losses import Window, tile_index
from convnd.nn.layout import CHANNELS_LAST
from convnd.nn.pad import wrapped_crop
from convnd.shapes import Tile

__all__ = [
    "CropFeatures",
    "add_crop",
    "crop_features",
    "insert_tile",
    "strip_halo",
    "tile_features",
    "write_tiles",
]


CropFeatures = Callable[..., Mapping[str, Tensor]]
"""Returns the features of a crop ``(B, C, *S')`` by layer. Of a crop of a periodic field it also
gets the argument ``cut_axes``, see `convnd.shapes.Tile`."""


def crop_features(
    features: CropFeatures, x: Tensor, crop: Sequence[slice], cut_axes: tuple[int, ...]
) -> Mapping[str, Tensor]:
    """Cut out a crop and compute its features.

    Args:
        features: computes them.
        x: ``(B, C, *S)``.
        crop: as in `convnd.shapes.Tile`.
        cut_axes: as in `convnd.shapes.Tile`.
    """
    values = wrapped_crop(x, crop)
    return features(values, cut_axes=cut_axes) if cut_axes else features(values)


def add_crop(total: Tensor, crop: Sequence[slice], values: Tensor) -> None:
    """Add the values of a crop to a field, in place: the transpose of `wrapped_crop`.

    Args:
        total: ``(B, C, *S)``.
        crop: the place of the values, which may lie outside of a periodic field.
        values: ``(B, C, *S')``.
    """
    index = []
    for axis, part in enumerate(crop, start=2):
        extent = total.shape[axis]
        if part.start >= 0 and part.stop <= extent:
            index.append(part)
            continue
        index.append(slice(0, extent))
        shape = list(values.shape)
        shape[axis] = extent
        period = values.new_zeros(shape)
        position = part.start
        while position < part.stop:  # one period after the other
            start = position % extent
            count = min(extent - start, part.stop - position)
            period.narrow(axis, start, count).add_(
                values.narrow(axis, position - part.start, count)
            )
            position += count
        values = period
    total[tile_index(index)] += values


OnTile = Callable[[int, int], None]
"""Is called with the number of tiles that are done, and with that of all tiles."""


class TileCounter:
    """Counts the tiles of a work that passes over them several times.

    Args:
        total: number of tiles of all passes.
        on_tile: is called after each tile; None is nobody.

    >>> counter = TileCounter(3, print)
    >>> list(counter.over([]))
    []
    """

    def __init__(self, total: int, on_tile: OnTile | None) -> None:
        self._total, self._on_tile = total, on_tile
        self._done = 0

    def over(self, tiles: Iterable[Tile]) -> Iterator[Tile]:
        """Yield tiles, and count each when the next one is asked for."""
        for tile in tiles:
            yield tile
            self._done += 1
            if self._on_tile is not None:
                self._on_tile(self._done, self._total)


def tile_features(
    features: CropFeatures, x: Tensor, tiles: Iterable[Tile]
) -> Iterator[tuple[Tile, dict[str, Tensor]]]:
    """Compute the features of one tile after the other.

    Args:
        features: computes the features of a crop.
        x: ``(B, C, *S)``.
        tiles: tiles of ``x``.

    Yields:
        A tile and its features by layer, without the halo.
    """
    for tile in tiles:
        yield tile, strip_halo(tile, crop_features(features, x, tile.crop, tile.cut_axes))


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
