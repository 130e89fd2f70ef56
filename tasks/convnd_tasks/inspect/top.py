"""The strongest activations of each unit of a layer, over a stream of inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.intp]
    Floats = NDArray[np.float32]

__all__ = ["CHANNEL_SEPARATOR", "Entry", "TopActivations", "input_name"]

CHANNEL_SEPARATOR = "\x00"
"""Joins the name of an input and a channel number to a key; sorts before any other character."""

_BLOCK = 32
"""Samples in a block. The search reads the block maxima, and only a few blocks in full."""

Entry = tuple[float, str, tuple[int, ...]]
"""Activation, key and position of an entry."""


def input_name(key: str) -> str:
    """Return the name of the input that a key belongs to."""
    return key.partition(CHANNEL_SEPARATOR)[0]


class TopActivations:
    """The ``count`` strongest activations of each unit of a layer, in bounded memory.

    Entries are ordered by activation, then by key, then by position, so the result depends neither
    on the order of the inputs nor on the batches. Only activations above zero count. All units are
    processed at once: a layer has hundreds, and most inputs are too weak for most units.

    Args:
        units: number of units.
        count: entries for each unit.
        min_distance: distance along each axis, in samples of the feature map, below which two
            positions are neighbours; neighbours are close along all axes. Of neighbours in one map
            only the stronger remains, or, if equal, the first in memory order. Zeros disable this.
        one_per_input: keep only the strongest entry of each input.

    >>> top = TopActivations(1, 2, min_distance=[2])
    >>> top.update(["b", "a"], torch.tensor([[[0.0, 3, 4, 3, 0, 2]], [[0, 0, 4, 0, 0, 0]]]))
    >>> top.entries()
    [[(4.0, 'a', (2,)), (4.0, 'b', (2,))]]
    """

    def __init__(
        self, units: int, count: int, *, min_distance: Sequence[int], one_per_input: bool = False
    ) -> None:
        self.keys: list[str] = []
        """Sorted keys of the current entries."""
        self._count = count
        self._min_distance = min_distance
        self._one_per_input = one_per_input
        self._map_sizes: dict[str, tuple[int, ...]] = {}
        # Current entries, ordered by unit and rank; `_key_index` points into `keys`.
        self._units: Integers = np.zeros(0, np.intp)
        self._values: Floats = np.zeros(0, np.float32)
        self._key_index: Integers = np.zeros(0, np.intp)
        self._offsets: Integers = np.zeros(0, np.intp)
        # The same values as (rank, unit); 0 where a unit has fewer entries.
        self._ranking: Floats = np.zeros((count, units), np.float32)

    def update(self, keys: Sequence[str], maps: Tensor) -> None:
        """Merge in the strongest activations of a batch.

        Args:
            keys: key of each row of the batch.
            maps: feature maps ``(B, units, *S)``.
        """
        flat = maps.float().flatten(2).contiguous()
        block_maxima = _block_maxima(flat).cpu().numpy()
        strongest = block_maxima.max(2)
        # NaN in one input must not raise the limits of the others.
        strongest = np.where(np.isnan(strongest), 0, strongest)
        limits = self._ranking[-1]
        # With one entry per input, a new entry may replace one of the same input, so the batch
        # does not raise the limits.
        if not self._one_per_input:
            rankings = np.concatenate([self._ranking, strongest])
            limits = np.partition(rankings, -self._count, 0)[-self._count]
        rows, units = np.nonzero((strongest >= limits) & (strongest > 0))
        if not len(rows):
            return
        width, size = strongest.shape[1], tuple(maps.shape[2:])
        map_index, values, offsets = _peaks(
            flat.flatten(0, 1),
            block_maxima.reshape(-1, block_maxima.shape[2]),
            rows * width + units,
            limits[units],
            1 if self._one_per_input else self._count,
            self._min_distance,
            size,
        )
        self._map_sizes.update(dict.fromkeys(keys, size))
        self._merge(keys, *np.divmod(map_index, width), values, offsets)

    def entries(self) -> list[list[Entry]]:
        """Return the entries of each unit, strongest first."""
        result: list[list[Entry]] = [[] for _ in self._ranking[0]]
        sizes = np.array([self._map_sizes[key] for key in self.keys])
        coordinates: list[list[int]] = []
        remaining_offsets = self._offsets
        for axis in reversed(range(len(self._min_distance))):
            if len(remaining_offsets):
                remaining_offsets, coordinate = np.divmod(
                    remaining_offsets, sizes[self._key_index, axis]
                )
            else:
                coordinate = remaining_offsets
            coordinates.insert(0, coordinate.tolist())
        for unit, value, index, *position in zip(
            self._units.tolist(),
            self._values.tolist(),
            self._key_index.tolist(),
            *coordinates,
            strict=True,
        ):
            result[unit].append((value, self.keys[index], tuple(position)))
        return result

    def _merge(
        self,
        keys: Sequence[str],
        rows: Integers,
        units: Integers,
        values: Floats,
        offsets: Integers,
    ) -> None:
        all_keys, numbers = np.unique(np.array([*self.keys, *keys], object), return_inverse=True)
        units = np.concatenate([self._units, units])
        values = np.concatenate([self._values, values])
        key_index = np.concatenate([numbers[self._key_index], numbers[len(self.keys) :][rows]])
        offsets = np.concatenate([self._offsets, offsets])
        order = np.lexsort((offsets, key_index, -values, units))
        if self._one_per_input:
            names = np.unique([input_name(key) for key in all_keys], return_inverse=True)[1]
            pairs = units[order] * len(all_keys) + names[key_index[order]]
            order = order[np.sort(np.unique(pairs, return_index=True)[1])]
        starts = np.searchsorted(units[order], np.arange(self._ranking.shape[1]))
        ranks = np.arange(len(order)) - starts[units[order]]
        order, ranks = order[ranks < self._count], ranks[ranks < self._count]
        used_keys, self._key_index = np.unique(key_index[order], return_inverse=True)
        self.keys = all_keys[used_keys].tolist()
        self._map_sizes = {key: self._map_sizes[key] for key in self.keys}
        self._units, self._values, self._offsets = units[order], values[order], offsets[order]
        self._ranking[:] = 0
        self._ranking[ranks, self._units] = self._values


def _block_maxima(flat: Tensor) -> Tensor:
    """Take the maximum of each block of maps ``(B, C, N)``; the last block may be shorter."""
    whole = flat.shape[2] // _BLOCK * _BLOCK
    parts = [flat[..., whole:].amax(2, keepdim=True)] if whole < flat.shape[2] else []
    if whole:
        parts.insert(0, flat[..., :whole].reshape(*flat.shape[:2], -1, _BLOCK).amax(3))
    return torch.cat(parts, 2) if len(parts) > 1 else parts[0]


def _peaks(
    maps: Tensor,
    block_maxima: Floats,
    rows: Integers,
    limits: Floats,
    count: int,
    min_distance: Sequence[int],
    size: tuple[int, ...],
) -> tuple[Integers, Floats, Integers]:
    """Find the strongest samples of maps, without neighbours (non-maximum suppression).

    The suppression is greedy: the strongest sample, then the strongest one outside of its
    neighbourhood, and so on.
    """
    peaks: list[tuple[Integers, Floats, Integers]] = []
    blocks = 2 * count  # enough in most cases; suppression may use them up
    while len(rows):
        values, owners, offsets, complete = _strongest(
            maps, block_maxima[rows], rows, limits, blocks
        )
        selected = _suppress_neighbours(
            owners, np.unravel_index(offsets, size), count, min_distance
        )
        is_complete = complete | (np.bincount(owners[selected], minlength=len(rows)) >= count)
        selected = selected[is_complete[owners[selected]]]
        peaks.append((rows[owners[selected]], values[selected], offsets[selected]))
        rows, limits = rows[~is_complete], limits[~is_complete]
        blocks *= 4
    map_index, values, offsets = (np.concatenate(parts) for parts in zip(*peaks, strict=True))
    return map_index, values, offsets


def _strongest(
    maps: Tensor, block_maxima: Floats, rows: Integers, limits: Floats, blocks: int
) -> tuple[Floats, Integers, Integers, NDArray[np.bool_]]:
    """List the samples of each map that reach its limit and its ``blocks``-th largest block."""
    lowest = np.maximum(limits, np.finfo(limits.dtype).smallest_subnormal)
    complete = np.ones(len(rows), bool)
    if blocks < block_maxima.shape[1]:
        thresholds = np.partition(block_maxima, -blocks, 1)[:, -blocks]
        complete = thresholds <= lowest
        lowest = np.maximum(lowest, thresholds)
    # Include ties with the lowest, so that the order of ties is deterministic.
    owners, block_index = np.nonzero(block_maxima >= lowest[:, None])
    length = maps.shape[1]
    offsets = block_index[:, None] * _BLOCK + np.arange(min(_BLOCK, length))
    index = torch.from_numpy(rows[owners, None] * length + np.minimum(offsets, length - 1))
    values = maps.flatten()[index.to(maps.device)].cpu().numpy()
    valid = (values >= lowest[owners, None]) & (offsets < length)
    owners, offsets, values = owners[np.nonzero(valid)[0]], offsets[valid], values[valid]
    order = np.lexsort((offsets, -values, owners))
    return values[order], owners[order], offsets[order], complete


def _suppress_neighbours(
    owners: Integers, positions: Sequence[Integers], count: int, min_distance: Sequence[int]
) -> Integers:
    """Select at most ``count`` samples of each map, none of them next to a stronger one.

    All maps are processed at once: first the strongest of each, then the strongest that remains.
    """
    remaining = np.arange(len(owners))
    selected = []
    for _ in range(count):
        if not len(remaining):
            break
        starts = np.diff(owners[remaining], prepend=-1) != 0
        strongest = remaining[starts]
        selected.append(strongest)
        is_near = np.ones(len(remaining), bool)
        group = np.cumsum(starts) - 1
        for coordinates, distance in zip(positions, min_distance, strict=True):
            is_near &= np.abs(coordinates[remaining] - coordinates[strongest][group]) < distance
        remaining = remaining[~(is_near | starts)]
    return np.sort(np.concatenate(selected)) if selected else remaining
