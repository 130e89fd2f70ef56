r"""Power spectra and frequencies of noise.

The noise of a tissue is measured behind a high-pass filter, which removes the anatomy. For the
covariance :math:`R` of the filtered noise and a triangle :math:`w` that weights its lags, the
measured spectrum is the Fourier transform of :math:`w R`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from convnd_tasks.modalities.volumes.smoothing import sigmas

__all__ = ["HIGH_PASS", "frequencies", "power_spectrum"]

HIGH_PASS = 4.0
"""Standard deviation, in resolutions, of the Gaussian that the high-pass filter subtracts twice."""


def power_spectrum(covariance: Tensor) -> Tensor:
    """The power spectrum of a covariance, smoothed by a triangle over its lags.

    Args:
        covariance: ``(2 l_0 + 1, 2 l_1 + 1, 2 l_2 + 1)``, lag 0 in the middle.

    Returns:
        Float64 of the same shape, zero frequency first; negative power becomes 0.
    """
    weighted = covariance.double() * _triangle(covariance.shape)
    power: Tensor = torch.fft.fftn(torch.fft.ifftshift(weighted)).real
    return power.clamp(min=0)


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
        total += frequency.square().view([-1 if other == axis else 1 for other in range(3)])
    return total.sqrt()


def _triangle(shape: Sequence[int]) -> Tensor:
    """Weights of lags, 1 at lag 0 and 0 just beyond the largest lags."""
    weight = torch.ones(tuple(shape), dtype=torch.float64)
    for axis, extent in enumerate(shape):
        lags = (torch.arange(extent, dtype=torch.float64) - extent // 2).abs()
        along = 1 - lags / (extent // 2 + 1)
        weight = weight * along.view([-1 if other == axis else 1 for other in range(len(shape))])
    return weight
