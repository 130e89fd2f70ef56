"""Maxima of windows with their positions, where torch has no operator for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from convnd.nn._native import NATIVE
from convnd.nn._pool_counts import window_padding
from convnd.nn.pad import pad_by_pairs
from convnd.shapes import Layer

__all__ = ["max_with_indices", "pad_lowest", "pool_axes_with_indices"]


def pad_lowest(x: Tensor, layer: Layer, sizes: Sequence[int]) -> Tensor:
    """Pad with values that are never a maximum, so that every window is complete.

    Args:
        x: ``(B, C, *S)``.
        layer: the pooling.
        sizes: number of windows along each axis.
    """
    lowest = -torch.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
    return pad_by_pairs(x, window_padding(x.shape[2:], layer, sizes), "constant", lowest)


def max_with_indices(x: Tensor, layer: Layer, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Compute the maximum of every window, and its position in ``x.flatten(2)``.

    Args:
        x: ``(B, C, *S)``.
        layer: the pooling.
        sizes: number of windows along each axis.
    """
    padded_x = pad_lowest(x, layer, sizes)

    def pool(part: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        return NATIVE[2].max_pool_with_indices(
            part, (layer.kernel[axis], 1), (layer.stride[axis], 1), 0, (layer.dilation[axis], 1)
        )

    values, indices = pool_axes_with_indices(padded_x, pool)
    positions = torch.zeros_like(indices)
    # From positions in the padded field to those in the field.
    for axis, (low, _) in enumerate(layer.padding):
        coordinate = indices // math.prod(padded_x.shape[3 + axis :]) % padded_x.shape[2 + axis]
        coordinate = coordinate - low
        # Of a window of -inf alone, its first sample in the field counts, as in torch.
        coordinate = torch.where(coordinate < 0, coordinate % layer.dilation[axis], coordinate)
        positions += coordinate * math.prod(x.shape[3 + axis :])
    # From there, so that no gradient goes into the padding.
    values = x.flatten(2).gather(2, positions.flatten(2)).view(values.shape)
    return values, positions


def pool_axes_with_indices(
    x: Tensor, pool: Callable[[Tensor, int], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Pool axis by axis, from the last to the first.

    Args:
        x: ``(B, C, *S)``.
        pool: the pooling of a tensor ``(1, B·C·…, S_axis, …)`` along its first spatial axis. Its
            second argument is the number of the axis. It returns the maxima, and their positions
            among the flattened two axes.

    Returns:
        The maxima, and their positions in ``x.flatten(2)``. Among equal maxima the first counts, as
        in torch.
    """
    positions = torch.arange(math.prod(x.shape[2:]), device=x.device)
    indices = positions.view(x.shape[2:]).expand(x.shape)
    for axis in reversed(range(x.ndim - 2)):
        shape = x.shape
        folded = (1, math.prod(shape[: 2 + axis]), shape[2 + axis], math.prod(shape[3 + axis :]))
        folded_x = x.reshape(folded)
        x, places = pool(folded_x, axis)
        size = (*shape[: 2 + axis], x.shape[2], *shape[3 + axis :])
        indices = indices.reshape(folded_x.shape).flatten(2).gather(2, places.flatten(2))
        x, indices = x.reshape(size), indices.reshape(size)
    return x, indices
