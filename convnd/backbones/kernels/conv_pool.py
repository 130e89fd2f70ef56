"""A frozen convolution with ReLU and the max pooling after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from convnd.backbones.kernels.convolution import ConvOptions, FrozenWeights, frozen_conv
from convnd.backbones.kernels.native_conv_pool import (
    can_convolve_pool,
    native_conv_pool,
    native_unpool_conv,
)
from convnd.backbones.kernels.pooling import differentiable_unpool, frozen_max_pool
from convnd.nn.transforms import apply_function

__all__ = ["frozen_conv_pool"]


def frozen_conv_pool(
    x: Tensor, weights: FrozenWeights, options: ConvOptions, kernel: Sequence[int]
) -> Tensor:
    """Convolve by `frozen_conv`, apply ReLU, and pool by `frozen_max_pool`.

    Both are one pass where they can be: the features before the pooling, the largest of a block,
    are then neither stored nor read.

    Args:
        x: ``(B, C, *S)``.
        weights: the kernel and the bias.
        options: how the convolution computes.
        kernel: samples of a window along each axis.

    Returns:
        ``(B, O, *S')``, differentiable with respect to ``x``.

    >>> x = torch.tensor([[[1.0, -2.0, 4.0, 3.0]]])
    >>> weights = FrozenWeights(torch.ones(8, 1, 1))
    >>> frozen_conv_pool(x, weights, ConvOptions(relu=True, mask_grad=False), [2])[0, 0]
    tensor([1., 4.])
    """
    is_fast = options.winograd and weights.dtype == torch.float32
    if is_fast and can_convolve_pool(x, weights.weight, kernel):
        pooled: Tensor = apply_function(_ConvPool, x, weights, tuple(kernel))
        return pooled
    y, _ = frozen_conv(x, weights, options)
    return frozen_max_pool(y, kernel, mask_grad=True)


class _ConvPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: FrozenWeights, kernel: tuple[int, ...]) -> Tensor:
        needs_gradient = ctx.needs_input_grad[0]
        y, numbers = native_conv_pool(weights.native_forward, x, kernel, number=needs_gradient)
        ctx.weights, ctx.kernel, ctx.size = weights, kernel, x.shape[2:]
        if numbers is not None:
            ctx.save_for_backward(numbers)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (numbers,) = ctx.saved_tensors
        (gradient,) = gradients
        weights: FrozenWeights = ctx.weights
        if torch.is_grad_enabled():  # second derivatives need the graph of this pass
            plane = differentiable_unpool(gradient, numbers, ctx.kernel, ctx.size)
            return weights.differentiable_backward(plane), None, None
        x_grad = native_unpool_conv(
            weights.native_backward, gradient, numbers, ctx.kernel, ctx.size
        )
        return x_grad, None, None
