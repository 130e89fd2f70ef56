r"""The power of a tissue's noise in bands of frequency, and what of two scans differs.

A band of the high-pass filtered tissue has a local power at every voxel. Anatomy differs from place
to place, and only adds to it; noise is everywhere. So the low quantiles of the local powers show
the noise: if a scan gets more of it, all of them rise by the power that was added. The quantiles
are divided by those of white noise of variance 1, which is drawn into the same tissue and measured
in the same way. So neither the shape of the tissue nor the filter matters.

A difference of two scans counts only where every quantile shows it, and one of them beyond the
standard errors of both scans (jackknife over groups of voxels; Efron and Stein, 1981).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd.nn.fft_conv import fft_length
from convnd_tasks.modalities.volumes.jackknife import jackknife
from convnd_tasks.modalities.volumes.noise_spectrum import HIGH_PASS, frequencies
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.smoothing import gaussian, local_mean, sigmas

__all__ = [
    "LOCAL_SIGMA",
    "NoisePower",
    "differences",
    "measure_power",
    "spectrum",
    "tissue_residual",
]

LOCAL_SIGMA = 3.0
"""Resolutions; standard deviation of the Gaussian window of a local power."""

_WIDTH = 1 / 16  # frequency per resolution; the width of bands, and the lowest measured frequency
_BANDS = 7  # the last one contains all higher frequencies
_QUANTILES = (0.2, 0.35, 0.5)  # of local powers
_GROUPS = 8  # of voxels, for standard errors
_ERRORS = 2.0  # standard errors beyond which scans differ
# How often power falls by the factor between the two bands before, if it falls as a Gaussian: the
# mean squared frequencies of the last three bands are 0.12, 0.165 and 0.31.
_GAUSSIAN_FALL = 3.1
_SAMPLES = 10_000  # voxels at which local powers are sampled


@dataclass(frozen=True)
class NoisePower:
    """The power of a tissue's noise, as the variance that white noise of this power has.

    Args:
        powers: ``(7, 3)``, by band of frequency and quantile of the local power, in squared units
            of the scan; for voxels whose sides are one resolution.
        errors: ``(7, 3)``, their standard errors.
    """

    powers: Tensor
    errors: Tensor

    def scaled(self, factor: float) -> NoisePower:
        """The power of noise whose variance is this many times as large."""
        return NoisePower(self.powers * factor, self.errors * factor)

    def plus(self, other: NoisePower) -> NoisePower:
        """The power of the sum of two independent noises."""
        errors = (self.errors.square() + other.errors.square()).sqrt()
        return NoisePower(self.powers + other.powers, errors)


def measure_power(
    values: Tensor, inner: Tensor, spacing: Sequence[float], resolution: float
) -> NoisePower:
    """Measure the power of the noise in one tissue.

    Args:
        values: ``(D, H, W)``, finite.
        inner: ``(D, H, W)``, bool; the voxels of the tissue.
        spacing: mm along each axis.
        resolution: mm; the coarsest, over the compared scans, of their finest voxel sides.
    """
    box, part = Scan(values, tuple(spacing), inner).part(inner)
    inner = inner[box]
    noise = torch.randn(inner.shape, generator=torch.Generator().manual_seed(0))
    local = _local_powers(part.values, inner, spacing, resolution)
    unit = _quantiles(_local_powers(noise, inner, spacing, resolution)).clamp(min=1e-30)
    unit = unit / _volume(spacing, resolution)
    powers = _quantiles(local)
    errors = jackknife(_quantiles, local.tensor_split(_GROUPS, 1))
    return NoisePower(powers / unit, errors / unit)


def differences(
    scan: Mapping[int, NoisePower], style: Mapping[int, NoisePower], *, alike: bool
) -> tuple[Tensor, Tensor]:
    """The power by which a style's noise exceeds that of a scan, and the reverse.

    Tissues that are measured together have the same noise. So their differences are averaged with
    the inverse squares of their errors. Where they differ by more than these explain, the error of
    the average is larger by the same factor (Birge, 1932).

    Coarse noise and anatomy have the same frequencies. So coarse noise of a style that shows other
    anatomy counts only as far as its finest noise goes, as if it were white.

    Args:
        scan: power of the scan's noise by tissue.
        style: power of the style's noise by tissue; some tissue is in both.
        alike: both show the same anatomy.

    Returns:
        Two tensors ``(7,)``, not below 0, by band of frequency.
    """
    pairs = [(scan[tissue], style[tissue]) for tissue in scan if tissue in style]
    changes = torch.stack([other.powers - own.powers for own, other in pairs])
    squares = torch.stack([other.errors.square() + own.errors.square() for own, other in pairs])
    squares = squares.clamp(min=1e-30)
    variance = 1 / squares.reciprocal().sum(0)
    mean = (changes / squares).sum(0) * variance
    ratio = ((changes - mean).square() / squares).sum(0) / max(1, len(pairs) - 1)
    errors = _ERRORS * (variance * ratio.clamp(min=1)).sqrt()
    return _excess(mean, errors, alike=alike), _excess(-mean, errors, alike=alike)


def _excess(change: Tensor, errors: Tensor, *, alike: bool) -> Tensor:
    """The power that is certain in each band; elsewhere that of the next higher band, if it may."""
    beyond = (change > 0).all(1) & (change > errors).any(1)
    certain = torch.where(beyond, change.amin(1), 0.0)
    highest = (change + errors).amin(1).clamp(min=0)
    excess = torch.zeros_like(certain)
    level = float(certain[-1])
    if not alike:
        level = min(level, float(_white_part(change).amin().clamp(min=0)))
    for band in reversed(range(len(certain))):
        flat = min(level, float(highest[band]))
        level = max(flat, float(certain[band])) if alike else flat
        excess[band] = level
    return excess


def _white_part(change: Tensor) -> Tensor:
    """The power of white noise in the last band of a difference, by quantile.

    The power of anatomy falls at least as a Gaussian. So the last three bands show white noise w
    and anatomy :math:`a e^{-k f^2}`. These are separated where the last band has less than half of
    the power of the one before; else most of it is white.
    """
    third, second, last = change[-3:]
    white = last * torch.linspace(0, 1, 101, dtype=change.dtype)[:, None]
    anatomy = (second - white) * ((second - white) / (third - white)) ** _GAUSSIAN_FALL
    found = last * ((last - white > anatomy).sum(0) / 100).clamp(max=1.0)
    return torch.where((second > 2 * last) & (third > second), found, last)


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
    middles = ((torch.arange(_BANDS, dtype=torch.float64) + 1.5) * _WIDTH).square()
    squares = frequencies(shape, spacing, resolution).square()
    low = (torch.bucketize(squares, middles) - 1).clamp(0, _BANDS - 2)
    share = (squares - middles[low]) / (middles[low + 1] - middles[low])
    between = logs[low] + share.clamp(max=1.0) * (logs[low + 1] - logs[low])
    rising = between.clamp(float(logs[0]), float(logs[0]) + math.log(2))
    between = torch.where(squares < middles[0], rising, between)
    passed = _passed(shape, spacing, resolution)
    return torch.where(passed, between.exp() * _volume(spacing, resolution), 0.0)


def tissue_residual(
    values: Tensor, inner: Tensor, spacing: Sequence[float], resolution: float
) -> Tensor:
    """High-pass filter the voxels of one tissue; voxels outside it have no influence.

    Args:
        values: ``(D, H, W)``, finite.
        inner: ``(D, H, W)``, bool; the voxels of the tissue.
        spacing: mm along each axis.
        resolution: mm; the Gaussian of the filter has 4 times this standard deviation.

    Returns:
        ``(D, H, W)``; 0 outside the tissue.
    """
    weight, widths = inner.float(), sigmas(spacing, HIGH_PASS * resolution, min(spacing))
    residual = values * weight
    for _ in range(2):  # the second pass also removes curved trends
        residual = (residual - local_mean(residual, weight, widths)) * weight
    return residual


def _local_powers(
    values: Tensor, inner: Tensor, spacing: Sequence[float], resolution: float
) -> Tensor:
    """The local power of each band at voxels of a tissue, ``(7, n)``."""
    residual = tissue_residual(values, inner, spacing, resolution)
    size = [fft_length(extent + 8) for extent in residual.shape]
    transform = torch.fft.rfftn(residual, size)
    half = slice(0, size[-1] // 2 + 1)
    frequency = frequencies(size, spacing, resolution)[..., half]
    frequency = torch.where(_passed(size, spacing, resolution)[..., half], frequency, -1.0)
    weight, widths = inner.float(), sigmas(spacing, LOCAL_SIGMA * resolution, min(spacing))
    total = gaussian(weight, widths).clamp(min=1e-4)
    places = inner.nonzero()
    index = tuple(places[:: max(1, len(places) // _SAMPLES)].T)
    crop = tuple(slice(0, extent) for extent in residual.shape)
    powers = []
    for band in range(1, _BANDS + 1):
        inside = frequency >= band * _WIDTH
        if band < _BANDS:
            inside &= frequency < (band + 1) * _WIDTH
        part = torch.fft.irfftn(transform * inside, size)[crop]
        powers.append((gaussian(part.square() * weight, widths) / total)[index])
    return torch.stack(powers)


def _quantiles(local: Tensor) -> Tensor:
    return torch.quantile(local.double(), local.new_tensor(_QUANTILES, dtype=torch.float64), 1).T


def _passed(shape: Sequence[int], spacing: Sequence[float], resolution: float) -> Tensor:
    """The frequencies that voxels whose sides are one resolution can show."""
    passed = torch.ones(tuple(shape), dtype=torch.bool)
    for axis, width in enumerate(sigmas(spacing, resolution, min(spacing))):
        frequency = torch.fft.fftfreq(shape[axis], dtype=torch.float64).abs() * width
        passed &= (frequency <= 0.5 + 1e-9).view([-1 if n == axis else 1 for n in range(3)])
    return passed


def _volume(spacing: Sequence[float], resolution: float) -> float:
    """The volume of voxels whose sides are one resolution, in voxels; coarse axes do not count."""
    return math.prod(width for width in sigmas(spacing, resolution, min(spacing)) if width > 0)
