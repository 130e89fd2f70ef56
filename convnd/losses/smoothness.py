"""Total variation: how much neighbours differ."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from convnd.errors import ShapeError
from convnd.losses.base import INPUT, LossModule, Window, tile_index, tile_shape
from convnd.stats import Sums, accumulable

__all__ = ["TotalVariationLoss", "total_variation"]


def total_variation(x: Tensor, spacing: Sequence[float]) -> Tensor:
    r"""Compute the mean squared finite difference along every spatial axis.

    .. math:: \frac{1}{P} \sum_a \lVert \partial_a x \rVert^2

    Args:
        x: ``(B, C, *S)``, any number of spatial axes; an axis of length 1 adds nothing.
        spacing: distance between samples along each axis.

    Returns:
        Scalar in (unit of the values / unit of the spacing)²: summed over batch and channels, and
        divided by the ``P`` positions.

    Raises:
        ShapeError: ``spacing`` does not have one entry per spatial axis.

    Differs from Johnson et al. (2016): divided by the number of positions, so that weights carry
    over between resolutions.

    >>> total_variation(torch.tensor([[[0.0, 1.0, 1.0, 3.0]]]), spacing=[0.5]).item()
    5.0
    """
    loss = TotalVariationLoss(spacing)
    return loss.value(loss.sums(x))


class TotalVariationLoss(LossModule):
    r"""`total_variation` of the optimized field, as a loss.

    .. math:: \frac{1}{P\,r} \sum_a \lVert \partial_a x \rVert^2

    Args:
        spacing: distance between samples along each axis.
        reference: divisor ``r`` of the loss. With the total variation of the content, a loss of 1
            means that the field is as rough as the content.

    >>> loss = TotalVariationLoss([0.5], reference=5.0)
    >>> loss.value(loss.sums(torch.tensor([[[0.0, 1.0, 1.0, 3.0]]]))).item()
    1.0
    """

    layer = INPUT
    additive = True
    linear = True
    overlap = 1

    def __init__(self, spacing: Sequence[float], *, reference: float = 1.0) -> None:
        super().__init__()
        self.spacing = tuple(spacing)
        self._reference = reference if reference > 0 else 1.0

    def sums(self, features: Tensor, window: Window | None = None) -> Sums:
        """Return the squared differences between each position and the next, a scalar.

        Raises:
            ShapeError: there is not one spacing per spatial axis.
        """
        if features.ndim - 2 != len(self.spacing):
            raise ShapeError(
                "total_variation",
                expected=f"one spacing for each of {features.ndim - 2} spatial axes",
                got=f"{len(self.spacing)}",
                remedy="give as many as axes",
            )
        extents = tile_shape(features, window)
        features = accumulable(features)
        total = features.new_zeros(())
        for axis, step in enumerate(self.spacing):
            # Along this axis the tile is followed by the first position of the next tile.
            rows = [slice(None if other == axis else n) for other, n in enumerate(extents)]
            difference = (torch.diff(features[tile_index(rows)], dim=axis + 2) / step).flatten()
            total = total + difference.dot(difference)
        return Sums(total, math.prod(extents))

    def value(self, sums: Sums) -> Tensor:
        """Return the loss, a scalar."""
        return sums.total / (sums.count * self._reference)
