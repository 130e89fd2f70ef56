"""The content loss: squared distance to the features of the content."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from convnd.losses.base import (
    LossModule,
    Window,
    check_normalization,
    expand_target,
    relative_distance,
    tile_index,
)
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


class ContentLoss(LossModule):
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
    target: Tensor | None

    def __init__(
        self,
        target: Tensor | ContentSource,
        *,
        layer: str = "relu4_2",
        normalization: str = "balanced",
    ) -> None:
        super().__init__()
        self.source = None if isinstance(target, Tensor) else target
        self.register_buffer("target", target.detach() if isinstance(target, Tensor) else None)
        self.layer = layer
        self.normalization = check_normalization(normalization)
        self._measure_target()

    def sums(self, features: Tensor, window: Window | None = None) -> Sums:
        """Return the squared distance, a scalar.

        Raises:
            ShapeError: features and target have different shapes.
        """
        target = self._target_in(window)
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
        if self.normalization in ("lecture", "gatys"):
            return sums.total / 2
        count = sums.count * self._channels
        return relative_distance(sums.total, self.normalization, energy=self._energy, count=count)

    def _target_in(self, window: Window | None) -> Tensor:
        """Return the target in a window; None is the whole layer."""
        if self.source is not None:
            return self.source.features(window)
        assert self.target is not None
        return self.target if window is None else self.target[tile_index(window)]

    def _measure_target(self) -> None:
        if self.source is not None:
            self._energy, self._channels = self.source.energy, self.source.channels
        else:
            assert self.target is not None
            self._energy = _energy(self.target)
            self._channels = math.prod(self.target.shape[:2])


def _energy(features: Tensor) -> float:
    """Sum the squares channel by channel: memory may not hold a second tensor of that size."""
    squares = [
        accumulable(channel).square().sum(dtype=torch.float64)
        for item in features
        for channel in item
    ]
    return float(torch.stack(squares).sum())
