"""Layers whose weights are not trained: the same values, with little kept for the way back.

The gradient of a frozen convolution needs its weights and not its input; that of ReLU needs signs,
and that of a pooling the place of each maximum. So a network of these keeps about a fifth of the
bytes that automatic differentiation keeps for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convnd.nn import conv_nd, max_pool_nd, winograd_conv_nd, winograd_pays

__all__ = ["frozen_conv", "frozen_max_pool"]


def frozen_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    relu: bool = False,
    keep: bool = False,
    gate: bool = True,
    fast: bool = False,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Convolution with odd taps and zero padding that keeps the extent, then ReLU if asked for.

    Args:
        x: ``(B, C, *S)``.
        weight: ``(O, C, *K)``, odd taps.
        bias: ``(O,)``.
        relu: end with ``max(0, y)``.
        keep: the result is kept by somebody else anyway, so nothing is gained by keeping signs.
        gate: whether the gradient is stopped where ReLU gave 0; False where what follows does.
        fast: float32 on a CPU may use `convnd.nn.winograd_conv_nd` where it pays.
        dtype: number format of the result; None is that of ``weight``. From weights in float32 to
            bfloat16, the products have 16 bits: what a first layer sees of a faint texture on
            bright ground is differences between samples, which would not survive being rounded
            to 8.

    Returns:
        ``(B, O, *S)``, differentiable once with respect to ``x``.

    >>> x = torch.tensor([[[1.0, -2.0, 3.0]]], requires_grad=True)
    >>> frozen_conv(x, torch.ones(1, 1, 3), None, relu=True)
    tensor([[[0., 2., 1.]]], grad_fn=<_ConvBackward>)
    """
    # An axis of one sample and one tap is no axis.
    single = [axis for axis in range(2, x.ndim) if x.shape[axis] == weight.shape[axis] == 1]
    single = single[: x.ndim - 3]
    x, weight = x.squeeze(single), weight.squeeze(single)
    result: Tensor = _Conv.apply(  # type: ignore[no-untyped-call]
        x, weight, bias, relu, keep, gate, fast, dtype
    )
    for axis in single:
        result = result.unsqueeze(axis)
    return result


def frozen_max_pool(x: Tensor, kernel: Sequence[int], *, rectified: bool = False) -> Tensor:
    """`convnd.nn.max_pool_nd` that keeps the places of the maxima, and not its input.

    Args:
        x: ``(B, C, *S)``.
        kernel: samples along each axis of a window, which is also its step.
        rectified: ``x`` is the output of `frozen_conv` with ``relu`` and ``gate=False``: a
            maximum of 0 passes no gradient on.

    >>> frozen_max_pool(torch.tensor([[[1.0, 2.0, 4.0, 3.0]]]), [2])
    tensor([[[2., 4.]]])
    """
    if len(kernel) == 1:
        return frozen_max_pool(x.unsqueeze(2), [1, *kernel], rectified=rectified).squeeze(2)
    if len(kernel) not in _POOLS:
        y = max_pool_nd(x, kernel)
        return F.relu(y) if rectified else y
    result: Tensor = _MaxPool.apply(x, tuple(kernel), rectified)  # type: ignore[no-untyped-call]
    return result


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        relu: bool,
        keep: bool,
        gate: bool,
        fast: bool,
        dtype: torch.dtype | None,
    ) -> Tensor:
        fast = fast and _pays(x, weight)
        ctx.fast, ctx.dtype = fast, x.dtype
        dtype = weight.dtype if dtype is None else dtype
        taps = weight.to(dtype)
        if fast:
            y = winograd_conv_nd(x, weight, bias, relu=relu)
        else:
            x = x.to(weight.dtype)
            if dtype != weight.dtype:
                x, weight, bias = _split(x, weight, bias, dtype)
            y = conv_nd(x, weight, bias, padding=_padding(weight))
            if relu:
                y.relu_()
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(taps, *((y if keep else _signs(y),) if relu and gate else ()))
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, *kept = ctx.saved_tensors
        gate = kept[0] if kept else None
        if gate is not None and gate.dtype != torch.bool:
            gradient, gate = torch.ops.aten.threshold_backward(gradient, gate, 0), None
        if ctx.fast:
            back = winograd_conv_nd(gradient, weight, adjoint=True, gate=gate)
        else:
            if gate is not None:
                gradient = _gated(gradient, gate)
            axes = tuple(range(2, weight.ndim))
            flipped = weight.transpose(0, 1).flip(axes)
            back = conv_nd(gradient, flipped, padding=_padding(weight)).to(ctx.dtype)
        return back, None, None, None, None, None, None, None


def _signs(y: Tensor) -> Tensor:
    """Where ``y``, nowhere negative, is not 0; a cast is five times as fast as a comparison."""
    return y.to(torch.bool)


def _gated(gradient: Tensor, signs: Tensor) -> Tensor:
    """The gradient where there is a sign; products with truth values are slow, of one kind not."""
    return gradient * signs.view(torch.int8).to(gradient.dtype)


def _pays(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and set(weight.shape[2:]) == {3}
        and winograd_pays(tuple(x.shape[2:]), weight.shape[1], weight.shape[0])
    )


def _split(
    x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Operands whose convolution in ``dtype`` has nearly the precision of those given.

    With each number as a rounded one and the rest, also rounded, the channels hold
    :math:`x_h w_h + x_l w_h + x_h w_l`, and a channel of ones holds the bias.
    """
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    center = F.pad(bias.view(-1, *[1] * (weight.ndim - 1)), _around(weight))
    x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    weight = torch.cat([weight, center], 1)
    x_high, w_high = x.to(dtype), weight.to(dtype)
    x_low, w_low = (x - x_high).to(dtype), (weight - w_high).to(dtype)
    return torch.cat([x_high, x_low, x_high], 1), torch.cat([w_high, w_high, w_low], 1), None


def _around(weight: Tensor) -> list[int]:
    return [taps // 2 for taps in reversed(weight.shape[2:]) for _ in range(2)]


def _padding(weight: Tensor) -> list[int]:
    return [taps // 2 for taps in weight.shape[2:]]


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: tuple[int, ...], rectified: bool) -> Tensor:
        forward, _ = _POOLS[len(kernel)]
        y, places = forward(x, kernel)
        ctx.kernel, ctx.shape = kernel, x.shape
        if x.requires_grad:
            ctx.save_for_backward(places, *((_signs(y),) if rectified else ()))
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        places, *gate = ctx.saved_tensors
        if gate:
            gradient = _gated(gradient, gate[0])
        _, backward = _POOLS[len(ctx.kernel)]
        # Of the input only shape and layout are looked at: memory that nobody writes to is free.
        layout = _LAYOUTS[len(ctx.kernel)]
        if places.is_contiguous(memory_format=layout):
            gradient = gradient.contiguous(memory_format=layout)
        else:
            layout = torch.contiguous_format
        x = torch.empty(
            ctx.shape, dtype=gradient.dtype, device=gradient.device, memory_format=layout
        )
        ones, zeros = [1] * len(ctx.kernel), [0] * len(ctx.kernel)
        back = backward(gradient, x, ctx.kernel, ctx.kernel, zeros, ones, False, places)
        return back, None, None


_LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}
_POOLS: dict[int, tuple[Callable[..., tuple[Tensor, Tensor]], Callable[..., Tensor]]] = {
    2: (
        torch.ops.aten.max_pool2d_with_indices,
        torch.ops.aten.max_pool2d_with_indices_backward,
    ),
    3: (
        torch.ops.aten.max_pool3d_with_indices,
        torch.ops.aten.max_pool3d_with_indices_backward,
    ),
}
