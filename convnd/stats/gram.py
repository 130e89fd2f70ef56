"""The Gram matrix: products of channels, summed over positions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from convnd.backbones.kernels import NativeConv
from convnd.backbones.kernels.native_gram import can_multiply, native_gram
from convnd.errors import ShapeError
from convnd.nn.transforms import apply_function, full_precision, is_transformed
from convnd.stats.base import StatisticModule, Sums, accumulable, count_positions

__all__ = ["GramStatistic", "gram_matrix"]

# torch stores products in bfloat16 rounded to 8 bits. Adding up this many partial products in
# float32 brings the error of the sum well below that of the features. Smaller chunks would be
# slow; matrices of few positions are multiplied in float32 instead.
_CHUNKS = 64
_MIN_CHUNK = 256
_FLOAT32_POSITIONS = 2048
_WIDE = 384  # channels, above which a matrix leaves the fastest cache


def gram_matrix(features: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Compute the Gram matrix: products of channels, summed over all positions.

    .. math:: G_{kk'} = \sum_p w_p\, a_{pk} a_{pk'}

    as in the lecture and in Gatys et al. (2016) for weights of 1. Gatys et al. (2017, "Controlling
    perceptual factors in neural style transfer") multiply features by a guide :math:`T`, which is
    :math:`w = T^2`. Positions of weight 0 are left out of the products.

    The forward pass takes one matrix product, and so does the backward pass, which turns the
    gradient :math:`\bar G` into :math:`(\bar G + \bar G^T) a`. Without weights nothing is copied
    if channels are innermost in memory.

    Args:
        features: ``(B, C, *S)``, any number of spatial axes.
        weight: weight of each position ``(B, 1, *S)`` or ``(1, 1, *S)``, at least 0; None is 1.

    Returns:
        ``(B, C, C)``, float32 (float64 for float64 features).

    Raises:
        ShapeError: ``features`` has no spatial axis.

    >>> gram_matrix(torch.tensor([[[1.0, 2.0], [0.0, 1.0]]]))
    tensor([[[5., 2.],
             [2., 1.]]])
    """
    if features.ndim < 3:
        raise ShapeError(
            "gram_matrix",
            expected="features (B, C, *S)",
            got=f"shape {tuple(features.shape)}",
            remedy="keep the batch and spatial axes",
        )
    with full_precision(features):
        if is_transformed():
            flat = accumulable(features.flatten(2))
            return flat @ flat.mT if weight is None else (flat * weight.flatten(2)) @ flat.mT
        result: Tensor = apply_function(_Gram, features, weight)
        return result


class GramStatistic(StatisticModule):
    """`gram_matrix` as an additive statistic.

    >>> statistic = GramStatistic()
    >>> statistic.summary(statistic.sums(torch.tensor([[[1.0, 3.0]]]))).item()  # (1² + 3²) / 2
    5.0
    """

    additive = True

    def sums(self, features: Tensor, *, weight: Tensor | None = None) -> Sums:
        """Sum the products of channels over positions, ``(B, C, C)``."""
        return Sums(gram_matrix(features, weight), count_positions(features, weight))

    def project_sums(self, sums: Sums, matrix: Tensor) -> Sums:
        r"""Turn the sums :math:`G` of ``a`` into those of :math:`W a`, :math:`W G W^T`."""
        matrix = matrix.to(sums.total.dtype)
        return Sums(matrix @ sums.total @ matrix.mT, sums.count)

    def summary(self, sums: Sums) -> Tensor:
        """Average the products of channels over positions, ``(B, C, C)``."""
        return sums.total / sums.count


def _rows(features: Tensor, order: list[int]) -> Tensor:
    """Positions as rows, ``(B, N, C)``.

    The result is a view if channels are innermost in memory, a copy if the features are a window of
    such features, and a transposed view otherwise.
    """
    if features.stride(1) == 1:
        return features.permute(order).flatten(1, -2)
    return features.flatten(2).mT


def _memory_order(features: Tensor) -> list[int]:
    """Permutation with channels last and spatial axes in the order of their strides.

    The order of positions does not change the sum.
    """
    strides = features.stride()
    return [0, *sorted(range(2, features.ndim), key=lambda axis: -strides[axis]), 1]


def _weighted_positions(
    weight: Tensor, features: Tensor, order: list[int]
) -> tuple[Tensor, Tensor]:
    """Return the indices of the rows with a weight, and the roots of these weights."""
    if features.stride(1) == 1:
        weight = weight.permute(order)
    flat = weight.flatten(1)
    index = (flat > 0).any(0).nonzero()[:, 0]
    return index, flat[:, index].sqrt().to(features.dtype)[..., None]


class _Gram(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor | None) -> Tensor:
        ctx.order = _memory_order(features)
        rows = _rows(features, ctx.order)
        ctx.index = None
        if weight is not None:
            ctx.index, ctx.root = _weighted_positions(weight, features, ctx.order)
            rows = rows[:, ctx.index] * ctx.root
            ctx.shape = features.shape
            ctx.innermost = features.stride(1) == 1
            ctx.save_for_backward(rows)
        else:
            ctx.save_for_backward(features)
        return _products(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        saved: Tensor = ctx.saved_tensors[0]
        symmetric = _add_transposed(gradients[0].to(saved.dtype))
        if ctx.index is not None:
            return _scatter(ctx, (saved @ symmetric) * ctx.root), None
        if saved.stride(1) == 1:
            permuted_features = saved.permute(ctx.order)
            rows = permuted_features.flatten(1, -2)
            # A convolution of 1x1 is the same product, but has no second derivative.
            if len(rows) == 1 and can_multiply(rows) and not torch.is_grad_enabled():
                product = NativeConv(symmetric[0, ..., None])(rows.mT).mT
            else:
                product = rows @ symmetric
            product = product.view(permuted_features.shape)
            return _from_memory_order(product, ctx.order), None
        return (symmetric @ saved.flatten(2)).view(saved.shape), None


def _products(rows: Tensor) -> Tensor:
    """Sum the products of channels over rows ``(B, N, C)``."""
    if can_multiply(rows):
        return native_gram(rows)
    if rows.dtype in (torch.float32, torch.float64):
        return rows.mT @ rows
    batch, count, channels = rows.shape
    if count <= _FLOAT32_POSITIONS or rows.dtype == torch.float16:  # whose largest number is 65504
        return _products(rows.float())
    size = max(_MIN_CHUNK, math.ceil(count / _CHUNKS))
    chunked_count = count // size * size
    parts = rows[:, :chunked_count].reshape(-1, size, channels)
    total = (parts.mT @ parts).view(batch, -1, channels, channels).sum(1, dtype=torch.float32)
    if chunked_count < count:
        last_columns = rows[:, chunked_count:].float()
        total += last_columns.mT @ last_columns
    return total


def _scatter(ctx: Any, rows: Tensor) -> Tensor:
    """Return the gradient of all positions from the rows of those that have a weight."""
    batch, channels, *extent = ctx.shape
    if not ctx.innermost:
        gradient = rows.new_zeros((batch, channels, math.prod(extent)))
        gradient[:, :, ctx.index] = rows.mT
        return gradient.view(ctx.shape)
    permuted_shape = [ctx.shape[axis] for axis in ctx.order]
    gradient = rows.new_zeros((batch, math.prod(extent), channels))
    gradient[:, ctx.index] = rows
    return _from_memory_order(gradient.view(permuted_shape), ctx.order)


def _from_memory_order(values: Tensor, order: list[int]) -> Tensor:
    return values.permute([order.index(axis) for axis in range(len(order))])


def _add_transposed(matrices: Tensor) -> Tensor:
    """Add to each matrix ``(B, C, C)`` its transposed."""
    small = matrices.shape[-1] < _WIDE
    if small or matrices.requires_grad or matrices.device.type != "cpu":
        return matrices + matrices.mT
    # Torch transposes single matrices block by block, and batches value by value: 3 times slower.
    result = torch.empty_like(matrices)
    for transposed, matrix in zip(result, matrices, strict=True):
        transposed.copy_(matrix.T)
    return result.add_(matrices)
