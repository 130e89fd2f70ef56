"""Gaussian filters and erosion of volumes, and masks of their constant background."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["constant_background", "erode", "gaussian", "local_mean", "sigmas", "window_maximum"]

_SMALLEST_CONSTANT = 1e-3
"""Smallest share of a scan's voxels that counts as a constant region."""

_ROWS = 64
"""Rows of a Gaussian's band matrix that are multiplied at once."""


def sigmas(spacing: Sequence[float], sigma: float, finest: float) -> list[float]:
    """Convert a Gaussian's standard deviation from mm to voxels, 0 along coarse axes.

    Args:
        spacing: mm along each axis.
        sigma: standard deviation of the Gaussian in mm.
        finest: mm; an axis whose spacing exceeds 2.5 times this is not filtered.

    >>> sigmas((5.0, 0.5, 0.5), 2.0, 0.5)
    [0.0, 4.0, 4.0]
    """
    return [sigma / step if step <= 2.5 * finest else 0.0 for step in spacing]


def gaussian(values: Tensor, sigma: Sequence[float], *, repeat: bool = True) -> Tensor:
    """Blur a volume with a Gaussian.

    Args:
        values: ``(D, H, W)``.
        sigma: standard deviation in voxels along each axis; 0 leaves an axis as it is.
        repeat: pad with the outermost voxels; False pads with zeros.
    """
    for axis, width in enumerate(sigma):
        if width > 0:
            matrix = _gaussian_matrix(values.shape[axis], width, repeat)
            values = _filter_axis(values, matrix, math.ceil(4 * width), axis)
    return values


def _filter_axis(values: Tensor, matrix: Tensor, reach: int, axis: int) -> Tensor:
    """Multiply every line of voxels along an axis by a band matrix.

    Args:
        values: ``(D, H, W)``.
        matrix: ``(n, n)`` for an axis of n voxels.
        reach: columns beside the diagonal that are not 0.
        axis: 0, 1 or 2.
    """
    # Matrix products: a convolution with one channel takes five times as long.
    matrix, extent = matrix.to(values), values.shape[axis]
    result = torch.empty_like(values, memory_format=torch.contiguous_format)
    for start in range(0, extent, _ROWS):
        rows = slice(start, start + _ROWS)
        columns = slice(max(0, start - reach), start + _ROWS + reach)
        part = matrix[rows, columns]
        if axis == 2:
            lines = values.flatten(0, 1)[:, columns] @ part.mT
            result[..., rows] = lines.view(result[..., rows].shape)
        elif axis == 1:
            result[:, rows] = part @ values[:, columns]
        else:
            result[rows] = (part @ values[columns].flatten(1)).view_as(result[rows])
    return result


def local_mean(values: Tensor, weight: Tensor, sigma: Sequence[float]) -> Tensor:
    """The weighted mean of each voxel's neighbourhood: ``G(weight * values) / G(weight)``.

    Args:
        values: ``(D, H, W)``, finite.
        weight: ``(D, H, W)``, in ``[0, 1]``; voxels of weight 0 have no influence.
        sigma: standard deviation of the Gaussian G in voxels along each axis.

    Returns:
        ``(D, H, W)``; 0 where no neighbour has a weight.
    """
    if bool((weight == 1).all()):
        return gaussian(values, sigma)
    share = gaussian(weight, sigma)
    return torch.where(share > 1e-4, gaussian(values * weight, sigma) / share.clamp(min=1e-4), 0.0)


def window_maximum(values: Tensor, reach: Sequence[int]) -> Tensor:
    """The highest value of the box around each voxel, as far as it is in the volume.

    Args:
        values: ``(D, H, W)``, numbers or bool.
        reach: half the side of the box, in voxels along each axis.
    """
    for axis, count in enumerate(reach):
        most = min(count, values.shape[axis] - 1)
        covered = 0  # voxels on each side whose maximum is known
        while covered < most:
            step = min(covered + 1, most - covered)  # more would miss voxels at the ends
            values = _shifted_maximum(values, axis, step)
            covered += step
    return values


def _shifted_maximum(values: Tensor, axis: int, step: int) -> Tensor:
    """The maximum of each voxel and of those some steps away in both directions."""
    # Shifts: torch.max_pool3d takes three to eight times as long.
    result, rest = values.clone(), values.shape[axis] - step
    for start, source in ((step, 0), (0, step)):
        part = result.narrow(axis, start, rest)
        torch.maximum(part, values.narrow(axis, source, rest), out=part)
    return result


def erode(mask: Tensor, reach: Sequence[int]) -> Tensor:
    """Erode a mask by a box; voxels beyond the ends of the volume count as inside.

    Args:
        mask: ``(D, H, W)``, bool.
        reach: half the side of the box, in voxels along each axis.
    """
    return ~window_maximum(~mask, reach)


def constant_background(values: Tensor) -> Tensor:
    """Find padding and masked background: regions of one value that contain a constant cube.

    The value must be the lowest or the highest of the scan. A value between them counts if it is
    the only one with a constant cube and most voxels at the edges of the slices have it. So the
    constant tissues of a scan without noise, such as a phantom, are not background. Single voxels
    of the value, such as zeros in the noise of air, are not background either.

    Args:
        values: ``(D, H, W)``, finite.

    Returns:
        ``(D, H, W)``, bool.

    >>> scan = torch.arange(64.0).view(4, 4, 4) + 1
    >>> int(constant_background(torch.cat([scan, torch.zeros(4, 4, 4)])).sum())
    64
    """
    reach = [min(1, (extent - 1) // 2) for extent in values.shape]
    cubes = window_maximum(values, reach) == -window_maximum(-values, reach)
    constant, counts = torch.unique(values[cubes], return_counts=True)
    constant = constant[counts >= max(1.0, _SMALLEST_CONSTANT * values.numel())]
    background = torch.zeros_like(values, dtype=torch.bool)
    ends = (float(values.min()), float(values.max()))
    others = [value for value in constant.tolist() if value not in ends]
    for value in constant.tolist():
        mask = values == value
        rims = [mask[:, [0, -1]], mask[:, :, [0, -1]]]
        around = sum(int(rim.sum()) for rim in rims) > sum(rim.numel() for rim in rims) / 2
        if value in ends or (len(others) == 1 and around):
            background |= _grow(cubes & mask, mask)
    return background


def _grow(seeds: Tensor, mask: Tensor) -> Tensor:
    """The regions of a mask that contain a seed; voxels of a region share faces.

    Args:
        seeds: ``(D, H, W)``, bool.
        mask: ``(D, H, W)``, bool.
    """
    region, count = seeds, -1
    while count != (count := int(region.sum())):
        around = [window_maximum(region, [int(n == axis) for n in range(3)]) for axis in range(3)]
        region = mask & (around[0] | around[1] | around[2])
    return region


@lru_cache(maxsize=32)
def _gaussian_matrix(extent: int, sigma: float, repeat: bool) -> Tensor:
    """The matrix ``(extent, extent)`` of the Gaussian filter of one axis."""
    reach = min(math.ceil(4 * sigma), extent - 1)
    offsets = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    kernel = kernel / kernel.sum()
    columns = torch.arange(extent)[:, None] + offsets
    weights = kernel.expand(extent, -1)
    if not repeat:
        weights = weights * ((columns >= 0) & (columns < extent))
    return torch.zeros(extent, extent, dtype=torch.float64).scatter_add_(
        1, columns.clamp(0, extent - 1), weights
    )
