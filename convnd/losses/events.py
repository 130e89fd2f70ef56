"""The mean of a field over windows at fixed positions, for example the mean heartbeat."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from convnd.errors import ShapeError
from convnd.losses.base import (
    INPUT,
    LossModule,
    Window,
    expand_target,
    relative_distance,
    tile_offset,
    tile_shape,
)
from convnd.stats import Sums, accumulable

__all__ = ["EventLoss", "mean_event"]

_BATCH = 4096  # windows that are summed at once


class EventLoss(LossModule):
    r"""Squared distance between the mean over windows of the values and a target.

    .. math:: \Big\lVert \frac1E \sum_e x_{p_e + u} - m_u \Big\rVert^2 / \lVert m \rVert^2

    with the target ``m``, the offset ``u`` in a window, and ``E`` windows that begin at
    :math:`p_e`. The mean over the window is subtracted from both before they are compared. The
    positions are fixed, so the sum is linear in the values and adds up over tiles. With the R peaks
    of a content and the mean beat of a style, the loss draws the style's beat in the content's
    rhythm.

    Args:
        target: mean of the windows ``(B, C, *W)``, or ``(1, C, *W)`` for every item of a batch;
            `mean_event` computes it.
        positions: ``(E, N)``, the first position of each window.
        size: extent of the whole field along each of its ``N`` axes.

    Raises:
        ShapeError: there is no window, or one is not inside the field.

    >>> loss = EventLoss(torch.tensor([[[0.0, 2.0]]]), torch.tensor([[0], [3]]), size=[5])
    >>> loss.value(loss.sums(torch.tensor([[[0.0, 1.0, 9.0, 0.0, 1.0]]]))).item()
    0.25
    """

    layer = INPUT
    additive = True
    linear = False
    overlap = 0
    positions: Tensor
    target: Tensor

    def __init__(self, target: Tensor, positions: Tensor, *, size: Sequence[int]) -> None:
        super().__init__()
        _check_windows(positions, tuple(target.shape[2:]), tuple(size))
        self.register_buffer("positions", positions)
        self.register_buffer("target", _subtract_mean(accumulable(target.detach())))
        self._measure_target()

    def sums(self, features: Tensor, window: Window | None = None) -> Sums:
        """Return the sum over the windows ``(B, C, *W)``, of the values inside the tile."""
        extents = tile_shape(features, window)
        width = self.target.shape[2:]
        starts = self.positions
        if window is not None:
            device = starts.device
            starts = starts - torch.tensor(tile_offset(features, window), device=device)
            ends = starts + torch.tensor(width, device=device)
            in_tile = (starts < torch.tensor(extents, device=device)) & (ends > 0)
            starts = starts[in_tile.all(1)]
        # Into the flattened tile.
        index = torch.zeros(len(starts), *width, dtype=torch.long, device=starts.device)
        mask = torch.ones_like(index, dtype=torch.bool)
        for axis, extent in enumerate(extents):
            shape = [-1 if other == axis else 1 for other in range(len(extents))]
            start = starts[:, axis].view(-1, *[1] * len(extents))
            position = start + torch.arange(width[axis], device=starts.device).view(shape)
            mask &= (position >= 0) & (position < extent)
            index = index * features.shape[axis + 2] + position
        index, mask = index.to(features.device), mask.to(features.device)
        values = features.flatten(2)[..., index.where(mask, 0)] * mask  # (B, C, E, *W)
        return Sums(accumulable(values).sum(2), math.prod(extents))

    def value(self, sums: Sums) -> Tensor:
        """Return the loss, a scalar."""
        mean = _subtract_mean(sums.total / len(self.positions))
        target = expand_target("EventLoss", self.target.to(mean.device), mean.shape, self.layer)
        squared_distance = (mean - target).square().sum()
        energy = self._energy * (len(mean) / len(self.target))
        return relative_distance(squared_distance, "balanced", energy=energy, count=mean.numel())

    def _measure_target(self) -> None:
        self._energy = float(self.target.square().sum())


def _check_windows(positions: Tensor, width: tuple[int, ...], size: tuple[int, ...]) -> None:
    """Check that there are windows, and that all of them lie in the field."""
    ndim = len(width)
    if positions.ndim != 2 or positions.shape[1] != ndim or len(size) != ndim:
        raise ShapeError(
            "EventLoss",
            expected=f"positions (E, {ndim}) and a size of {ndim} axes for windows {width}",
            got=f"positions {tuple(positions.shape)} and size {size}",
            remedy="give one number for each spatial axis of the target",
        )
    if not len(positions):
        raise ShapeError(
            "EventLoss", expected="at least one window", got="none", remedy="give its position"
        )
    is_outside = ((positions < 0) | (positions + torch.tensor(width) > torch.tensor(size))).any(1)
    if bool(is_outside.any()):
        first = int(is_outside.nonzero()[0])
        raise ShapeError(
            "EventLoss",
            expected=f"windows {width} inside the field {size}",
            got=f"{int(is_outside.sum())} of {len(positions)} outside, the first at "
            f"{tuple(positions[first].tolist())}",
            remedy="leave those out",
        )


def mean_event(values: Tensor, positions: Tensor, width: Sequence[int]) -> Tensor:
    """Return the mean over windows ``(B, C, *W)``, a target for `EventLoss`.

    Args:
        values: ``(B, C, *S)``.
        positions: ``(E, N)``, the first position of each window.
        width: extent of a window along each axis.

    Raises:
        ShapeError: there is no window, or one is not inside the field.

    >>> mean_event(torch.tensor([[[1.0, 2.0, 3.0, 5.0]]]), torch.tensor([[0], [2]]), [2])
    tensor([[[2.0000, 3.5000]]])
    """
    kernel = values.new_zeros((*values.shape[:2], *width))
    total = torch.zeros_like(kernel)
    for batch in torch.split(positions, _BATCH):  # a day has a hundred thousand beats
        total += EventLoss(kernel, batch, size=values.shape[2:]).sums(values).total
    return total / len(positions)


def _subtract_mean(values: Tensor) -> Tensor:
    return values - values.flatten(2).mean(2).view(*values.shape[:2], *[1] * (values.ndim - 2))
