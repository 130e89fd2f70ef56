"""Statistics of a part of the positions, and the guides that choose it in each layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from convnd.errors import ShapeError
from convnd.stats.base import OverlapStatistic, Statistic, StatisticModule, Sums, overlap_of

if TYPE_CHECKING:
    from convnd.shapes import ReceptiveField

__all__ = ["GuidedStatistic", "layer_guide"]


class GuidedStatistic(StatisticModule):
    r"""A statistic whose sums weight each position by a guide.

    .. math:: s = \sum_p w_p\, s(a_p), \qquad N = \sum_p w_p

    For the Gram matrix this is the guided Gram matrix of Gatys et al. (2017, "Controlling
    perceptual factors in neural style transfer", section 4.1) with :math:`w = T^2`. The sums of
    regions whose guides add up to 1 add up to those of the whole field. As every statistic, they
    also add up over tiles: the guide covers the whole field, and each tile reads its part.

    Args:
        statistic: the statistic.
        guide: weights of the positions of a layer ``(B, 1, *S)`` or ``(1, 1, *S)``, at least 0. It
            may be longer than the layer. The weights of several items are scaled to one sum.

    Attributes:
        present: whether each item has a weight above 0, ``(B,)`` or ``(1,)``.

    >>> from convnd.stats import STATISTICS
    >>> guided = GuidedStatistic(STATISTICS["gram"], torch.tensor([[[1.0, 0.0]]]))
    >>> guided.sums(torch.tensor([[[3.0, 5.0]]]))
    Sums(total=tensor([[[9.]]]), count=1.0)
    """

    reads_positions = True
    present: Tensor
    guide: Tensor

    def __init__(self, statistic: Statistic, guide: Tensor) -> None:
        super().__init__()
        self._statistic = statistic
        totals = guide.detach().flatten(1).sum(1, dtype=torch.float64)
        self.register_buffer("present", totals > 0)
        if len(guide) > 1:  # one count of positions serves all items
            scale = totals.sum() / max(1, int(self.present.sum())) / totals.clamp_min(1e-30)
            guide = guide * scale.to(guide.dtype).view(-1, *[1] * (guide.ndim - 1))
        self.register_buffer("guide", guide.detach())
        self.overlap = overlap_of(statistic)
        self.additive = statistic.additive

    def sums(
        self,
        features: Tensor,
        tile_shape: Sequence[int] | None = None,
        tile_offset: Sequence[int] | None = None,
        *,
        weight: Tensor | None = None,
    ) -> Sums:
        """Sum the statistic over a tile, see `OverlapStatistic.sums`.

        A weight of each position is multiplied with the guide.

        Raises:
            ShapeError: the guide ends before the features.
        """
        extent = features.shape[2:]
        starts = (0,) * len(extent) if tile_offset is None else tile_offset
        window = [slice(start, start + n) for start, n in zip(starts, extent, strict=True)]
        guide = self.guide[(slice(None), slice(None), *window)].to(features.device)
        if guide.shape[2:] != extent:
            raise ShapeError(
                "guide",
                expected=f"weights for {tuple(extent)} positions",
                got=tuple(guide.shape[2:]),
                remedy="make it for the size of the features",
            )
        guide = guide if weight is None else guide * weight
        if self.overlap:
            statistic = cast("OverlapStatistic", self._statistic)
            sums = statistic.sums(features, tile_shape, tile_offset, weight=guide)
        else:
            sums = self._statistic.sums(features, weight=guide)
        # The items without weights do not count.
        return Sums(sums.total, sums.count * (len(self.present) / max(1, int(self.present.sum()))))

    def summary(self, sums: Sums) -> Tensor:
        """Compute the statistic per position; zeros divided by 0 are avoided."""
        return self._statistic.summary(sums if sums.count > 0 else Sums(sums.total, 1))


def layer_guide(
    share: Tensor,
    field: ReceptiveField,
    *,
    erode: bool = True,
    periodic: bool = False,
    overlap: int = 0,
) -> Tensor:
    r"""Bring a region to the positions of a layer.

    The influence of samples on a position falls from the centre of its receptive field to its edge
    (Luo et al., 2016, "Understanding the effective receptive field"). With a triangular window
    :math:`t` over the receptive field, the share of a position in the region is

    .. math:: u_k = \sum_p t_{p - k}\, m_p \Big/ \sum_p t_{p - k}

    over the samples :math:`p` of the input. Eroded, it is :math:`\max(0, 2 u - 1)`: a position
    whose receptive field is centred at a straight border counts for neither side, as Gatys et al.
    (2017) leave out positions that see both regions.

    Args:
        share: the region :math:`m`, from 0 to 1 at each sample, ``(B, 1, *S)``.
        field: receptive field of the layer, of whole numbers.
        erode: whether positions near the border count less. If this leaves nothing of a small
            region in the positions that the layer has for certain, it is not eroded.
        periodic: whether the region is one period of a field that repeats along every axis.
        overlap: positions behind the end of the layer, where a period begins again, along each
            axis; only of a periodic region.

    Returns:
        ``(B, 1, *S')`` in ``[0, 1]``, with at least as many positions as the layer.

    >>> from convnd.shapes import ReceptiveField
    >>> share = torch.tensor([[[0.0, 0.0, 1.0, 1.0, 1.0]]])
    >>> layer_guide(share, ReceptiveField((3,), (1,), (-1,))).flatten().tolist()
    [0.0, 0.0, 0.5, 1.0, 1.0]
    >>> field = ReceptiveField((3,), (1,), (-1,))
    >>> layer_guide(share, field, periodic=True, overlap=2).flatten().tolist()
    [0.0, 0.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    """
    values = share.float()
    for axis in range(share.ndim - 2):
        size, stride, offset = (
            int(part[axis]) for part in (field.size, field.stride, field.offset)
        )
        if periodic:
            values = _periodic_mean(values, axis + 2, size, stride, offset, overlap)
        else:
            values = _window_mean(values, axis + 2, size, stride, offset)
    values = values.clamp(0, 1)
    if not erode:
        return values
    eroded = (2 * values - 1).clamp_min(0)
    # Poolings leave out a last, incomplete window, so that a layer may lack the last position.
    steps = zip(share.shape[2:], field.stride, strict=True)
    certain = [slice(max(1, extent // int(step))) for extent, step in steps]
    positions = eroded[(slice(None), slice(None), *certain)]
    remains = (positions > 0).flatten(1).any(1).view(-1, *[1] * (share.ndim - 1))
    return torch.where(remains, eroded, values)


def _window_mean(values: Tensor, axis: int, size: int, stride: int, offset: int) -> Tensor:
    """Average values over triangular windows along one axis.

    Args:
        values: ``(B, 1, *S)``.
        axis: the axis.
        size: samples of a window.
        stride: distance of the windows.
        offset: first sample of the first window; may be negative.
    """
    line = values.movedim(axis, -1)
    length = line.shape[-1]
    count = math.ceil(length / stride)
    window = _triangle(size, values)
    end = offset + (count - 1) * stride + size
    padding = (-offset, end - length)  # negative padding cuts

    def sums(rows: Tensor) -> Tensor:
        return F.conv1d(F.pad(rows, padding), window, stride=stride)

    totals = sums(line.reshape(-1, 1, length))
    weights = sums(line.new_ones((1, 1, length))).clamp_min(torch.finfo(values.dtype).tiny)
    return (totals / weights).view(*line.shape[:-1], count).movedim(-1, axis)


def _periodic_mean(
    values: Tensor, axis: int, size: int, stride: int, offset: int, overlap: int
) -> Tensor:
    """Do the same as `_window_mean` for one period, and go on by some windows after its end."""
    line = values.movedim(axis, -1)
    length = line.shape[-1]
    count = max(1, length // stride)
    window = _triangle(size, values)
    first = offset + torch.arange((count - 1) * stride + size, device=values.device)
    rows = line[..., first % length].reshape(-1, 1, len(first))
    means = F.conv1d(rows, window / window.sum(), stride=stride)
    repeated = means[..., torch.arange(count + overlap, device=values.device) % count]
    return repeated.view(*line.shape[:-1], count + overlap).movedim(-1, axis)


def _triangle(size: int, like: Tensor) -> Tensor:
    ramp = torch.arange(1, size + 1, dtype=like.dtype, device=like.device)
    return torch.minimum(ramp, ramp.flip(0))[None, None]
