"""The content loss: squared distance to the features of the content."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from convnd.losses.base import Window, check_normalization, expand_target, tile_index
from convnd.nn.layout import flatten_values
from convnd.stats import Sums, accumulable

__all__ = ["ContentLoss", "ContentSource"]


class ContentSource(Protocol):
    """Features of the content that are computed on request, to save the memory for all of them.

    Attributes:
        channels: number of channels, over all items of the batch.
        energy: sum of the squared features.
    """

    channels: int
    energy: float

    def features(self, window: Window | None) -> Tensor:
        """Return the features in a window of the layer; None is the whole layer."""
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
    ``"balanced"``   :math:`d / \lVert a(C) \rVert^2`       this package; one weight fits all sizes
    ================ ====================================== =================================

    The first two are summed over a batch, the others averaged.

    Args:
        target: features of the content ``(B, C, *S)`` on any device, or a source of them. A batch
            of one is the target of every item.
        layer: the layer of the features.
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
        self.target = _StoredContent(target.detach()) if isinstance(target, Tensor) else target
        self.layer = layer
        self.normalization = check_normalization(normalization)
        energy = self.target.energy
        self._energy = energy if energy > 0 else 1.0  # a target of zeros has no scale of its own

    def sums(self, features: Tensor, window: Window | None = None) -> Sums:
        """Return the squared distance, a scalar.

        Raises:
            ShapeError: features and target have different shapes.
        """
        target = self.target.features(window)
        batch = len(features) / max(1, len(target))
        target = expand_target("ContentLoss", target, features.shape, self.layer)
        if features.dtype == torch.float16:  # a difference may exceed its largest number
            features = features.float()
        difference = flatten_values(features - target.to(features.device))
        difference = accumulable(difference)
        total = difference.dot(difference)
        if batch > 1 and self.normalization in ("balanced", "mean"):
            total = total / batch  # energy and channels are those of one target for all items
        return Sums(total, math.prod(features.shape[2:]))

    def value(self, sums: Sums) -> Tensor:
        """Return the loss, a scalar."""
        if self.normalization == "balanced":
            return sums.total / self._energy
        if self.normalization == "mean":
            return sums.total / (sums.count * self.target.channels)
        return sums.total / 2


class _StoredContent:
    """A `ContentSource` that holds the features."""

    def __init__(self, features: Tensor) -> None:
        self._features = features
        self.channels = features.shape[0] * features.shape[1]
        # Channel by channel, because memory may not hold a second tensor as large as the target.
        squares = [
            accumulable(channel).square().sum(dtype=torch.float64)
            for item in features
            for channel in item
        ]
        self.energy = float(torch.stack(squares).sum())

    def features(self, window: Window | None) -> Tensor:
        return self._features if window is None else self._features[tile_index(window)]
