"""Content: the features themselves."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from convnd.errors import ShapeError
from convnd.losses.base import Window, check_normalization, tile_index
from convnd.stats import Sums

__all__ = ["ContentLoss", "ContentSource"]


class ContentSource(Protocol):
    """Features of the content that are not kept, but made when they are asked for.

    Attributes:
        channels: of the features, over all items of the batch.
        energy: sum of their squares.
    """

    channels: int
    energy: float

    def at(self, window: Window | None) -> Tensor:
        """Features in a window of their layer; None is all of it."""
        ...


class ContentLoss:
    r"""Squared distance to the features of the content.

    With :math:`d = \lVert a(C) - a(G) \rVert^2` over ``P`` positions and ``n_c`` channels:

    ================ ====================================== =================================
    normalization    value                                  source
    ================ ====================================== =================================
    ``"lecture"``      :math:`\tfrac12 d`                     lecture notes, no. 4
    ``"gatys"``      :math:`\tfrac12 d`                     Gatys et al. (2016), eq. 1
    ``"mean"``       :math:`d / (P n_c)`                    mean squared error
    ``"balanced"``   :math:`d / \lVert a(C) \rVert^2`       ours: the same weight at any size
    ================ ====================================== =================================

    Args:
        target: features of the content ``(B, C, *S)``, on any device, or where they come from.
        layer: the layer they come from.
        normalization: one of `NORMALIZATIONS`.

    Raises:
        UnknownNameError: no such normalization.

    >>> loss = ContentLoss(torch.tensor([[[3.0, 4.0]]]), normalization="lecture")
    >>> loss.value(loss.sums(torch.zeros(1, 1, 2))).item()
    12.5
    """

    additive = True
    linear = True
    overlap = 0

    def __init__(
        self,
        target: Tensor | ContentSource,
        *,
        layer: str = "relu4_2",
        normalization: str = "balanced",
    ) -> None:
        self.target = _Kept(target.detach()) if isinstance(target, Tensor) else target
        self.layer = layer
        self.normalization = check_normalization(normalization)
        energy = self.target.energy
        self._energy = energy if energy > 0 else 1.0  # a target of zeros has no scale of its own

    def sums(self, features: Tensor, window: Window | None = None) -> Sums:
        """Squared distance, a scalar.

        Raises:
            ShapeError: the features are of another shape than the target.
        """
        target = self.target.at(window)
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
            return sums.total / (sums.count * self.target.channels)
        return sums.total / 2


class _Kept:
    def __init__(self, features: Tensor) -> None:
        self.features = features
        self.channels = features.shape[0] * features.shape[1]
        # Channel by channel: the target may be as large as memory allows to have once.
        squares = [
            channel.square().sum(dtype=torch.float64) for item in features for channel in item
        ]
        self.energy = float(torch.stack(squares).sum())

    def at(self, window: Window | None) -> Tensor:
        return self.features if window is None else self.features[tile_index(window)]
