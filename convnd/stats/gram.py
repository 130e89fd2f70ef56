"""The Gram matrix: products of channels, summed over positions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from convnd.errors import ShapeError
from convnd.nn.transforms import apply_function, full_precision, is_transformed
from convnd.stats.base import Sums, accumulable

__all__ = ["GramStatistic", "gram_matrix"]

# torch stores products in bfloat16 rounded to 8 bits. Adding up this many partial products in
# float32 brings the error of the sum well below that of the features. Smaller chunks would be
# slow; matrices of few positions are multiplied in float32 instead.
_CHUNKS = 64
_MIN_CHUNK = 256
_FLOAT32_POSITIONS = 2048
_WIDE = 384  # channels, above which a matrix leaves the fastest cache


def gram_matrix(features: Tensor) -> Tensor:
    r"""Compute the Gram matrix: products of channels, summed over all positions.

    .. math:: G_{kk'} = \sum_p a_{pk} a_{pk'}

    as in the lecture and in Gatys et al. (2016). The forward pass takes one matrix product, and so
    does the backward pass, which turns the gradient :math:`\bar G` into
    :math:`(\bar G + \bar G^T) a`. Nothing is copied if channels are innermost in memory.

    Args:
        features: ``(B, C, *S)``, any number of spatial axes.

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
            return flat @ flat.mT
        result: Tensor = apply_function(_Gram, features)
        return result


class GramStatistic:
    """`gram_matrix` as an additive statistic.

    >>> statistic = GramStatistic()
    >>> statistic.summary(statistic.sums(torch.tensor([[[1.0, 3.0]]]))).item()  # (1² + 3²) / 2
    5.0
    """

    additive = True

    def sums(self, features: Tensor) -> Sums:
        """Sum the products of channels over positions, ``(B, C, C)``."""
        return Sums(gram_matrix(features), math.prod(features.shape[2:]))

    def project_sums(self, sums: Sums, matrix: Tensor) -> Sums:
        r"""Turn the sums :math:`G` of ``a`` into those of :math:`W a`, :math:`W G W^T`."""
        matrix = matrix.to(sums.total.dtype)
        return Sums(matrix @ sums.total @ matrix.mT, sums.count)

    def summary(self, sums: Sums) -> Tensor:
        """Average the products of channels over positions, ``(B, C, C)``."""
        return sums.total / sums.count


def _rows(features: Tensor) -> Tensor:
    """Positions as rows, ``(B, N, C)``.

    The result is a view if channels are innermost in memory, a copy if the features are a window of
    such features, and a transposed view otherwise.
    """
    if features.stride(1) == 1:
        return features.permute(_memory_order(features)).flatten(1, -2)
    return features.flatten(2).mT


def _memory_order(features: Tensor) -> list[int]:
    """Permutation with channels last and spatial axes in the order of their strides.

    The order of positions does not change the sum.
    """
    strides = features.stride()
    return [0, *sorted(range(2, features.ndim), key=lambda axis: -strides[axis]), 1]


class _Gram(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        rows = _rows(features)
        if rows.dtype in (torch.float32, torch.float64):
            return rows.mT @ rows
        batch, count, channels = rows.shape
        if count <= _FLOAT32_POSITIONS:
            rows = rows.float()
            return rows.mT @ rows
        size = max(_MIN_CHUNK, math.ceil(count / _CHUNKS))
        chunked_count = count // size * size
        parts = rows[:, :chunked_count].reshape(-1, size, channels)
        total = (parts.mT @ parts).view(batch, -1, channels, channels).sum(1, dtype=torch.float32)
        if chunked_count < count:
            last_columns = rows[:, chunked_count:].float()
            total += last_columns.mT @ last_columns
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        features: Tensor = ctx.saved_tensors[0]
        (gradient,) = gradients
        symmetric = _add_transposed(gradient.to(features.dtype))
        if features.stride(1) == 1:
            order = _memory_order(features)
            permuted_features = features.permute(order)
            product = (permuted_features.flatten(1, -2) @ symmetric).view(permuted_features.shape)
            return product.permute([order.index(axis) for axis in range(len(order))])
        return (symmetric @ features.flatten(2)).view(features.shape)


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
