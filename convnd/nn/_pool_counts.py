"""Sums over the windows of an average pooling, and the number of samples in each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from convnd.nn._native import apply_separably
from convnd.nn.pad import pad_by_pairs
from convnd.shapes import Layer, Pairs

__all__ = ["window_counts", "window_padding", "window_sums"]


def window_padding(size: Sequence[int], layer: Layer, sizes: Sequence[int]) -> Pairs:
    """Compute the padding that completes every window, with the last window of ``ceil_mode``.

    Args:
        size: number of samples along each axis.
        layer: the pooling.
        sizes: number of windows along each axis.
    """
    return tuple(
        (low, max(high, (count - 1) * step + reach + 1 - samples - low))
        for samples, (low, high), count, step, reach in zip(
            size, layer.padding, sizes, layer.stride, layer.reach, strict=True
        )
    )


def window_sums(x: Tensor, layer: Layer, sizes: Sequence[int]) -> Tensor:
    """Compute the sum of every window, in float32 for 16-bit values.

    Args:
        x: ``(B, C, *S)``.
        layer: the pooling.
        sizes: number of windows along each axis.
    """
    if x.is_floating_point() and x.element_size() < 4:
        x = x.float()
    x = pad_by_pairs(x, window_padding(x.shape[2:], layer, sizes), "constant")

    def apply(part: Tensor, axes: tuple[int | None, ...]) -> Tensor:
        kernel, steps = (
            [1 if axis is None else values[axis] for axis in axes]
            for values in (layer.kernel, layer.stride)
        )
        pool = F.avg_pool2d if len(axes) == 2 else F.avg_pool3d
        return pool(part, kernel, steps, divisor_override=1)

    if x.ndim == 3:  # torch's pooling of one axis has no argument for the divisor
        pooled: Tensor = F.avg_pool2d(
            x.unsqueeze(2), (1, *layer.kernel), (1, *layer.stride), divisor_override=1
        )
        return pooled.squeeze(2)
    return apply_separably(x, apply)


def window_counts(x: Tensor, layer: Layer, sizes: Sequence[int], *, include_pad: bool) -> Tensor:
    """Compute the number of samples in every window, ``(*S')``, in the format of `window_sums`.

    Args:
        x: the input of the pooling.
        layer: the pooling.
        sizes: number of windows along each axis.
        include_pad: whether padding counts; the samples that ``ceil_mode`` adds never do.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    total = torch.ones((), dtype=dtype, device=x.device)
    for samples, taps, step, (low, high), count in zip(
        x.shape[2:], layer.kernel, layer.stride, layer.padding, sizes, strict=True
    ):
        starts = step * torch.arange(count, device=x.device) - low
        stops = (starts + taps).clamp(max=samples + high)
        if not include_pad:
            starts, stops = starts.clamp(min=0), stops.clamp(max=samples)
        total = total.unsqueeze(-1) * (stops - starts)
    return total
