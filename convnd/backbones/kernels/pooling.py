"""Pooling of frozen networks: the same values, with little kept for the way back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convnd.nn import max_pool_nd
from convnd.nn.layout import CHANNELS_LAST, channels_last, is_channels_last

__all__ = ["frozen_max_pool", "mask_gradient", "positive_mask"]

_PIECE = 2**21  # values that are pooled at once: torch's places of their maxima fit into a cache


def frozen_max_pool(x: Tensor, kernel: Sequence[int], *, mask_grad: bool = False) -> Tensor:
    """`convnd.nn.max_pool_nd` that keeps the places of the maxima, and not its input.

    Args:
        x: ``(B, C, *S)``.
        kernel: samples along each axis of a window, which is also its step.
        mask_grad: ``x`` is the output of `frozen_conv` with ``relu`` and ``mask_grad=False``: a
            maximum of 0 passes no gradient on.

    >>> frozen_max_pool(torch.tensor([[[1.0, 2.0, 4.0, 3.0]]]), [2])
    tensor([[[2., 4.]]])
    """
    if len(kernel) == 1:
        return frozen_max_pool(x.unsqueeze(2), [1, *kernel], mask_grad=mask_grad).squeeze(2)
    if len(kernel) not in _POOLS:
        y = max_pool_nd(x, kernel)
        return F.relu(y) if mask_grad else y
    result: Tensor = _MaxPool.apply(x, tuple(kernel), mask_grad)  # type: ignore[no-untyped-call]
    return result


def positive_mask(y: Tensor) -> Tensor:
    """Where ``y``, nowhere negative, is not 0; a cast is five times as fast as a comparison."""
    return y.to(torch.bool)


def mask_gradient(gradient: Tensor, kept: Tensor, into: Tensor) -> Tensor:
    """The gradient where what was kept, values or signs, is not 0."""
    if kept.dtype == torch.bool:
        # Products with truth values are slow, of one kind not.
        return torch.mul(gradient, kept.view(torch.int8).to(gradient.dtype), out=into)
    torch.ops.aten.threshold_backward.grad_input(gradient, kept, 0, grad_input=into)
    return into


class _MaxPool(torch.autograd.Function):
    """Torch tells places in the whole plane, in 8 bytes each; kept are those in their windows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: tuple[int, ...], mask_grad: bool) -> Tensor:
        pool, _ = _POOLS[len(kernel)]
        extents = [extent // step for extent, step in zip(x.shape[2:], kernel, strict=True)]
        size = (*x.shape[:2], *extents)
        y = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=_layout(x))
        places = torch.empty(0)
        if x.requires_grad:
            far = sum((each - 1) * step for each, step in zip(kernel, _steps(x), strict=True))
            narrow = torch.int16 if far < 2**15 else torch.int32
            places = torch.empty_like(y, dtype=narrow)
        for whole, pooled in _pieces(x, kernel):
            part = y[pooled]
            found = torch.empty_like(part, dtype=torch.int64)
            pool(x[whole], kernel, out=part, indices=found)
            if x.requires_grad:
                places[pooled].copy_(found.sub_(_first(x[whole], part, kernel)))
        ctx.kernel, ctx.shape = kernel, x.shape
        if x.requires_grad:
            ctx.save_for_backward(places, *((positive_mask(y),) if mask_grad else ()))
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        places, *gate = ctx.saved_tensors
        _, back = _POOLS[len(ctx.kernel)]
        gradient = channels_last(gradient) if is_channels_last(places) else gradient.contiguous()
        even = all(n % step == 0 for n, step in zip(ctx.shape[2:], ctx.kernel, strict=True))
        x = torch.empty(
            ctx.shape, dtype=gradient.dtype, device=gradient.device, memory_format=_layout(places)
        )
        if not even:  # no window reaches the last samples
            x.zero_()
        ones, zeros = [1] * len(ctx.kernel), [0] * len(ctx.kernel)
        for whole, pooled in _pieces(x, ctx.kernel):
            part = gradient[pooled]
            if gate:
                part = mask_gradient(part, gate[0][pooled], torch.empty_like(part))
            into = x[whole]
            where = places[pooled] + _first(into, part, ctx.kernel)
            back(part, into, ctx.kernel, ctx.kernel, zeros, ones, False, where, grad_input=into)
        return x, None, None


_POOLS: dict[int, tuple[Callable[..., object], Callable[..., object]]] = {
    2: (
        torch.ops.aten.max_pool2d_with_indices.out,
        torch.ops.aten.max_pool2d_with_indices_backward.grad_input,
    ),
    3: (
        torch.ops.aten.max_pool3d_with_indices.out,
        torch.ops.aten.max_pool3d_with_indices_backward.grad_input,
    ),
}


def _layout(x: Tensor) -> torch.memory_format:
    found: torch.memory_format = torch.contiguous_format
    return CHANNELS_LAST[x.ndim - 2] if is_channels_last(x) else found


def _steps(x: Tensor) -> list[int]:
    """How far apart neighbours along each axis of a plane are, as places are counted."""
    return [math.prod(x.shape[axis + 1 :]) for axis in range(2, x.ndim)]


def _first(x: Tensor, pooled: Tensor, kernel: Sequence[int]) -> Tensor:
    """The place of each window's first sample ``(*S)``."""
    found = torch.zeros((), dtype=torch.int64, device=x.device)
    for extent, window, step in zip(pooled.shape[2:], kernel, _steps(x), strict=True):
        found = found.unsqueeze(-1) + torch.arange(extent, device=x.device) * (window * step)
    return found


Piece = tuple[slice, ...]


def _pieces(x: Tensor, kernel: Sequence[int]) -> Iterator[tuple[Piece, Piece]]:
    """Parts of ``x`` that lie together in memory, and the same of what is pooled from it."""
    items, values = x.shape[0], max(1, x[:1].numel())
    most = _PIECE if x.device.type == "cpu" else items * values
    if values <= most:
        step = most // values
        for start in range(0, items, step):
            part = (slice(start, start + step),)
            yield part, part
        return
    # Of channels last the first axis of more than one sample is outermost, else channels are.
    axis = next((n for n in range(2, x.ndim) if x.shape[n] > 1), 2) if is_channels_last(x) else 1
    window = 1 if axis == 1 else kernel[axis - 2]
    pooled = x.shape[axis] // window
    step = max(1, pooled * most // values)
    for item, start in itertools.product(range(items), range(0, pooled, step)):
        lead = (slice(item, item + 1), *[slice(None)] * (axis - 1))
        stop = min(start + step, pooled)
        yield (*lead, slice(start * window, stop * window)), (*lead, slice(start, stop))
