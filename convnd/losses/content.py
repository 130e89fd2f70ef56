"""Content: the features themselves."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from convnd.errors import ShapeError
from convnd.losses.base import Window, check_normalization, within
from convnd.stats import Sums

__all__ = ["ContentLoss"]


class ContentLoss:
    r"""Squared distance to the features of the content.

    With :math:`d = \lVert a(C) - a(G) \rVert^2` over ``P`` positions and ``n_c`` channels:

    ================ ====================================== =================================
    normalization    value                                  source
    ================ ====================================== =================================
    ``"notes"``      :math:`\tfrac12 d`                     lecture notes, no. 4
    ``"gatys"``      :math:`\tfrac12 d`                     Gatys et al. (2016), eq. 1
    ``"mean"``       :math:`d / (P n_c)`                    mean squared error
    ``"balanced"``   :math:`d / \lVert a(C) \rVert^2`       ours: the same weight at any size
    ================ ====================================== =================================

    Args:
        target: features of the content ``(B, C, *S)``.
        layer: the layer they come from.
        normalization: one of `NORMALIZATIONS`.

    Raises:
        UnknownNameError: no such normalization.

    >>> loss = ContentLoss(torch.tensor([[[3.0, 4.0]]]), normalization="notes")
    >>> loss.value(loss.sums(torch.zeros(1, 1, 2))).item()
    12.5
    """

    additive = True
    linear = True
    overlap = 0

    def __init__(
        self, target: Tensor, *, layer: str = "relu4_2", normalization: str = "balanced"
    ) -> None:
        self.target = target.detach()
        self.layer = layer
        self.normalization = check_normalization(normalization)
        # Channel by channel: the target may be as large as memory allows to have once.
        energy = float(
            sum(
                channel.square().sum(dtype=torch.float64).item()
                for item in self.target
                for channel in item
            )
        )
        self._energy = energy if energy > 0 else 1.0  # a target of zeros has no scale of its own

    def sums(self, features: Tensor, window: Window | None = None) -> Sums:
        """Squared distance, a scalar.

        Raises:
            ShapeError: the features are of another shape than the target.
        """
        target = self.target if window is None else self.target[within(window)]
        if features.shape != target.shape:
            raise ShapeError(
                f"ContentLoss: expected features {tuple(target.shape)} of {self.layer} as the "
                f"content's, got {tuple(features.shape)}; bring both to one size"
            )
        difference = (features - target.to(features.device)).flatten()
        if difference.dtype not in (torch.float32, torch.float64):
            difference = difference.float()
        return Sums(difference.dot(difference), math.prod(features.shape[2:]))

    def value(self, sums: Sums) -> Tensor:
        """The loss, a scalar."""
        if self.normalization == "balanced":
            return sums.total / self._energy
        if self.normalization == "mean":
            return sums.total / (sums.count * self.target.shape[0] * self.target.shape[1])
        return sums.total / 2
