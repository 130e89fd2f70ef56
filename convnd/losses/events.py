"""Events: what a field is like, on average, around places that are given."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from convnd.errors import ShapeError
from convnd.losses.base import INPUT, Window, tile_offset, tile_shape
from convnd.stats import Sums

__all__ = ["EventLoss", "mean_event"]

_AT_ONCE = 4096  # windows that are looked at together


class EventLoss:
    r"""Squared distance of the mean over windows of the values to a target.

    .. math:: \Big\lVert \frac1E \sum_e x_{p_e + u} - m_u \Big\rVert^2 / \lVert m \rVert^2

    with ``E`` windows that begin at :math:`p_e`, both sides without their mean over the window.
    The places are fixed, so this is linear in the values before the square, and adds up over
    tiles. With the R peaks of a content and the mean beat of a style, it asks for the style's
    beat in the content's rhythm.

    Args:
        target: ``(B, C, *W)``, see `mean_event`.
        places: ``(E, N)``, where each window begins.
        size: extent of the whole field along each of its ``N`` axes.

    Raises:
        ShapeError: there is no window, or one does not lie in the field.

    >>> loss = EventLoss(torch.tensor([[[0.0, 2.0]]]), torch.tensor([[0], [3]]), size=[5])
    >>> loss.value(loss.sums(torch.tensor([[[0.0, 1.0, 9.0, 0.0, 1.0]]]))).item()
    0.25
    """

    layer = INPUT
    additive = True
    linear = False
    overlap = 0

    def __init__(self, target: Tensor, places: Tensor, *, size: Sequence[int]) -> None:
        width = torch.tensor(target.shape[2:])
        if (
            places.ndim != 2
            or places.shape[1] != len(width)
            or not len(places)
            or bool((places < 0).any() or (places + width > torch.tensor(list(size))).any())
        ):
            raise ShapeError(
                f"EventLoss: expected windows {tuple(width.tolist())} in a field {tuple(size)}, "
                f"got {len(places)} of which some are not; leave those out"
            )
        self.places = places
        self.target = _level(target.detach())
        energy = self.target.square().sum().item()
        self._energy = energy if energy > 0 else 1.0

    def sums(self, features: Tensor, window: Window | None = None) -> Sums:
        """Sum over the windows ``(B, C, *W)`` of what of them lies in the tile."""
        own = tile_shape(features, window)
        width = self.target.shape[2:]
        first = self.places - torch.tensor(tile_offset(features, window))
        first = first[((first < torch.tensor(own)) & (first + torch.tensor(width) > 0)).all(1)]
        index = torch.zeros(len(first), *width, dtype=torch.long)
        inside = torch.ones_like(index, dtype=torch.bool)
        for axis, extent in enumerate(own):
            shape = [-1 if each == axis else 1 for each in range(len(own))]
            at = first[:, axis].view(-1, *[1] * len(own)) + torch.arange(width[axis]).view(shape)
            inside &= (at >= 0) & (at < extent)
            index = index * features.shape[axis + 2] + at
        index, inside = index.to(features.device), inside.to(features.device)
        seen = features.flatten(2)[..., index.where(inside, 0)] * inside
        return Sums(seen.sum(2), math.prod(own))

    def value(self, sums: Sums) -> Tensor:
        """The loss, a scalar."""
        difference = _level(sums.total / len(self.places)) - self.target
        return difference.square().sum() / self._energy


def mean_event(values: Tensor, places: Tensor, width: Sequence[int]) -> Tensor:
    """The mean over windows ``(B, C, *W)``, a target for `EventLoss`.

    Args:
        values: ``(B, C, *S)``.
        places: ``(E, N)``, where each window begins.
        width: of a window along each axis.

    Raises:
        ShapeError: as `EventLoss`.

    >>> mean_event(torch.tensor([[[1.0, 2.0, 3.0, 5.0]]]), torch.tensor([[0], [2]]), [2])
    tensor([[[2.0000, 3.5000]]])
    """
    kernel = values.new_zeros((*values.shape[:2], *width))
    total = torch.zeros_like(kernel)
    for some in torch.split(places, _AT_ONCE):  # a day has a hundred thousand beats
        total += EventLoss(kernel, some, size=values.shape[2:]).sums(values).total
    return total / len(places)


def _level(values: Tensor) -> Tensor:
    return values - values.flatten(2).mean(2).view(*values.shape[:2], *[1] * (values.ndim - 2))
