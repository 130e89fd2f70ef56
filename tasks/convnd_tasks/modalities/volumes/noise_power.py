r"""The power of a tissue's noise in bands of frequency.

A band of the high-pass filtered tissue has a local power at every voxel. Anatomy differs from place
to place, and only adds to it; noise is everywhere. So the low quantiles of the local powers show
the noise. The quantiles are divided by those of white noise of variance 1, which is drawn into the
same tissue and measured in the same way. So neither the shape of the tissue nor the filter matters.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd.nn.fft_conv import fft_length
from convnd_tasks.modalities.volumes.noise_spectrum import (
    BAND_WIDTH,
    BANDS,
    band_shares,
    frequencies,
    passed_frequencies,
    voxel_volume,
)
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.smoothing import gaussian, local_mean, sigmas
from convnd_tasks.modalities.volumes.tissues import TissueMap

__all__ = [
    "CLEAR",
    "ERRORS",
    "HIGH_PASS",
    "LOCAL_SIGMA",
    "NoisePower",
    "lacking_power",
    "measure_noise",
    "measure_power",
    "measured_cores",
    "power_meter",
    "tissue_residual",
]

HIGH_PASS = 4.0
"""Standard deviation, in resolutions, of the Gaussian that the high-pass filter subtracts twice."""

CLEAR = 3.0
"""Mean of a tissue above the lowest value, in deviations of the noise; nearer to it, magnitude
images show less noise, and not normally distributed (Gudbjartsson and Patz, 1995)."""

ERRORS = 2.0
"""Errors beyond which powers differ."""

LOCAL_SIGMA = 3.0
"""Resolutions; standard deviation of the Gaussian window of a local power."""

_FEWEST = 400  # voxels of a tissue whose noise is measured
_FINE = 3  # first band whose waves are shorter than four resolutions
_QUANTILES = (0.2, 0.35, 0.5)  # of local powers
_SAMPLES = 10_000  # voxels at which local powers are sampled


@dataclass(frozen=True)
class NoisePower:
    """The power of noise in bands of frequency, as the variance that white noise of it has.

    Args:
        bands: ``(7,)``, by band; ``(1,)`` of all frequencies. For voxels whose sides are one
            resolution.
        errors: of the same shape; what anatomy and the scatter of a small tissue may add.
        axes: number of axes with fine voxels.
        tissue: number of the tissue that it was measured in; None if it is not known.
    """

    bands: Tensor
    errors: Tensor
    axes: int
    tissue: int | None = None

    @property
    def variance(self) -> float:
        """The variance of the noise, in squared units of the scan."""
        return float((self.bands * band_shares(self.axes)[0]).sum())

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise, in units of the scan."""
        return math.sqrt(self.variance)

    @property
    def mean_frequency(self) -> float:
        """The mean frequency of the power, per resolution; NaN without noise."""
        shares, middles = band_shares(self.axes)
        return float((self.bands * shares) @ middles) / self.variance if self.variance else math.nan

    def distance(self, other: NoisePower) -> float:
        r"""The distance of two spectra, relative to the power of the second.

        .. math:: \sum_f |P_1(f) - P_2(f)| \Big/ \sum_f P_2(f)

        Returns:
            Infinity if only the second noise is 0 everywhere.
        """
        shares = band_shares(other.axes)[0]
        difference = float((self.bands - other.bands).abs() @ shares)
        if other.variance > 0:
            return difference / other.variance
        return math.inf if difference > 0 else 0.0

    def plus(self, bands: Tensor) -> NoisePower:
        """The power with that of other noise in addition, ``(7,)``; where it is below 0, less."""
        return dataclasses.replace(self, bands=(self.bands + bands).clamp(min=0))

    def exact(self) -> NoisePower:
        """The power without errors."""
        return dataclasses.replace(self, errors=torch.zeros_like(self.errors))

    def scaled(self, factor: float) -> NoisePower:
        """The power of noise whose variance is this many times as large."""
        return dataclasses.replace(self, bands=self.bands * factor, errors=self.errors * factor)


def measure_noise(
    scan: Scan,
    tissues: TissueMap,
    resolution: float,
    *,
    bands: bool = True,
    before: Mapping[int, NoisePower] | None = None,
) -> dict[int, NoisePower]:
    """Measure the noise of each tissue that has enough voxels away from others.

    In magnitude images the noise of all tissues is that of the receiver. Tissues near the lowest
    value show it weaker, and count only if there is no other.

    Args:
        scan: the scan.
        tissues: its tissues, or those of another scan of the same anatomy and size.
        resolution: mm; the coarsest, over the compared scans, of their finest voxel sides.
        bands: measure each band; False measures one band of all frequencies.
        before: noise before a change that led to the scan. That of a magnitude image is measured in
            the same tissue again, if it is large enough.

    Returns:
        The power by tissue; the same for all tissues of a magnitude image.
    """
    axes = sum(width > 0 for width in sigmas(scan.spacing, resolution, min(scan.spacing)))
    cores = measured_cores(tissues)
    if tissues.scheme.uniform and before:
        # Added noise may make another tissue the quietest one, and tissues cannot be compared.
        chosen = {power.tissue for power in before.values()}
        cores = {tissue: cores[tissue] for tissue in cores if tissue in chosen} or cores
    measured = {}
    for tissue, inner in cores.items():
        powers = measure_power(scan.values, inner, scan.spacing, resolution, bands=bands)
        windows = int(inner.sum()) / _window_volume(scan.spacing, resolution)
        measured[tissue] = dataclasses.replace(_noise_power(powers, windows, axes), tissue=tissue)
    if not tissues.scheme.uniform or not measured:
        return measured
    volume, lowest = voxel_volume(scan.spacing, resolution), float(scan.values[scan.valid].min())
    clear = {
        tissue: power
        for tissue, power in measured.items()
        if float(scan.values[cores[tissue]].mean()) - lowest
        > CLEAR * math.sqrt(volume * power.bands[-1])
    }
    quietest = min((clear or measured).values(), key=lambda power: power.variance)
    return dict.fromkeys(range(len(tissues.scheme.names)), quietest)


def _noise_power(powers: Tensor, windows: float, axes: int) -> NoisePower:
    """The power of noise from quantiles ``(7, 3)`` of local powers in a number of windows.

    The quantiles of noise are alike, and those of anatomy differ. Independent windows scatter.
    """
    bands = powers.mean(1)
    errors = torch.hypot(powers[:, -1] - powers[:, 0], bands / math.sqrt(windows))
    return NoisePower(bands, errors, axes)


def _window_volume(spacing: Sequence[float], resolution: float) -> float:
    """The number of voxels that weigh as much as the Gaussian window of a local power."""
    widths = sigmas(spacing, LOCAL_SIGMA * resolution, min(spacing))
    return math.prod(max(1.0, 2 * math.sqrt(math.pi) * width) for width in widths)


def lacking_power(scan: NoisePower, style: NoisePower, white: float) -> Tensor:
    """The power of noise ``(7,)`` that a style of another anatomy has more than a scan.

    A band counts if the difference is beyond two errors of both. Elsewhere the next finer band goes
    on, as far as the style's power. Coarse bands count only if a fine one does, and the coarsest
    never: anatomy fills them evenly.

    Args:
        scan: power of the scan's noise.
        style: power of the style's noise.
        white: power of the white noise that the style has more, at least.
    """
    difference = style.bands - scan.bands
    certain = difference > ERRORS * torch.hypot(style.errors, scan.errors)
    lacking, level = torch.full_like(difference, white), white
    for band in reversed(range(len(difference))):
        if certain[band] and (band >= _FINE or (band > 0 and level > white)):
            level = float(difference[band])
        level = max(white, min(level, float(style.bands[band])))
        lacking[band] = level
    return lacking


def measured_cores(tissues: TissueMap) -> dict[int, Tensor]:
    """The voxels ``(D, H, W)`` of each tissue in which noise is measured, away from others."""
    known = [tissue for tissue, known in enumerate(tissues.scheme.measured) if known]
    cores = {tissue: tissues.core(tissue) for tissue in known}
    return {tissue: core for tissue, core in cores.items() if int(core.sum()) >= _FEWEST}


def measure_power(
    values: Tensor,
    inner: Tensor,
    spacing: Sequence[float],
    resolution: float,
    *,
    bands: bool = True,
) -> Tensor:
    """Measure the power of the noise in one tissue.

    Args:
        values: ``(D, H, W)``, finite.
        inner: ``(D, H, W)``, bool; the voxels of the tissue.
        spacing: mm along each axis.
        resolution: mm, see `measure_noise`.
        bands: see `measure_noise`.

    Returns:
        ``(7, 3)``, see `power_meter`; ``(1, 3)`` without bands.
    """
    box, part = Scan(values, tuple(spacing), inner).part(inner)
    return power_meter(inner[box], spacing, resolution, bands=bands)(part.values)


def power_meter(
    inner: Tensor, spacing: Sequence[float], resolution: float, *, bands: bool = True
) -> Callable[[Tensor], Tensor]:
    """Measure white noise in a tissue, and return a function that measures other values by it.

    Args:
        inner: ``(D, H, W)``, bool; the voxels of the tissue in a box around it.
        spacing: mm along each axis.
        resolution: mm, see `measure_noise`.
        bands: see `measure_noise`.

    Returns:
        A function of the values ``(D, H, W)`` of the box. It returns ``(7, 3)``; the power by band
        and by quantile of the local power, or ``(1, 3)``.
    """
    noise = torch.randn(inner.shape, generator=torch.Generator().manual_seed(0))
    white = _quantiles(_local_powers(noise, inner, spacing, resolution, bands=bands))
    unit = white.clamp(min=1e-30) * voxel_volume(spacing, resolution)

    def measure(values: Tensor) -> Tensor:
        local = _local_powers(values, inner, spacing, resolution, bands=bands)
        return _quantiles(local) / unit

    return measure


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
    values: Tensor, inner: Tensor, spacing: Sequence[float], resolution: float, *, bands: bool
) -> Tensor:
    """The local power of each band at voxels of a tissue, ``(7, n)``; ``(1, n)`` of all."""
    residual = tissue_residual(values, inner, spacing, resolution)
    weight, widths = inner.float(), sigmas(spacing, LOCAL_SIGMA * resolution, min(spacing))
    total = gaussian(weight, widths).clamp(min=1e-4)
    places = inner.nonzero()
    index = tuple(places[:: max(1, len(places) // _SAMPLES)].T)

    def local(part: Tensor) -> Tensor:
        return (gaussian(part.square() * weight, widths) / total)[index]

    if not bands:
        return local(residual)[None]
    size = [fft_length(extent + 8) for extent in residual.shape]
    transform = torch.fft.rfftn(residual, size)
    half = slice(0, size[-1] // 2 + 1)
    frequency = frequencies(size, spacing, resolution)[..., half]
    frequency = torch.where(
        passed_frequencies(size, spacing, resolution)[..., half], frequency, -1.0
    )
    crop = tuple(slice(0, extent) for extent in residual.shape)
    ends = [*(torch.arange(1, BANDS + 1) * BAND_WIDTH).tolist(), math.inf]
    return torch.stack(
        [
            local(
                torch.fft.irfftn(transform * ((low <= frequency) & (frequency < high)), size)[crop]
            )
            for low, high in itertools.pairwise(ends)
        ]
    )


def _quantiles(local: Tensor) -> Tensor:
    return torch.quantile(local.double(), local.new_tensor(_QUANTILES, dtype=torch.float64), 1).T
