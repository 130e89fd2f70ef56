"""Smoothness: how much neighbours differ."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from convnd.errors import ShapeError
from convnd.losses.base import INPUT, Window, tile_index, tile_shape
from convnd.stats import Sums

__all__ = ["TotalVariationLoss", "total_variation"]


def total_variation(x: Tensor, spacing: Sequence[float]) -> Tensor:
    r"""Mean squared finite difference along every spatial axis.

    .. math:: \frac{1}{P} \sum_a \lVert \partial_a x \rVert^2

    Args:
        x: ``(B, C, *S)``, any number of spatial axes; an axis of length 1 adds nothing.
        spacing: distance between samples along each axis.

    Returns:
        Scalar, in (value per unit of spacing)², summed over batch and channels, divided by the
        ``P`` positions.

    Raises:
        ShapeError: ``spacing`` does not have one entry per spatial axis.

    Differs from Johnson et al. (2016): divided by the number of positions, so that weights carry
    over between resolutions.

    >>> total_variation(torch.tensor([[[0.0, 1.0, 1.0, 3.0]]]), spacing=[0.5]).item()
    5.0
    """
    loss = TotalVariationLoss(spacing)
    return loss.value(loss.sums(x))


class TotalVariationLoss:
    """`total_variation` of the iterate as a term of an objective.

    Args:
        spacing: distance between samples along each axis.
        reference: divides the loss, so that 1 is as rough as whatever had this value; the
            balanced objective gives the content's own total variation.
    """

    layer = INPUT
    additive = True
    linear = True
    overlap = 1

    def __init__(self, spacing: Sequence[float], *, reference: float = 1.0) -> None:
        self.spacing = tuple(spacing)
        self._reference = reference if reference > 0 else 1.0

    def sums(self, features: Tensor, window: Window | None = None) -> Sums:
        """Squared differences between each position and the next, a scalar.

        Raises:
            ShapeError: not one spacing per spatial axis.
        """
        if features.ndim - 2 != len(self.spacing):
            raise ShapeError(
                f"total_variation: expected one spacing for each of {features.ndim - 2} spatial "
                f"axes, got {len(self.spacing)}; give as many as axes"
            )
        own = tile_shape(features, window)
        total = features.new_zeros(())
        for axis, step in enumerate(self.spacing):
            # Behind its own the tile has the first of the next one, along this axis alone.
            kept = [slice(None if each == axis else extent) for each, extent in enumerate(own)]
            rows = features[tile_index(kept)]
            difference = (torch.diff(rows, dim=axis + 2) / step).flatten()
            total = total + difference.dot(difference)
        return Sums(total, math.prod(own))

    def value(self, sums: Sums) -> Tensor:
        """The loss, a scalar."""
        return sums.total / (sums.count * self._reference)
