"""Features gathered tissue by tissue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from convnd.nn import resize_nd

__all__ = ["at_positions", "by_tissue"]


def at_positions(tissues: Tensor, size: Sequence[int], many: int) -> Tensor:
    """The tissue of each position of a layer: that which has most of its pixels.

    Args:
        tissues: ``(n, 1, H, W)``, number of each pixel's.
        size: of the layer, ``(h, w)``.
        many: how many there are; numbers from there on count as one more.

    Returns:
        ``(n, 1, h, w)``.
    """
    if tuple(tissues.shape[2:]) == tuple(size):
        return tissues
    shares = [
        resize_nd((tissues == number).float(), size, mode="area") for number in range(many + 1)
    ]
    return torch.stack(shares).argmax(0)


def by_tissue(features: Tensor, tissues: Tensor, many: int) -> list[Tensor]:
    """The positions of each tissue, so that a statistic looks at each of them once.

    Args:
        features: ``(n, C, h, w)``, of a layer.
        tissues: see `at_positions`.
        many: how many there are; pixels of others are left out.

    Returns:
        ``(1, C, N)`` for each tissue.

    >>> features = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2)
    >>> tissues = torch.tensor([0, 1, 1, 0]).view(1, 1, 2, 2)
    >>> [part.tolist() for part in by_tissue(features, tissues, 2)]
    [[[[1.0, 4.0]]], [[[2.0, 3.0]]]]
    """
    numbers = at_positions(tissues, features.shape[2:], many).flatten()
    places = [(numbers == number).nonzero()[:, 0] for number in range(many)]
    rows = _Ordered.apply(features.movedim(1, -1).flatten(0, -2), torch.cat(places))  # type: ignore[no-untyped-call]
    return [part.mT[None] for part in rows.split([len(each) for each in places])]


class _Ordered(torch.autograd.Function):
    """Some of the rows in another order; no row twice, so the gradient needs no sums."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        ctx.count = len(rows)
        return rows.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (order,) = ctx.saved_tensors
        (gradient,) = gradients
        if len(order) < ctx.count:  # a row of zeros for all that were left out
            gradient = torch.cat([gradient, gradient.new_zeros(1, gradient.shape[1])])
        back = order.new_full((ctx.count,), len(order))
        back[order] = torch.arange(len(order), device=order.device)
        return gradient.index_select(0, back), None
