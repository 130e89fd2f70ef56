"""The place of a scan on the voxels of another one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from convnd.nn.fft_conv import fft_length
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.smoothing import local_mean

__all__ = ["align"]

_SEARCH_EXTENT = 64  # voxels along each axis of the averaged scans in which a shift is searched
_DETAIL_SIGMA = 2.0  # voxels of averaged scans; details are what a Gaussian of this width removes
_LEAST_CORRELATION = 0.5  # of the details


def align(scan: Scan, style: Scan) -> Scan | None:
    """Place a style on the voxels of a scan, mirrored and shifted by whole voxels if need be.

    The details of both, averaged in boxes, are compared at all shifts, then at full resolution at
    the shifts around the best one.

    Args:
        scan: the scan.
        style: the style, with voxels of the same size.

    Returns:
        The style on the voxels of the scan; those without a counterpart are not valid. None if the
        details do not correlate anywhere.
    """
    coarse = [math.ceil(extent / _SEARCH_EXTENT) for extent in scan.values.shape]
    one, other = _details(scan, coarse), _details(style, coarse)
    mirrors = [axes for count in range(4) for axes in itertools.combinations(range(3), count)]
    number, shift = _best_shift(one, [other.flip(axes) for axes in mirrors])
    mirror = mirrors[number]
    shift = [places * step for places, step in zip(shift, coarse, strict=True)]
    style = Scan(style.values.flip(mirror), style.spacing, style.valid.flip(mirror))
    placed = _place(style, scan, shift)
    if max(coarse) > 1 and bool(placed.valid.any()):
        block = tuple(
            slice(max(0, middle - _SEARCH_EXTENT // 2), middle + _SEARCH_EXTENT // 2)
            for middle in placed.valid.nonzero().float().mean(0).int().tolist()
        )
        one, other = (
            _details(Scan(part.values[block], part.spacing, part.valid[block]), [1] * 3)
            for part in (scan, placed)
        )
        _, rest = _best_shift(one, [other], coarse)
        placed = _place(style, scan, [a + b for a, b in zip(shift, rest, strict=True)])
    one, other = _details(scan, coarse), _details(placed, coarse)
    one = one * (other != 0)
    norm = math.sqrt(float(one.square().sum()) * float(other.square().sum()))
    return placed if float((one * other).sum()) > _LEAST_CORRELATION * norm else None


def _details(scan: Scan, factors: list[int]) -> Tensor:
    """The details of a scan whose voxels were averaged in boxes, 0 where it is not valid."""
    valid, total = (
        F.avg_pool3d(part[None, None], factors, ceil_mode=True)[0, 0]
        for part in (scan.valid.float(), scan.values * scan.valid)
    )
    values, weight = total / valid.clamp(min=1e-30), (valid > 0).float()
    steps = [step * factor for step, factor in zip(scan.spacing, factors, strict=True)]
    widths = [_DETAIL_SIGMA if step <= 2.5 * min(steps) else 0.0 for step in steps]
    return (values - local_mean(values, weight, widths)) * weight


def _best_shift(
    one: Tensor, others: Sequence[Tensor], reach: Sequence[int] | None = None
) -> tuple[int, list[int]]:
    """Find which volume correlates most with another, and the shift in voxels at which it does.

    Args:
        one: ``(D, H, W)``.
        others: the same, all of the same extents.
        reach: largest shift along each axis; None for any.
    """
    extents = list(zip(one.shape, others[0].shape, strict=True))
    size = [fft_length(first + second) for first, second in extents]
    transform = torch.fft.rfftn(one, size)
    found = []
    for other in others:
        correlation = torch.fft.irfftn(transform * torch.fft.rfftn(other, size).conj(), size)
        if reach is not None:
            for axis, (count, most) in enumerate(zip(size, reach, strict=True)):
                correlation.narrow(axis, most + 1, count - 2 * most - 1).fill_(-math.inf)
        best = int(correlation.argmax())
        found.append((float(correlation.flatten()[best]), best))
    number = max(range(len(found)), key=found.__getitem__)
    index = torch.unravel_index(torch.tensor(found[number][1]), size)
    return number, [
        int(place) if place < first else int(place) - count
        for place, (first, _), count in zip(index, extents, size, strict=True)
    ]


def _place(style: Scan, scan: Scan, shift: Sequence[int]) -> Scan:
    """The shifted style on the voxels of a scan; the scan's own values where it has none."""
    values, valid = scan.values.clone(), torch.zeros_like(scan.valid)
    ends = list(zip(shift, scan.values.shape, style.values.shape, strict=True))
    target = tuple(slice(max(0, s), max(0, min(own, s + other))) for s, own, other in ends)
    source = tuple(
        slice(part.start - s, max(part.start, part.stop) - s)
        for part, s in zip(target, shift, strict=True)
    )
    values[target], valid[target] = style.values[source], style.valid[source]
    return Scan(values, scan.spacing, valid & scan.valid)
