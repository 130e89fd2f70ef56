"""Power spectra of noise, by bands of frequency."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from convnd_tasks.modalities.volumes.smoothing import sigmas

__all__ = [
    "BANDS",
    "BAND_WIDTH",
    "band_shares",
    "frequencies",
    "passed_frequencies",
    "spectrum",
    "voxel_volume",
]

BAND_WIDTH = 1 / 16
"""Frequency per resolution; the width of bands, and the lowest measured frequency."""

BANDS = 7
"""Number of bands; the last one contains all higher frequencies."""


@functools.cache
def band_shares(axes: int) -> tuple[Tensor, Tensor]:
    """The share of the frequencies in each band, and their mean; the lowest ones in the first."""
    frequency = frequencies([48] * axes, [1.0] * axes, 1.0).flatten()
    band = (frequency / BAND_WIDTH - 1).clamp(0, BANDS - 1).int()
    counts, sums = (torch.bincount(band, weights, BANDS).double() for weights in (None, frequency))
    return counts / counts.sum(), sums / counts.clamp(min=1)


def frequencies(shape: Sequence[int], spacing: Sequence[float], resolution: float) -> Tensor:
    """Radial frequencies, per resolution, over the axes that are filtered.

    Args:
        shape: number of frequencies along each axis.
        spacing: mm along each axis.
        resolution: mm.

    Returns:
        Float64 of this shape, in the order of `torch.fft.fftn`.
    """
    widths = sigmas(spacing, resolution, min(spacing))
    total = torch.zeros(tuple(shape), dtype=torch.float64)
    for axis, (extent, width) in enumerate(zip(shape, widths, strict=True)):
        frequency = torch.fft.fftfreq(extent, dtype=torch.float64) * width
        total += frequency.square().view(
            [-1 if other == axis else 1 for other in range(len(shape))]
        )
    return total.sqrt()


def spectrum(
    power: Tensor, shape: Sequence[int], spacing: Sequence[float], resolution: float
) -> Tensor:
    """The power spectrum of noise, interpolated between bands.

    Kernels blur noise, so its power falls about as a Gaussian: between the middles of two bands,
    its logarithm is linear in the squared frequency. Below the lowest band it rises on like that,
    to twice the power of the band at most.

    Args:
        power: ``(7,)``, by band of frequency.
        shape: number of frequencies along each axis.
        spacing: mm along each axis.
        resolution: mm, as for the measurement.

    Returns:
        Float64 of this shape, in the order of `torch.fft.fftn`; its mean is the variance. It is 0
        beyond the frequencies of voxels whose sides are one resolution.
    """
    highest = float(power.max())
    if highest <= 0:
        return torch.zeros(tuple(shape), dtype=torch.float64)
    logs = power.double().clamp(min=1e-9 * highest).log()
    middles = ((torch.arange(BANDS, dtype=torch.float64) + 1.5) * BAND_WIDTH).square()
    squares = frequencies(shape, spacing, resolution).square()
    low = (torch.bucketize(squares, middles) - 1).clamp(0, BANDS - 2)
    share = (squares - middles[low]) / (middles[low + 1] - middles[low])
    between = logs[low] + share.clamp(max=1.0) * (logs[low + 1] - logs[low])
    rising = between.clamp(float(logs[0]), float(logs[0]) + math.log(2))
    between = torch.where(squares < middles[0], rising, between)
    passed = passed_frequencies(shape, spacing, resolution)
    return torch.where(passed, between.exp() * voxel_volume(spacing, resolution), 0.0)


def passed_frequencies(shape: Sequence[int], spacing: Sequence[float], resolution: float) -> Tensor:
    """The frequencies that voxels whose sides are one resolution can show."""
    passed = torch.ones(tuple(shape), dtype=torch.bool)
    for axis, width in enumerate(sigmas(spacing, resolution, min(spacing))):
        frequency = torch.fft.fftfreq(shape[axis], dtype=torch.float64).abs() * width
        passed &= (frequency <= 0.5 + 1e-9).view([-1 if n == axis else 1 for n in range(3)])
    return passed


def voxel_volume(spacing: Sequence[float], resolution: float) -> float:
    """The volume of voxels whose sides are one resolution, in voxels; coarse axes do not count."""
    return math.prod(width for width in sigmas(spacing, resolution, min(spacing)) if width > 0)
