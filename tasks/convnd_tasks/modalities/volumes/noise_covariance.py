r"""The covariance of the noise of each tissue of a scan.

A high-pass filter within one tissue leaves a residual :math:`r` of noise and weak anatomy. Flat
voxels :math:`p` are those whose local standard deviation is close to the most frequent one (the
global noise level of Christianson et al., 2015). The covariance at lag :math:`\tau` is the mean
over flat voxels whose neighbour lies in the tissue, too (mask :math:`m`):

.. math:: R(\tau) = \frac{\sum_p r(p)\, r(p + \tau)}{\sum_p m(p + \tau)}

Its Fourier transform is the power spectrum (`convnd_tasks.modalities.volumes.noise_spectrum`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from convnd.nn.fft_conv import fft_length
from convnd_tasks.modalities.volumes.noise_power import (
    LOCAL_SIGMA,
    NoisePower,
    measure_power,
    tissue_residual,
)
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.smoothing import gaussian, local_mean, sigmas
from convnd_tasks.modalities.volumes.tissues import TissueMap

__all__ = [
    "LARGEST_LAG",
    "NoiseCovariance",
    "lag_counts",
    "measure_noise",
    "measure_noise_again",
]

LARGEST_LAG = 8.0
"""Resolutions; noise is measured and changed at shorter distances."""

_FEWEST = 400  # flat voxels of a tissue whose noise is measured
# Limits of the relative distance from the most frequent local deviation of flat voxels.
_SPREAD_LIMITS = (0.15, 0.4)


@dataclass(frozen=True)
class NoiseCovariance:
    """The covariance of a tissue's noise behind the high-pass filter.

    Args:
        values: ``(2 l_0 + 1, 2 l_1 + 1, 2 l_2 + 1)``, by lag; the middle is the variance.
        spacing: mm of one lag along each axis.
        tissue: number of the tissue in which it was measured.
        flat_voxels: ``(n, 3)``, indices of the voxels at which it was measured.
        powers: power in bands of frequency, by tissue; empty if it was not measured.
    """

    values: Tensor
    spacing: tuple[float, ...]
    tissue: int
    flat_voxels: Tensor
    powers: Mapping[int, NoisePower] = dataclasses.field(default_factory=dict)

    @property
    def variance(self) -> float:
        """The covariance at lag 0, in squared units of the scan."""
        middle = tuple(extent // 2 for extent in self.values.shape)
        return float(self.values[middle])

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise, in the units of the scan."""
        return math.sqrt(max(0.0, self.variance))

    def scaled(self, factor: float) -> NoiseCovariance:
        """The covariance of noise whose variance is this many times as large."""
        powers = {tissue: power.scaled(factor) for tissue, power in self.powers.items()}
        return dataclasses.replace(self, values=self.values * factor, powers=powers)

    def resampled(self, spacing: Sequence[float], counts: Sequence[int]) -> NoiseCovariance:
        """Interpolate the covariance linearly at the lags of another grid; 0 beyond the largest.

        Args:
            spacing: mm of one lag along each axis of that grid.
            counts: largest lag along each axis, in voxels.
        """
        if tuple(spacing) == self.spacing and all(
            extent == 2 * count + 1 for extent, count in zip(self.values.shape, counts, strict=True)
        ):
            return self
        axes = []
        for extent, own, step, count in zip(
            self.values.shape, self.spacing, spacing, counts, strict=True
        ):
            lags = torch.arange(-count, count + 1) * (step / own)  # in lags of this covariance
            # The covariance is padded with zeros, so noise is uncorrelated beyond the largest lag.
            axes.append(lags / ((extent + 2) / 2 - 0.5))
        padded = F.pad(self.values[None, None], (1,) * 6).double()
        z, y, x = torch.meshgrid(*axes, indexing="ij")
        grid = torch.stack([x, y, z], -1)[None].double()
        values = F.grid_sample(padded, grid, align_corners=True, padding_mode="zeros")[0, 0]
        return dataclasses.replace(self, values=values.float(), spacing=tuple(spacing))


def lag_counts(
    shape: Sequence[int], spacing: Sequence[float], resolution: float
) -> tuple[int, ...]:
    """The largest lag along each axis, in voxels.

    Args:
        shape: voxels of the scan along each axis.
        spacing: mm along each axis.
        resolution: mm; lags reach 8 times as far.

    >>> lag_counts((48, 512, 512), (5.0, 0.6, 0.6), 0.6)
    (1, 8, 8)
    """
    return tuple(
        min(extent - 1, max(1, round(LARGEST_LAG * resolution / step)))
        for extent, step in zip(shape, spacing, strict=True)
    )


def measure_noise(
    scan: Scan,
    tissues: TissueMap,
    resolution: float,
    counts: Sequence[int] | None = None,
    *,
    powers: bool = True,
) -> dict[int, NoiseCovariance]:
    """Measure the noise of each tissue that has enough flat voxels.

    Args:
        scan: the scan.
        tissues: tissues of the scan.
        resolution: mm; the coarsest, over the compared scans, of their finest voxel sides.
        counts: largest lag along each axis, in voxels; None for those of `lag_counts`, zeros for
            the variance only.
        powers: measure the power in bands of frequency, too.

    Returns:
        The covariance by tissue.
    """
    counts = lag_counts(scan.values.shape, scan.spacing, resolution) if counts is None else counts
    measured, signals = {}, {}
    lowest = float(scan.values[scan.valid].min()) if bool(scan.valid.any()) else 0.0
    for tissue, known in enumerate(tissues.scheme.measured):
        inner = tissues.core(tissue) if known else None
        if inner is None or int(inner.sum()) < _FEWEST:
            continue
        residual = tissue_residual(scan.values, inner, scan.spacing, resolution)
        flat_voxels = _find_flat_voxels(residual, inner, scan.spacing, resolution)
        if flat_voxels is None:
            continue
        covariance = _covariance(residual, inner, flat_voxels, counts)
        signals[tissue] = float(scan.values[inner].mean()) - lowest
        power = measure_power(scan.values, inner, scan.spacing, resolution) if powers else None
        measured[tissue] = NoiseCovariance(
            covariance, scan.spacing, tissue, flat_voxels, {} if power is None else {tissue: power}
        )
    return _share_quietest(measured, signals) if tissues.scheme.uniform else measured


def measure_noise_again(
    values: Tensor,
    noise: Mapping[int, NoiseCovariance],
    tissues: TissueMap,
    resolution: float,
    inside: Tensor | None = None,
) -> dict[int, NoiseCovariance]:
    """Measure the noise of changed values at the flat voxels of an earlier measurement.

    Args:
        values: ``(D, H, W)``, on the grid of the earlier measurement.
        noise: earlier covariances, by tissue.
        tissues: tissues of the earlier measurement.
        resolution: mm, as for the earlier measurement.
        inside: ``(D, H, W)``, bool; flat voxels elsewhere count only if there are no others.

    Returns:
        The covariance by tissue.
    """
    again: dict[int, NoiseCovariance] = {}
    for before in {id(part): part for part in noise.values()}.values():
        inner = tissues.core(before.tissue)
        residual = tissue_residual(values, inner, before.spacing, resolution)
        counts = [extent // 2 for extent in before.values.shape]
        flat_voxels = before.flat_voxels
        some = flat_voxels[:0] if inside is None else flat_voxels[inside[tuple(flat_voxels.T)]]
        flat_voxels = some if len(some) else flat_voxels
        covariance = _covariance(residual, inner, flat_voxels, counts)
        again[before.tissue] = dataclasses.replace(before, values=covariance)
    return {tissue: again[before.tissue] for tissue, before in noise.items()}


def _find_flat_voxels(
    residual: Tensor,
    inner: Tensor,
    spacing: Sequence[float],
    resolution: float,
) -> Tensor | None:
    """Find the voxels whose local deviation is close to the most frequent one.

    Args:
        residual: ``(D, H, W)``, the high-pass filtered tissue.
        inner: ``(D, H, W)``, bool; the voxels of the tissue.
        spacing: mm along each axis.
        resolution: mm.

    Returns:
        Indices ``(n, 3)`` of the flat voxels, None if they are too few.
    """
    widths = sigmas(spacing, LOCAL_SIGMA * resolution, min(spacing))
    weight = inner.float()
    whole = inner & (gaussian(weight, widths) > 0.5)
    if int(whole.sum()) < _FEWEST:
        whole = inner
    local = local_mean(residual.square(), weight, widths).clamp(min=0).sqrt()
    deviations = local[whole]
    top = float(deviations.kthvalue(max(1, int(0.9 * deviations.numel()))).values)
    if top <= 0:
        return whole.nonzero()  # a scan without noise
    bins = 128
    # Bins of equal width favour small deviations, and so voxels without anatomy.
    counts = torch.histc(deviations, bins, 0.0, top)
    smooth = gaussian(counts.view(1, 1, bins), (0.0, 0.0, 3.0)).flatten()
    peak = int(smooth.argmax())
    mode = (peak + 0.5) * top / bins
    # Anatomy only increases a deviation, so the left flank shows how those of noise scatter.
    half = int((smooth[:peak] < smooth[peak] / 2).sum())
    spread = min(max(3 * (peak - half) / (peak + 0.5), _SPREAD_LIMITS[0]), _SPREAD_LIMITS[1])
    flat = whole & ((local - mode).abs() < spread * mode)
    flat_voxels = flat.nonzero()
    return flat_voxels if len(flat_voxels) >= _FEWEST else None


def _covariance(
    residual: Tensor, inner: Tensor, flat_voxels: Tensor, counts: Sequence[int]
) -> Tensor:
    """The covariance by lag at the flat voxels, symmetric along every axis."""
    marks = torch.zeros_like(residual)
    marks[tuple(flat_voxels.T)] = 1.0
    size = [fft_length(n + count) for n, count in zip(residual.shape, counts, strict=True)]
    spectra = [torch.fft.rfftn(field, size) for field in (marks * residual, residual)]
    total = torch.fft.irfftn(spectra[0].conj() * spectra[1], size)
    spectra = [torch.fft.rfftn(field, size) for field in (marks, inner.float())]
    number = torch.fft.irfftn(spectra[0].conj() * spectra[1], size)
    lags = torch.meshgrid(*(torch.arange(-count, count + 1) for count in counts), indexing="ij")
    total, number = total[lags], number[lags]  # negative indices are negative lags
    result = torch.where(number > 0.1 * len(flat_voxels), total / number.clamp(min=1.0), 0.0)
    for axis in range(3):
        result = (result + result.flip(axis)) / 2
    return result


def _share_quietest(
    measured: Mapping[int, NoiseCovariance], signals: Mapping[int, float]
) -> dict[int, NoiseCovariance]:
    """Give all three tissues of a magnitude image the noise of the quietest one.

    In magnitude images the noise of all tissues is that of the receiver, and further variation is
    anatomy. Only where the signal is weaker than three deviations, as in air, the magnitude has
    less noise (Gudbjartsson and Patz, 1995), so such tissues count only if there are no others.

    Args:
        measured: noise by tissue.
        signals: by tissue, its mean above the lowest value of the scan.
    """
    candidates = [
        noise for tissue, noise in measured.items() if signals[tissue] > 3 * noise.deviation
    ]
    candidates = candidates or [*measured.values()]
    if not candidates:
        return {}
    quietest = min(candidates, key=lambda noise: noise.deviation)
    powers = {tissue: power for noise in candidates for tissue, power in noise.powers.items()}
    quietest = dataclasses.replace(quietest, powers=powers)
    return dict.fromkeys(range(3), quietest)
