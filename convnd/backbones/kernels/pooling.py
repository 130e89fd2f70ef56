"""Max pooling of networks that are not trained: it saves indices, and not its input."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convnd.backbones.kernels.native_pool import can_pool, native_max_pool, native_max_unpool
from convnd.nn import max_pool_nd
from convnd.nn.layout import CHANNELS_LAST, channels_last, is_channels_last
from convnd.nn.transforms import apply_function, is_transformed

__all__ = ["differentiable_unpool", "frozen_max_pool", "mask_gradient", "positive_mask"]

_CHUNK = 2**21  # values that are pooled at once, so that torch's 8-byte indices fit into a cache


def frozen_max_pool(x: Tensor, kernel: Sequence[int], *, mask_grad: bool = False) -> Tensor:
    """Pool as `convnd.nn.max_pool_nd`, but save the indices of the maxima instead of the input.

    Args:
        x: ``(B, C, *S)``.
        kernel: samples of a window along each axis; also the step between windows.
        mask_grad: whether the gradient becomes 0 where a maximum is 0. ``x`` then is the output of
            `frozen_conv` with ``relu`` and without ``mask_grad``. Under transforms of torch this
            function calls `max_pool_nd`, and the gradient of ReLU is 0 there.

    >>> frozen_max_pool(torch.tensor([[[1.0, 2.0, 4.0, 3.0]]]), [2])
    tensor([[[2., 4.]]])
    """
    if is_transformed():
        window_maxima: Tensor = max_pool_nd(x, tuple(kernel))
        return window_maxima
    if can_pool(x, kernel):
        maxima: Tensor = apply_function(_NativeMaxPool, x, tuple(kernel), mask_grad)
        return maxima
    if len(kernel) == 1:
        return frozen_max_pool(x.unsqueeze(2), [1, *kernel], mask_grad=mask_grad).squeeze(2)
    if len(kernel) not in _POOLS:
        y = max_pool_nd(x, kernel)
        return F.relu(y) if mask_grad else y
    result: Tensor = apply_function(_FrozenMaxPool, x, tuple(kernel), mask_grad)
    return result


def positive_mask(y: Tensor) -> Tensor:
    """Return the mask of the positive values of ``y``, which has no negative ones.

    A cast is five times as fast as a comparison.
    """
    return y.to(torch.bool)


def mask_gradient(gradient: Tensor, saved: Tensor, out: Tensor) -> Tensor:
    """Set a gradient to 0 where a ReLU was not active.

    Args:
        gradient: any shape.
        saved: output of the ReLU, or its `positive_mask`; of the same shape.
        out: tensor that receives the result; may be ``gradient``.
    """
    if saved.dtype == torch.bool:
        # Products with booleans are slow; with numbers of the gradient's own type they are not.
        return torch.mul(gradient, saved.view(torch.int8).to(gradient.dtype), out=out)
    torch.ops.aten.threshold_backward.grad_input(gradient, saved, 0, grad_input=out)
    return out


def differentiable_unpool(
    gradient: Tensor, numbers: Tensor, kernel: Sequence[int], size: Sequence[int]
) -> Tensor:
    """Compute the gradient of `native_max_pool` by torch's operators, which give a graph.

    Args:
        gradient: gradient of the maxima, ``(B, C, *S')``.
        numbers: numbers of the maxima in their windows, from `native_max_pool`.
        kernel: samples of a window along each axis.
        size: extents of the input.

    Returns:
        ``(B, C, *S)``.
    """
    offsets = torch.zeros((), dtype=torch.int64)
    for width, step in zip(kernel, _plane_strides(size), strict=True):
        offsets = offsets.unsqueeze(-1) + torch.arange(width) * step
    # The number after the last one of a window means that the gradient is 0.
    indices = F.pad(offsets.flatten(), (0, 1))[numbers.long()]
    return _scatter(gradient * (numbers < offsets.numel()), indices, kernel, size)


def _scatter(values: Tensor, indices: Tensor, kernel: Sequence[int], size: Sequence[int]) -> Tensor:
    """Put a value of each window at its index from the first sample of the window, else zeros."""
    plane = values.new_zeros((*values.shape[:2], math.prod(size)))
    field = plane.view(*values.shape[:2], *size)
    in_plane = indices + _window_starts(field, values, kernel)
    return plane.scatter(2, in_plane.flatten(2), values.flatten(2)).view(field.shape)


class _NativeMaxPool(torch.autograd.Function):
    """Saves the number of each maximum in its window in 1 byte, which includes the mask."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: tuple[int, ...], mask_grad: bool) -> Tensor:
        y, numbers = native_max_pool(x, kernel, number=x.requires_grad, mask=mask_grad)
        ctx.kernel, ctx.shape = kernel, x.shape
        if numbers is not None:
            ctx.save_for_backward(numbers)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (numbers,) = ctx.saved_tensors
        (gradient,) = gradients
        if not torch.is_grad_enabled():
            return native_max_unpool(gradient, numbers, ctx.kernel, ctx.shape), None, None
        # Second derivatives need the graph of this pass.
        return differentiable_unpool(gradient, numbers, ctx.kernel, ctx.shape[2:]), None, None


class _FrozenMaxPool(torch.autograd.Function):
    """Saves the index of each maximum in its window, in 2 bytes where that is enough.

    Torch saves the index in the whole plane, in 8 bytes.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: tuple[int, ...], mask_grad: bool) -> Tensor:
        pool, _ = _POOLS[len(kernel)]
        extents = [extent // step for extent, step in zip(x.shape[2:], kernel, strict=True)]
        size = (*x.shape[:2], *extents)
        y = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=_layout(x))
        indices = torch.empty(0)
        if x.requires_grad:
            largest = sum(
                (width - 1) * step
                for width, step in zip(kernel, _plane_strides(x.shape[2:]), strict=True)
            )
            indices = torch.empty_like(y, dtype=torch.int16 if largest < 2**15 else torch.int32)
        for inputs, outputs in _chunks(x, kernel):
            part = y[outputs]
            in_plane = torch.empty_like(part, dtype=torch.int64)
            pool(x[inputs], kernel, out=part, indices=in_plane)
            if x.requires_grad:
                indices[outputs].copy_(in_plane.sub_(_window_starts(x[inputs], part, kernel)))
        ctx.kernel, ctx.shape = kernel, x.shape
        if x.requires_grad:
            ctx.save_for_backward(indices, *((positive_mask(y),) if mask_grad else ()))
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        indices, *mask = ctx.saved_tensors
        (gradient,) = gradients
        if torch.is_grad_enabled():  # second derivatives need the graph of this pass
            values = gradient * mask[0] if mask else gradient
            return _scatter(values, indices, ctx.kernel, ctx.shape[2:]), None, None
        _, pool_backward = _POOLS[len(ctx.kernel)]
        gradient = channels_last(gradient) if is_channels_last(indices) else gradient.contiguous()
        x_grad = torch.empty(
            ctx.shape, dtype=gradient.dtype, device=gradient.device, memory_format=_layout(indices)
        )
        if any(extent % step for extent, step in zip(ctx.shape[2:], ctx.kernel, strict=True)):
            x_grad.zero_()  # no window reaches the last samples
        ones, zeros = [1] * len(ctx.kernel), [0] * len(ctx.kernel)
        for inputs, outputs in _chunks(x_grad, ctx.kernel):
            part = gradient[outputs]
            if mask:
                part = mask_gradient(part, mask[0][outputs], torch.empty_like(part))
            out = x_grad[inputs]
            in_plane = indices[outputs] + _window_starts(out, part, ctx.kernel)
            pool_backward(
                part, out, ctx.kernel, ctx.kernel, zeros, ones, False, in_plane, grad_input=out
            )
        return x_grad, None, None


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
    contiguous: torch.memory_format = torch.contiguous_format
    return CHANNELS_LAST[x.ndim - 2] if is_channels_last(x) else contiguous


def _plane_strides(size: Sequence[int]) -> list[int]:
    """Distance between neighbours along each axis in torch's index of a plane."""
    return [math.prod(size[axis + 1 :]) for axis in range(len(size))]


def _window_starts(x: Tensor, window_maxima: Tensor, kernel: Sequence[int]) -> Tensor:
    """Torch's index of the first sample of each window, ``(*S)``."""
    starts = torch.zeros((), dtype=torch.int64, device=x.device)
    for extent, width, step in zip(
        window_maxima.shape[2:], kernel, _plane_strides(x.shape[2:]), strict=True
    ):
        starts = starts.unsqueeze(-1) + torch.arange(extent, device=x.device) * (width * step)
    return starts


Slices = tuple[slice, ...]


def _chunks(x: Tensor, kernel: Sequence[int]) -> Iterator[tuple[Slices, Slices]]:
    """Yield slices of ``x`` that are contiguous in memory, and the slices of their results."""
    items, values = x.shape[0], max(1, x[:1].numel())
    limit = _CHUNK if x.device.type == "cpu" else items * values
    if values <= limit:
        step = limit // values
        for start in range(0, items, step):
            chunk = (slice(start, start + step),)
            yield chunk, chunk
        return
    # In the channels-last layout the first axis of several samples is outermost, else channels are.
    axis = next((n for n in range(2, x.ndim) if x.shape[n] > 1), 2) if is_channels_last(x) else 1
    width = 1 if axis == 1 else kernel[axis - 2]
    extent = x.shape[axis] // width
    step = max(1, extent * limit // values)
    for item, start in itertools.product(range(items), range(0, extent, step)):
        lead = (slice(item, item + 1), *[slice(None)] * (axis - 1))
        stop = min(start + step, extent)
        yield (*lead, slice(start * width, stop * width)), (*lead, slice(start, stop))
