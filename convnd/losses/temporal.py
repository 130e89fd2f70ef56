"""The temporal loss: distance to the result of an earlier frame, warped to the current one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from convnd.errors import ShapeError
from convnd.losses.base import INPUT, LossModule, Window, expand_target, tile_index, tile_shape
from convnd.stats import Sums, accumulable

__all__ = ["TemporalLoss"]


class TemporalLoss(LossModule):
    r"""Squared distance to target values, weighted by a mask of confidence.

    .. math:: \frac{\sum_p m_p \lVert x_p - w_p \rVert^2}{P \cdot r}

    with the target ``w``, the mask ``m``, ``P`` positions and the ``reference`` ``r``. For videos,
    ``w`` is the result of an earlier frame, warped along the optical flow, and ``m`` is 0 where the
    flow is covered or uncertain (Ruder et al., 2016, eq. 6, which has neither ``r`` nor the same
    count: it divides by P · C).

    Args:
        target: ``(B, C, *S)``, or ``(1, C, *S)`` for every item of a batch.
        mask: confidence of each position, ``(B, 1, *S)`` in ``[0, 1]``.
        reference: divisor ``r`` of the loss. With the mean squared norm of the target's values, the
            loss is relative to the target's energy.

    Raises:
        ShapeError: the shapes of mask and target do not match.

    >>> loss = TemporalLoss(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, 0.0]]]))
    >>> loss.value(loss.sums(torch.tensor([[[4.0, 9.0]]]))).item()  # 3² of one of two positions
    4.5
    """

    layer = INPUT
    additive = True
    linear = True
    overlap = 0
    target: Tensor
    mask: Tensor

    def __init__(self, target: Tensor, mask: Tensor, *, reference: float = 1.0) -> None:
        super().__init__()
        if mask.shape != (target.shape[0], 1, *target.shape[2:]):
            raise ShapeError(
                "TemporalLoss",
                expected=f"a mask {(target.shape[0], 1, *target.shape[2:])} for a target "
                f"{tuple(target.shape)}",
                got=f"{tuple(mask.shape)}",
                remedy="give one for each position",
            )
        self.register_buffer("target", target.detach())
        self.register_buffer("mask", mask.detach().to(target.dtype))
        self._reference = reference if reference > 0 else 1.0

    def sums(self, features: Tensor, window: Window | None = None) -> Sums:
        """Return the masked squared distance, a scalar.

        Raises:
            ShapeError: features and target have different shapes.
        """
        target, mask = self.target, self.mask
        if window is not None:
            target, mask = target[tile_index(window)], mask[tile_index(window)]
        target = expand_target("TemporalLoss", target, features.shape, self.layer)
        difference = accumulable(features) - accumulable(target.to(features.device))
        total = torch.sum(accumulable(mask.to(features.device)) * difference * difference)
        return Sums(total, math.prod(tile_shape(features, window)))

    def value(self, sums: Sums) -> Tensor:
        """Return the loss, a scalar."""
        return sums.total / (sums.count * self._reference)
