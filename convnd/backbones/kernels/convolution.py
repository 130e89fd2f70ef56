"""Convolution with weights that are not trained: it saves less for the backward pass.

The gradient of a frozen convolution needs the weights but not the input. The gradient of a ReLU
needs signs, and the gradient of a max pooling needs the position of each maximum. A network of such
layers saves about a fifth of the bytes that automatic differentiation would save for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convnd.backbones.kernels.border import (
    Border,
    add_border_gradient,
    pad_argument,
    replace_border,
)
from convnd.backbones.kernels.native import NativeConv, can_convolve
from convnd.backbones.kernels.pooling import mask_gradient, positive_mask
from convnd.backbones.kernels.prepacked import PrepackedConv
from convnd.backbones.kernels.winograd import winograd_conv_nd, winograd_is_faster
from convnd.nn import conv_nd
from convnd.nn.layout import channels_last, is_channels_last
from convnd.nn.transforms import apply_function

__all__ = ["ConvOptions", "FrozenWeights", "frozen_conv"]


@dataclass(frozen=True, kw_only=True)
class ConvOptions:
    """How `frozen_conv` computes, and what it saves for the backward pass.

    Args:
        relu: whether the result is ``max(0, y)``.
        save_output: whether the result is saved for the backward pass instead of its signs, because
            the caller keeps it in memory anyway.
        mask_grad: whether the gradient becomes 0 where ReLU gave 0; False if the next layer does
            that.
        winograd: whether float32 on a CPU uses `NativeConv`, or `winograd_conv_nd` where it is
            faster than torch's convolution.
        inplace_grad: whether the gradient of the first result may be overwritten, because only one
            `frozen_conv` or `frozen_max_pool` reads that result.
        padded_axes: spatial axes along which samples of the field lie beyond the border; along the
            others, zeros lie there.
        circular: whether these are the samples at the other end, or else the outermost ones.
    """

    relu: bool = False
    save_output: bool = False
    mask_grad: bool = True
    winograd: bool = False
    inplace_grad: bool = False
    padded_axes: tuple[int, ...] = ()
    circular: bool = False

    def border(self, kernel: Sequence[int]) -> Border:
        """Return the samples beyond the border that a kernel reads.

        Args:
            kernel: extent of the kernel along each spatial axis.
        """
        margins = {axis + 2: kernel[axis] // 2 for axis in self.padded_axes if kernel[axis] > 1}
        return Border(margins, self.circular)


class FrozenWeights:
    """Weights of a convolution that keeps the extent: an odd kernel and zero padding.

    The layouts that the forward and backward pass read are made once, see `PrepackedConv`.

    Args:
        weight: ``(O, C, *K)``, odd kernel; must not change afterwards.
        bias: ``(O,)``; must not change afterwards.
        dtype: number format of the result; None is that of ``weight``. From float32 weights to a
            bfloat16 result, the products keep 16 bits of each factor. A first layer sees a faint
            texture on bright ground as small differences between samples, and rounding the samples
            to 8 bits would destroy them.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None = None, dtype: torch.dtype | None = None
    ) -> None:
        self.weight, self.bias = weight, bias
        self.dtype = weight.dtype if dtype is None else dtype
        self._squeezed_weights: dict[tuple[int, ...], FrozenWeights] = {}

    def squeeze(self, axes: tuple[int, ...]) -> FrozenWeights:
        """Drop spatial axes along which the kernel is 1 wide."""
        if axes not in self._squeezed_weights:
            weight = self.weight.squeeze([axis + 2 for axis in axes])
            self._squeezed_weights[axes] = FrozenWeights(weight, self.bias, self.dtype)
        return self._squeezed_weights[axes]

    def forward(self, x: Tensor, *, relu: bool = False) -> Tensor:
        """Convolve ``(B, C, *S)`` to ``(B, O, *S)``."""
        x = x.to(self.weight.dtype)
        if self.dtype != self.weight.dtype:
            high, low = _split(torch.cat([x, torch.ones_like(x[:, :1])], 1), self.dtype)
            # With a single channel torch reports both layouts, and concatenates in the slow one.
            keep_layout = is_channels_last(x)
            x = torch.cat([high, low, high], 1)
            x = channels_last(x) if keep_layout else x
        return self._forward_conv(x, relu=relu)

    def backward(self, gradient: Tensor) -> Tensor:
        """Convert the gradient of the result ``(B, O, *S)`` to that of the input ``(B, C, *S)``."""
        return self._backward_conv(gradient)

    @cached_property
    def native_forward(self) -> NativeConv:
        """`forward` from float32 to float32, where `can_convolve`."""
        return NativeConv(self.weight, self.bias)

    @cached_property
    def native_backward(self) -> NativeConv:
        """`backward` from float32 to float32, where `can_convolve`."""
        return NativeConv(self.weight.transpose(0, 1).flip(tuple(range(2, self.weight.ndim))))

    def differentiable_backward(self, gradient: Tensor) -> Tensor:
        """`backward` by torch's own operators, which give a graph for second derivatives."""
        flipped_weight = self.cast_weight.transpose(0, 1).flip(tuple(range(2, self.weight.ndim)))
        padding = [width // 2 for width in self.weight.shape[2:]]
        return conv_nd(gradient.to(flipped_weight.dtype), flipped_weight, padding=padding)

    @cached_property
    def cast_weight(self) -> Tensor:
        """The weights in the number format of the result."""
        return self.weight.to(self.dtype)

    @cached_property
    def _forward_conv(self) -> PrepackedConv:
        if self.dtype == self.weight.dtype:
            return PrepackedConv(self.weight, self.bias)
        # Each factor is a rounded number plus a rounded remainder. The channels hold
        # x_high w_high + x_low w_high + x_high w_low; one more channel of ones holds the bias.
        bias = self.weight.new_zeros(len(self.weight)) if self.bias is None else self.bias
        margins = [width // 2 for width in reversed(self.weight.shape[2:]) for _ in range(2)]
        center = F.pad(bias.view(-1, *[1] * (self.weight.ndim - 1)), margins)
        high, low = _split(torch.cat([self.weight, center], 1), self.dtype)
        return PrepackedConv(torch.cat([high, high, low], 1))

    @cached_property
    def _backward_conv(self) -> PrepackedConv:
        spatial_axes = tuple(range(2, self.weight.ndim))
        return PrepackedConv(self.cast_weight.transpose(0, 1).flip(spatial_axes))


def frozen_conv(
    x: Tensor, weights: FrozenWeights, options: ConvOptions | None = None
) -> tuple[Tensor, Tensor]:
    """Convolve with frozen weights, an odd kernel and padding that keeps the extent.

    The result is returned twice: for the next layer, and as features for the caller. So this layer
    can add and mask the two gradients in the memory of the first.

    Args:
        x: ``(B, C, *S)``.
        weights: the kernel and the bias.
        options: ReLU and memory; None means the defaults of `ConvOptions`.

    Returns:
        ``(B, O, *S)`` twice, differentiable with respect to ``x``.

    >>> x = torch.tensor([[[1.0, -2.0, 3.0]]], requires_grad=True)
    >>> frozen_conv(x, FrozenWeights(torch.ones(1, 1, 3)), ConvOptions(relu=True))[0]
    tensor([[[0., 2., 1.]]], grad_fn=<_FrozenConvBackward>)
    """
    options = ConvOptions() if options is None else options
    # An axis of one sample, with a kernel 1 wide, is left out: fewer axes are faster.
    sizes = zip(x.shape[2:], weights.weight.shape[2:], strict=True)
    single = [axis for axis, pair in enumerate(sizes) if pair == (1, 1)][: x.ndim - 3]
    x = x.squeeze([axis + 2 for axis in single])
    if single:
        weights = weights.squeeze(tuple(single))
        axes = [axis for axis in range(len(single) + x.ndim - 2) if axis not in single]
        padded = tuple(axes.index(axis) for axis in options.padded_axes if axis in axes)
        options = replace(options, padded_axes=padded)
    results = apply_function(_FrozenConv, x, weights, options)
    for axis in single:
        results = tuple(result.unsqueeze(axis + 2) for result in results)
    output, features = results
    return output, features


class _FrozenConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weights: FrozenWeights, options: ConvOptions
    ) -> tuple[Tensor, Tensor]:
        fast = options.winograd and weights.dtype == torch.float32
        ctx.native = fast and can_convolve(x, weights.weight)
        ctx.winograd = fast and not ctx.native and _prefers_winograd(x, weights.weight)
        ctx.inplace_grad = options.inplace_grad
        ctx.dtype, ctx.weights = x.dtype, weights
        ctx.border = options.border(weights.weight.shape[2:])
        ctx.set_materialize_grads(False)

        in_one_pass = ctx.native and ctx.border.repeats_everywhere(x.ndim)

        def convolve(values: Tensor) -> Tensor:
            if ctx.native:
                return weights.native_forward(values, relu=options.relu, replicate=in_one_pass)
            if ctx.winograd:
                return winograd_conv_nd(values, weights.weight, weights.bias, relu=options.relu)
            return weights.forward(values, relu=options.relu)

        y = convolve(x)
        if not in_one_pass:
            replace_border(y, x, ctx.border, convolve)
        if ctx.needs_input_grad[0] and options.relu and options.mask_grad:
            ctx.save_for_backward(y if options.save_output else positive_mask(y))
        return y, y.detach()

    @staticmethod
    def backward(
        ctx: Any, output_grad: Tensor | None, features_grad: Tensor | None
    ) -> tuple[Tensor | None, None, None]:
        weights: FrozenWeights = ctx.weights
        border: Border = ctx.border
        tensors = ctx.saved_tensors  # read once, as activation checkpointing asks for
        relu_gate = tensors[0] if tensors else None
        if torch.is_grad_enabled():  # second derivatives need the graph of this pass
            parts = [part for part in (output_grad, features_grad) if part is not None]
            if not parts:
                return None, None, None
            total = sum(parts[1:], start=parts[0])
            total = total if relu_gate is None else total * (relu_gate > 0)
            pads = {axis: (margin, margin) for axis, margin in border.margins.items()}
            total = F.pad(total, pad_argument(total.ndim, pads))
            x_grad = border.fold(weights.differentiable_backward(total))
            return x_grad.to(ctx.dtype), None, None
        inplace = ctx.inplace_grad and output_grad is not None
        gradient = features_grad if output_grad is None else output_grad
        if gradient is None:
            return None, None, None
        if output_grad is not None and features_grad is not None:
            gradient = output_grad.add_(features_grad) if inplace else output_grad + features_grad
        masks = ctx.native or (
            ctx.winograd and relu_gate is not None and relu_gate.dtype == torch.bool
        )
        if relu_gate is not None and not masks:
            # The buffer has the layout of the features; a gradient from outside may have another.
            buffer = gradient if inplace else torch.empty_like(relu_gate, dtype=gradient.dtype)
            gradient, relu_gate = mask_gradient(gradient, relu_gate, buffer), None

        def adjoint(values: Tensor, gate: Tensor | None = None) -> Tensor:
            if ctx.native:
                return weights.native_backward(values, gate=gate)
            if ctx.winograd:
                return winograd_conv_nd(values, weights.cast_weight, adjoint=True, mask=gate)
            return weights.backward(values).to(ctx.dtype)

        x_grad = adjoint(gradient, relu_gate)
        add_border_gradient(x_grad, gradient, relu_gate, border, adjoint)
        return x_grad, None, None


def _prefers_winograd(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and set(weight.shape[2:]) == {3}
        and winograd_is_faster(tuple(x.shape[2:]), weight.shape[1], weight.shape[0])
    )


def _split(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Write ``x`` as the sum of a rounded number and the rounded remainder, both in ``dtype``."""
    high = x.to(dtype)
    return high, (x - high).to(dtype)
