r"""Power spectra of noise, from its covariance behind a high-pass filter.

The noise of a tissue is measured behind a high-pass filter, which removes the anatomy. For the
covariance :math:`R` of the filtered noise and a triangle :math:`w` that weights its lags, the
measured spectrum is the Fourier transform of :math:`w R`. With the power :math:`T` that the filter
passes and the transform :math:`W` of the triangle, it is :math:`D = W * (T S)` for noise with the
spectrum :math:`S`; `fit_spectrum` solves this for :math:`S`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from convnd_tasks.modalities.volumes.smoothing import sigmas

__all__ = [
    "ABOVE_ANATOMY",
    "HIGH_PASS",
    "LOWEST_PASSED",
    "fit_spectrum",
    "frequencies",
    "high_pass_power",
    "power_spectrum",
]

HIGH_PASS = 4.0
"""Standard deviation, in resolutions, of the Gaussian that the high-pass filter subtracts twice."""

LOWEST_PASSED = 1 / 16
"""Frequency per resolution; the high-pass filter hides the power below it."""

_BAND = 1 / 16  # frequency per resolution; width of bands

ABOVE_ANATOMY = 5 / 16
"""Frequency per resolution; weak anatomy has little power above it."""


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


def fit_spectrum(
    covariance: Tensor,
    spacing: Sequence[float],
    resolution: float,
    *,
    flat_below: float = 0.0,
    iterations: int = 40,
) -> Tensor:
    r"""The spectrum of noise whose covariance behind the high-pass filter is known.

    The iterations of Richardson (1972) and Lucy (1974) solve :math:`D = W * (T S)` for
    :math:`S \ge 0`.

    Args:
        covariance: ``(2 l_0 + 1, 2 l_1 + 1, 2 l_2 + 1)``, see
            `convnd_tasks.modalities.volumes.noise_covariance.measure_noise`.
        spacing: mm of one lag along each axis.
        resolution: mm, as for the measurement.
        flat_below: frequency per resolution, at least 1 / 16. The power at lower frequencies is at
            most the mean power just above it.
        iterations: number of iterations.

    Returns:
        ``(4 l_0 + 1, 4 l_1 + 1, 4 l_2 + 1)``, float64, zero frequency first.
    """
    size = [2 * extent - 1 for extent in covariance.shape]
    weight = torch.fft.ifftshift(_pad_to(_triangle(covariance.shape), size))
    lags = torch.fft.ifftshift(_pad_to(covariance.double(), size))
    passed = high_pass_power(size, spacing, resolution)
    measured = torch.fft.fftn(lags * weight).real.clamp(min=0)
    spectrum: Tensor = measured / passed.clamp(min=0.1)
    tiny = 1e-9 * float(measured.mean()) + 1e-30

    def smooth(power: Tensor) -> Tensor:
        smoothed: Tensor = torch.fft.fftn(torch.fft.ifftn(power).real * weight).real
        return smoothed.clamp(min=0)

    norm = smooth(passed).clamp(min=1e-3)
    for _ in range(iterations):
        ratio = measured / (smooth(passed * spectrum) + tiny)
        spectrum = spectrum * (smooth(ratio * passed) / norm)
    # Power that is left at low frequencies is anatomy's, so noise is taken to be flat there.
    frequency = frequencies(size, spacing, resolution)
    hidden = frequency < max(flat_below, LOWEST_PASSED)
    shell = ~hidden & (frequency < 1.25 * max(flat_below, LOWEST_PASSED))
    highest = float(spectrum[shell].mean()) if bool(shell.any()) else math.inf
    spectrum = torch.where(hidden, spectrum.clamp(max=highest), spectrum)
    return torch.minimum(spectrum, _continued(spectrum, frequency))


def _continued(spectrum: Tensor, frequency: Tensor) -> Tensor:
    """The highest power of noise at low frequencies; infinite at others.

    Kernels blur noise, so its power falls about as a Gaussian: log S is linear in the squared
    frequency. That of anatomy rises more steeply towards 0 (Burgess, 1999). So two bands of higher
    frequencies limit the power at lower ones.
    """
    edges = [step * _BAND for step in (2, 3, 4)]
    bands = [(low <= frequency) & (frequency < high) for low, high in itertools.pairwise(edges)]
    if not all(bool(band.any()) for band in bands):
        return torch.full_like(spectrum, math.inf)
    means = [float(spectrum[band].mean()) for band in bands]
    squares = [float(frequency[band].square().mean()) for band in bands]
    if means[0] <= 0:
        return torch.full_like(spectrum, math.inf)
    rise = math.log(means[0] / max(means[1], 1e-3 * means[0])) / (squares[1] - squares[0])
    highest = means[0] * (max(0.0, rise) * (squares[0] - frequency.square())).exp()
    return torch.where(frequency < edges[0], highest, math.inf)


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


def high_pass_power(shape: Sequence[int], spacing: Sequence[float], resolution: float) -> Tensor:
    """The share of the power that the high-pass filter passes at each frequency.

    Args:
        shape: number of frequencies along each axis.
        spacing: mm along each axis.
        resolution: mm.

    Returns:
        Float64 of this shape, in the order of `torch.fft.fftn`.
    """
    radius = frequencies(shape, spacing, resolution)
    return (1 - torch.exp(-2 * (math.pi * HIGH_PASS * radius) ** 2)) ** 4


def _triangle(shape: Sequence[int]) -> Tensor:
    """Weights of lags, 1 at lag 0 and 0 just beyond the largest lags."""
    weight = torch.ones(tuple(shape), dtype=torch.float64)
    for axis, extent in enumerate(shape):
        lags = (torch.arange(extent, dtype=torch.float64) - extent // 2).abs()
        along = 1 - lags / (extent // 2 + 1)
        weight = weight * along.view([-1 if other == axis else 1 for other in range(len(shape))])
    return weight


def _pad_to(values: Tensor, size: Sequence[int]) -> Tensor:
    """Pad values with zeros on all sides, to a larger size; all extents are odd."""
    pads = [
        (whole - extent) // 2
        for whole, extent in reversed(list(zip(size, values.shape, strict=True)))
        for _ in range(2)
    ]
    return F.pad(values, pads)
