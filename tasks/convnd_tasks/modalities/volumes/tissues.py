"""Features gathered by the class of their position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from convnd.nn import resize_nd

__all__ = ["downsample_labels", "gather_by_label"]


def downsample_labels(labels: Tensor, size: Sequence[int], n_labels: int) -> Tensor:
    """The label of each position of a layer: the most frequent one among its pixels.

    Args:
        labels: number of the class of each pixel ``(n, 1, H, W)``.
        size: extent of the layer ``(h, w)``.
        n_labels: number of labels; numbers from there on count as one more.

    Returns:
        ``(n, 1, h, w)``.
    """
    if tuple(labels.shape[2:]) == tuple(size):
        return labels
    shares = [
        resize_nd((labels == number).float(), size, mode="area") for number in range(n_labels + 1)
    ]
    return torch.stack(shares).argmax(0)


def gather_by_label(features: Tensor, labels: Tensor, n_labels: int) -> list[Tensor]:
    """The features of each label, so that a statistic visits every position once.

    Args:
        features: ``(n, C, h, w)``, of a layer.
        labels: see `downsample_labels`.
        n_labels: number of labels; positions with other numbers are left out.

    Returns:
        ``(1, C, N)`` for each label.

    >>> features = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2)
    >>> labels = torch.tensor([0, 1, 1, 0]).view(1, 1, 2, 2)
    >>> [part.tolist() for part in gather_by_label(features, labels, 2)]
    [[[[1.0, 4.0]]], [[[2.0, 3.0]]]]
    """
    numbers = downsample_labels(labels, features.shape[2:], n_labels).flatten()
    positions = [(numbers == number).nonzero()[:, 0] for number in range(n_labels)]
    rows = _GatherRows.apply(features.movedim(1, -1).flatten(0, -2), torch.cat(positions))  # type: ignore[no-untyped-call]
    return [part.mT[None] for part in rows.split([len(part) for part in positions])]


class _GatherRows(torch.autograd.Function):
    """Rows in another order, each at most once, so that the gradient needs no sums."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        ctx.count = len(rows)
        return rows.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (order,) = ctx.saved_tensors
        (gradient,) = gradients
        if len(order) < ctx.count:  # the rows that were left out share one row of zeros
            gradient = torch.cat([gradient, gradient.new_zeros(1, gradient.shape[1])])
        inverse = order.new_full((ctx.count,), len(order))
        inverse[order] = torch.arange(len(order), device=order.device)
        return gradient.index_select(0, inverse), None
