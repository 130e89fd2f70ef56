"""The Gram matrix: which channels are active together."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from convnd.errors import ShapeError
from convnd.stats.base import Sums

__all__ = ["GramStatistic", "gram_matrix"]

# Products in bfloat16 are rounded to 8 bits when they are stored. Summing up this many of them in
# float32 brings the error of the sum well below that of the features; chunks of fewer positions
# than this are not worth their while, and so few in all are multiplied in float32.
_CHUNKS = 64
_CHUNK = 256
_FEW = 2048


def gram_matrix(features: Tensor) -> Tensor:
    r"""Sums of products of channels over all positions.

    .. math:: G_{kk'} = \sum_p a_{pk} a_{pk'}

    as in the notes and in Gatys et al. (2016). One matrix product forwards and one backwards
    (its gradient :math:`a (\bar G + \bar G^T)`), no copy when channels are innermost in memory.

    Args:
        features: ``(B, C, *S)``, any number of spatial axes.

    Returns:
        ``(B, C, C)``, float32 (float64 for float64 features).

    Raises:
        ShapeError: there is no spatial axis.

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
    result: Tensor = _Gram.apply(features)  # type: ignore[no-untyped-call]
    return result


class GramStatistic:
    """`gram_matrix` as an additive statistic."""

    additive = True

    def sums(self, features: Tensor) -> Sums:
        """Sums of products of channels ``(B, C, C)``."""
        return Sums(gram_matrix(features), math.prod(features.shape[2:]))

    def project_sums(self, sums: Sums, matrix: Tensor) -> Sums:
        r"""Of :math:`W a`: :math:`W G W^T`."""
        matrix = matrix.to(sums.total.dtype)
        return Sums(matrix @ sums.total @ matrix.mT, sums.count)

    def summary(self, sums: Sums) -> Tensor:
        """Mean products of channels ``(B, C, C)``."""
        return sums.total / sums.count


def _rows(features: Tensor) -> Tensor:
    # Positions as rows (B, N, C): a view when channels are innermost, a copy row by row when this
    # is a window of such features, and a transposed view otherwise.
    if features.stride(1) == 1:
        return features.permute(_in_memory(features)).flatten(1, -2)
    return features.flatten(2).mT


def _in_memory(features: Tensor) -> list[int]:
    """Axes with channels last, and positions in the order in which they lie: any will do."""
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
        if count <= _FEW:
            rows = rows.float()
            return rows.mT @ rows
        size = max(_CHUNK, math.ceil(count / _CHUNKS))
        whole = count // size * size
        parts = rows[:, :whole].reshape(-1, size, channels)
        total = (parts.mT @ parts).view(batch, -1, channels, channels).sum(1, dtype=torch.float32)
        if whole < count:
            rest = rows[:, whole:].float()
            total += rest.mT @ rest
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        features: Tensor = ctx.saved_tensors[0]
        (gradient,) = gradients
        half = gradient.to(features.dtype)  # symmetric itself but for rounding, nearly always
        symmetric = half + half.mT
        if features.stride(1) == 1:
            order = _in_memory(features)
            moved = features.permute(order)
            back = (moved.flatten(1, -2) @ symmetric).view(moved.shape)
            return back.permute([order.index(axis) for axis in range(len(order))])
        return (symmetric @ features.flatten(2)).view(features.shape)
