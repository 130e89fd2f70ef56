"""Layers whose weights are not trained: the same values, with little kept for the way back.

The gradient of a frozen convolution needs its weights and not its input; that of ReLU needs signs,
and that of a pooling the place of each maximum. So a network of these keeps about a fifth of the
bytes that automatic differentiation keeps for it.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convnd.backbones.kernels.pooling import mask_gradient, positive_mask
from convnd.backbones.kernels.prepacked import PrepackedConv
from convnd.backbones.kernels.winograd import winograd_conv_nd, winograd_is_faster
from convnd.nn.layout import channels_last, is_channels_last

__all__ = ["FrozenWeights", "frozen_conv"]


class FrozenWeights:
    """The weights of a convolution with odd taps and zero padding that keeps the extent.

    What forward and backward pass read is made of them once, see `PrepackedConv`.

    Args:
        weight: ``(O, C, *K)``, odd taps; neither is to be changed afterwards.
        bias: ``(O,)``.
        dtype: number format of the result; None is that of ``weight``. From weights in float32 to
            bfloat16, the products have 16 bits: what a first layer sees of a faint texture on
            bright ground is differences between samples, which would not survive being rounded
            to 8.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None = None, dtype: torch.dtype | None = None
    ) -> None:
        self.weight, self.bias = weight, bias
        self.dtype = weight.dtype if dtype is None else dtype
        self._without: dict[tuple[int, ...], FrozenWeights] = {}

    def without(self, axes: tuple[int, ...]) -> FrozenWeights:
        """The same for data without these axes, which have one tap."""
        if axes not in self._without:
            weight = self.weight.squeeze([axis + 2 for axis in axes])
            self._without[axes] = FrozenWeights(weight, self.bias, self.dtype)
        return self._without[axes]

    def forward(self, x: Tensor, *, relu: bool = False) -> Tensor:
        """``(B, C, *S)`` to ``(B, O, *S)``."""
        x = x.to(self.weight.dtype)
        if self.dtype != self.weight.dtype:
            high, low = _halves(torch.cat([x, torch.ones_like(x[:, :1])], 1), self.dtype)
            # Of one channel any order is both, and joined it would be the slow one.
            inner = is_channels_last(x)
            x = torch.cat([high, low, high], 1)
            x = channels_last(x) if inner else x
        return self._forward_conv(x, relu=relu)

    def backward(self, gradient: Tensor) -> Tensor:
        """``(B, O, *S)`` to ``(B, C, *S)``."""
        return self._backward_conv(gradient)

    @cached_property
    def taps(self) -> Tensor:
        """The weights in the number format of the result."""
        return self.weight.to(self.dtype)

    @cached_property
    def _forward_conv(self) -> PrepackedConv:
        if self.dtype == self.weight.dtype:
            return PrepackedConv(self.weight, self.bias)
        # With each number as a rounded one and the rest, also rounded, the channels hold
        # x_h w_h + x_l w_h + x_h w_l, and a channel of ones holds the bias.
        bias = self.weight.new_zeros(len(self.weight)) if self.bias is None else self.bias
        around = [taps // 2 for taps in reversed(self.weight.shape[2:]) for _ in range(2)]
        center = F.pad(bias.view(-1, *[1] * (self.weight.ndim - 1)), around)
        high, low = _halves(torch.cat([self.weight, center], 1), self.dtype)
        return PrepackedConv(torch.cat([high, high, low], 1))

    @cached_property
    def _backward_conv(self) -> PrepackedConv:
        return PrepackedConv(self.taps.transpose(0, 1).flip(tuple(range(2, self.weight.ndim))))


def frozen_conv(
    x: Tensor,
    weights: FrozenWeights,
    *,
    relu: bool = False,
    save_output: bool = False,
    mask_grad: bool = True,
    winograd: bool = False,
    inplace_grad: bool = False,
) -> tuple[Tensor, Tensor]:
    """Convolution with odd taps and zero padding that keeps the extent, then ReLU if asked for.

    The result comes twice, for what follows in the network and for who asked for the features, so
    that their two gradients are added up and gated here, in the memory of the first.

    Args:
        x: ``(B, C, *S)``.
        weights: what it is convolved with.
        relu: end with ``max(0, y)``.
        save_output: save the result for the backward pass instead of its signs, because the caller
            keeps it in memory anyway.
        mask_grad: set the gradient to 0 where ReLU gave 0; False if the next layer does that.
        winograd: float32 on a CPU uses `winograd_conv_nd` where that is faster.
        inplace_grad: the gradient of the first result may be overwritten, because only one
            `frozen_conv` or `frozen_max_pool` reads that result.

    Returns:
        ``(B, O, *S)`` twice, differentiable once with respect to ``x``.

    >>> x = torch.tensor([[[1.0, -2.0, 3.0]]], requires_grad=True)
    >>> frozen_conv(x, FrozenWeights(torch.ones(1, 1, 3)), relu=True)[0]
    tensor([[[0., 2., 1.]]], grad_fn=<_ConvBackward>)
    """
    # An axis of one sample and one tap is no axis.
    sizes = zip(x.shape[2:], weights.weight.shape[2:], strict=True)
    single = [axis for axis, pair in enumerate(sizes) if pair == (1, 1)][: x.ndim - 3]
    x = x.squeeze([axis + 2 for axis in single])
    weights = weights.without(tuple(single)) if single else weights
    both = _Conv.apply(x, weights, relu, save_output, mask_grad, winograd, inplace_grad)  # type: ignore[no-untyped-call]
    for axis in single:
        both = tuple(each.unsqueeze(axis + 2) for each in both)
    first, second = both
    return first, second


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weights: FrozenWeights,
        relu: bool,
        save_output: bool,
        mask_grad: bool,
        winograd: bool,
        inplace_grad: bool,
    ) -> tuple[Tensor, Tensor]:
        winograd = winograd and _winograd_is_faster(x, weights.weight)
        ctx.winograd, ctx.dtype, ctx.weights = winograd, x.dtype, weights
        ctx.inplace_grad = inplace_grad
        ctx.set_materialize_grads(False)
        if winograd:
            y = winograd_conv_nd(x, weights.weight, weights.bias, relu=relu)
        else:
            y = weights.forward(x, relu=relu)
        if ctx.needs_input_grad[0] and relu and mask_grad:
            ctx.save_for_backward(y if save_output else positive_mask(y))
        return y, y.detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, inner: Tensor | None, outer: Tensor | None) -> tuple[Any, ...]:
        gate = ctx.saved_tensors[0] if ctx.saved_tensors else None
        inplace = ctx.inplace_grad and inner is not None
        gradient = outer if inner is None else inner
        if gradient is None:
            return (None,) * 7
        if inner is not None and outer is not None:
            gradient = inner.add_(outer) if inplace else inner + outer
        if gate is not None and not (ctx.winograd and gate.dtype == torch.bool):
            # In the layout of the features, whatever that of a gradient from outside is.
            into = gradient if inplace else torch.empty_like(gate, dtype=gradient.dtype)
            gradient, gate = mask_gradient(gradient, gate, into), None
        if ctx.winograd:
            back = winograd_conv_nd(gradient, ctx.weights.taps, adjoint=True, mask=gate)
        else:
            back = ctx.weights.backward(gradient).to(ctx.dtype)
        return back, None, None, None, None, None, None


def _winograd_is_faster(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and set(weight.shape[2:]) == {3}
        and winograd_is_faster(tuple(x.shape[2:]), weight.shape[1], weight.shape[0])
    )


def _halves(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """``x`` as the sum of two numbers in a coarser format."""
    high = x.to(dtype)
    return high, (x - high).to(dtype)
