r"""The power of a tissue's noise in bands of frequency, and what of two scans differs.

A band of the high-pass filtered tissue has a local power at every voxel. Anatomy differs from place
to place, and only adds to it; noise is everywhere. So the low quantiles of the local powers show
the noise. The quantiles are divided by those of white noise of variance 1, which is drawn into the
same tissue and measured in the same way. So neither the shape of the tissue nor the filter matters.

More noise raises all quantiles by the power that was added. Stronger or sharper anatomy multiplies
them. A difference of two scans counts only beyond two standard errors of both scans (jackknife over
groups of voxels; Efron and Stein, 1981).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
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
    "ERRORS",
    "GROUPS",
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

LOCAL_SIGMA = 3.0
"""Resolutions; standard deviation of the Gaussian window of a local power."""

GROUPS, ERRORS = 8, 2.0
"""Groups of voxels, for standard errors by the jackknife, and errors beyond which values differ."""

# Mean of a tissue above the lowest value, in deviations of the noise; nearer to it, magnitude
# images show less noise, and not normally distributed (Gudbjartsson and Patz, 1995).
_CLEAR = 3.0
_OTHER_ANATOMY = 0.3  # share of its power by which that of other anatomy may differ
_FEWEST = 400  # voxels of a tissue whose noise is measured
_QUANTILES = (0.2, 0.35, 0.5)  # of local powers
_SAMPLES = 10_000  # voxels at which local powers are sampled


@dataclass(frozen=True)
class NoisePower:
    """The power of noise in bands of frequency, as the variance that white noise of it has.

    Args:
        powers: ``(9, 7, n)``, of all voxels and without each of eight groups, by band and by
            quantile of the local power; for voxels whose sides are one resolution. In magnitude
            images n has the quantiles of three tissues, NaN for those that were not measured.
        axes: number of axes with fine voxels.
    """

    powers: Tensor
    axes: int

    @property
    def bands(self) -> Tensor:
        """The power ``(7,)`` of each band in the quietest tissue."""
        tissues = self.powers[0].unflatten(-1, (-1, len(_QUANTILES))).mean(-1)
        totals = band_shares(self.axes)[0][-len(tissues) :] @ tissues.nan_to_num(math.inf).double()
        quietest: Tensor = tissues[:, int(totals.argmin())].double()
        return quietest

    @property
    def variance(self) -> float:
        """The variance of the noise, in squared units of the scan."""
        return float(self.bands @ band_shares(self.axes)[0][-len(self.bands) :])

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
        return dataclasses.replace(self, powers=(self.powers + bands[:, None]).clamp(min=0))

    def scaled(self, factor: float) -> NoisePower:
        """The power of noise whose variance is this many times as large."""
        return dataclasses.replace(self, powers=self.powers * factor)


def measure_noise(
    scan: Scan, tissues: TissueMap, resolution: float, *, bands: bool = True
) -> dict[int, NoisePower]:
    """Measure the noise of each tissue that has enough voxels away from others.

    In magnitude images the noise of all tissues is that of the receiver. Tissues near the lowest
    value show it weaker, and count only if there is no other.

    Args:
        scan: the scan.
        tissues: its tissues, or those of another scan of the same anatomy and size.
        resolution: mm; the coarsest, over the compared scans, of their finest voxel sides.
        bands: measure each band; False measures one band of all frequencies.

    Returns:
        The power by tissue; the same for all tissues of a magnitude image.
    """
    axes = sum(width > 0 for width in sigmas(scan.spacing, resolution, min(scan.spacing)))
    cores = measured_cores(tissues)
    measured = {
        tissue: NoisePower(
            measure_power(scan.values, inner, scan.spacing, resolution, bands=bands), axes
        )
        for tissue, inner in cores.items()
    }
    if not tissues.scheme.uniform or not measured:
        return measured
    volume, lowest = voxel_volume(scan.spacing, resolution), scan.values[scan.valid].min()
    clear = {
        tissue: power
        for tissue, power in measured.items()
        if float((scan.values[cores[tissue]] - lowest).mean())
        > _CLEAR * math.sqrt(volume * float(power.powers[0, -1].mean()))
    }
    measured = clear or measured
    none = torch.full_like(next(iter(measured.values())).powers, math.nan)
    columns = [measured[n].powers if n in measured else none for n in range(3)]
    return dict.fromkeys(range(3), NoisePower(torch.cat(columns, -1), axes))


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
        ``(9, 7, 3)``, see `NoisePower`; ``(9, 1, 3)`` without bands.
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
        A function of the values ``(D, H, W)`` of the box, which returns what `measure_power` does.
    """
    noise = torch.randn(inner.shape, generator=torch.Generator().manual_seed(0))
    white = _quantiles(_local_powers(noise, inner, spacing, resolution, bands=bands))
    unit = white.clamp(min=1e-30) * voxel_volume(spacing, resolution)

    def measure(values: Tensor) -> Tensor:
        local = _local_powers(values, inner, spacing, resolution, bands=bands)
        groups = local.tensor_split(GROUPS, 1)
        parts = [torch.cat([*groups[:n], *groups[n + 1 :]], 1) for n in range(GROUPS)]
        return torch.stack([_quantiles(part) for part in (local, *parts)]) / unit

    return measure


def lacking_power(scan: NoisePower, style: NoisePower, *, phantom: bool = False) -> Tensor:
    """The power of noise that a style has, and a scan of another anatomy lacks.

    Noise adds the same power to all quantiles, so the smallest difference counts; tissues count by
    how weak their anatomy is in both. Stronger anatomy multiplies the powers. So in magnitude
    images the difference is at most what a line through quantiles and tissues has where the power
    of the scan is 0. Coarse noise and anatomy have the same frequencies, so coarse noise counts
    only as far as the finest goes, as if it were white.

    Args:
        scan: power of the scan's noise.
        style: power of the style's noise.
        phantom: the style has no anatomy that could look like noise.

    Returns:
        ``(7,)``, not below 0, by band of frequency.
    """
    both = scan.powers[0, 0].isfinite() & style.powers[0, 0].isfinite()
    if not bool(both.any()):  # no tissue was measured in both
        return torch.zeros(BANDS)
    own, other = (part.powers[..., both].double() for part in (scan, style))
    # The jackknife: without groups of the scan, then of the style.
    own = torch.cat([own, own[:1].expand(GROUPS, -1, -1)])
    other = torch.cat([other[:1].expand(GROUPS + 1, -1, -1), other[1:]])
    # In CT each tissue has powers of its own, and a line through three of them shows nothing.
    anatomical = scan.powers.shape[-1] > len(_QUANTILES) and not phantom
    change = _offset(own, other, line=anatomical)
    parts = change[1:].unflatten(0, (2, GROUPS))
    errors = ERRORS * ((GROUPS - 1) * parts.var(1, correction=0).sum(0)).sqrt()
    certain = torch.where(change[0] > errors, change[0], 0.0)
    differs = _OTHER_ANATOMY * own[0].amin(-1) if anatomical else 0.0
    highest = (change[0] + errors + differs).clamp(min=0)
    # Where a band is not certain, the next higher one goes on, as far as errors and other anatomy
    # allow: white noise is certain in fine bands, and hidden by anatomy in coarse ones.
    lacking, level = torch.zeros_like(certain), certain[-1]
    for band in reversed(range(len(certain))):
        level = torch.minimum(level, highest[band])
        level = torch.maximum(level, certain[band]) if phantom else level
        lacking[band] = level
    return lacking


def _offset(own: Tensor, other: Tensor, *, line: bool) -> Tensor:
    """What the powers ``(..., n)`` of a style have in addition to those of a scan, ``(...)``."""
    # Powers scatter in proportion to themselves, and so do those of other anatomy.
    weight = (own.square() + other.square()).clamp(min=1e-30).reciprocal()
    tissues = (-1, len(_QUANTILES))
    parts, weights = (
        part.unflatten(-1, tissues).sum(-2) for part in ((other - own) * weight, weight)
    )
    smallest: Tensor = (parts / weights).amin(-1)
    if not line:
        return smallest
    weight = weight / weight.sum(-1, keepdim=True)
    x, y = ((part * weight).sum(-1, keepdim=True) for part in (own, other))
    slope = ((own - x) * (other - y) * weight).sum(-1) / ((own - x).square() * weight).sum(-1)
    return torch.minimum(smallest, y[..., 0] - slope.nan_to_num() * x[..., 0])


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
