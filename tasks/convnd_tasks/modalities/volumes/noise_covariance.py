r"""The noise of each tissue of a scan, as its covariance between neighbouring voxels.

A high-pass filter that reads the voxels of one tissue alone leaves its noise, and some anatomy. So
only places count whose local standard deviation is about the most frequent one (the global noise
level of Christianson et al., 2015). Sums over those places,

.. math:: R(\tau) = \frac{\sum_p r(p)\, r(p + \tau)}{\sum_p m(p + \tau)},

are the covariance of the noise, and their Fourier transform is its power spectrum. The sums add up
over parts of a scan and know no number of axes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from convnd_tasks.modalities.volumes.smoothing import fft_length, gaussian, local_mean, sigmas
from convnd_tasks.modalities.volumes.tissues import TissueMap

__all__ = [
    "ABOVE_ANATOMY",
    "HIGH_PASS",
    "NoiseCovariance",
    "fit_spectrum",
    "frequencies",
    "high_pass_power",
    "lag_counts",
    "measure_noise",
    "measure_noise_again",
    "power_spectrum",
    "tissue_residual",
]

ABOVE_ANATOMY = 5 / 16
"""Frequency per resolution, above which weak anatomy has little power."""

HIGH_PASS = 4.0
"""Standard deviation, in resolutions, of the Gaussian whose difference is taken, twice."""

_REACH = 8.0  # resolutions; the largest lag
_LOCAL = 3.0  # resolutions, sigma of the window in which a standard deviation is local
_SPREAD = (0.15, 0.4)  # relative distance from the most frequent local deviation; limits of it
_LOWEST = 1 / 16  # per resolution; the high-pass filter hides the power below
_STEEP = 1.25  # ratio of the power around 1 / 16 to that around 1 / 8, above it is anatomy's
_FINE = 0.1  # ratio of the power of fine noise to that around 1 / 16, below it is anatomy's
_ANATOMY = 0.75  # share of that distance that weak anatomy takes; the rest is scatter of noise
_FEWEST = 400  # places
_FLAT = 0.15  # share of a tissue that is flat, below which its noise is not told from anatomy


@dataclass(frozen=True)
class NoiseCovariance:
    """The covariance of a tissue's noise.

    Args:
        values: ``(2 l_0 + 1, 2 l_1 + 1, 2 l_2 + 1)``, by lag; the middle is the variance.
        spacing: mm of one lag along each axis.
        tissue: number of the tissue that it was measured in.
        places: indices ``(n, 3)`` of the voxels that it was measured at.
        allowance: variance that anatomy may add at those places.
        anatomy: whether it is weak anatomy, and the scan shows no noise of its own.
    """

    values: Tensor
    spacing: tuple[float, ...]
    tissue: int
    places: Tensor
    allowance: float = 0.0
    anatomy: bool = False

    @property
    def variance(self) -> float:
        """Covariance at lag 0."""
        middle = tuple(extent // 2 for extent in self.values.shape)
        return float(self.values[middle])

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise, in the units of the scan."""
        return math.sqrt(max(0.0, self.variance))

    def resampled(self, spacing: Sequence[float], counts: Sequence[int]) -> NoiseCovariance:
        """The covariance at the lags of another grid, between them linear, 0 beyond them.

        Args:
            spacing: mm of one lag along each axis.
            counts: largest lag along each axis.
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
            # Zeros lie around the largest lag, so that what is beyond it is uncorrelated.
            axes.append(lags / ((extent + 2) / 2 - 0.5))
        padded = F.pad(self.values[None, None], (1,) * 6).double()
        z, y, x = torch.meshgrid(*axes, indexing="ij")
        grid = torch.stack([x, y, z], -1)[None].double()
        values = F.grid_sample(padded, grid, align_corners=True, padding_mode="zeros")[0, 0]
        return dataclasses.replace(self, values=values.float(), spacing=tuple(spacing))


def lag_counts(
    shape: Sequence[int], spacing: Sequence[float], resolution: float
) -> tuple[int, ...]:
    """The largest lag along each axis.

    >>> lag_counts((48, 512, 512), (5.0, 0.6, 0.6), 0.6)
    (1, 8, 8)
    """
    return tuple(
        min(extent - 1, max(1, round(_REACH * resolution / step)))
        for extent, step in zip(shape, spacing, strict=True)
    )


def measure_noise(
    values: Tensor,
    spacing: Sequence[float],
    tissues: TissueMap,
    resolution: float,
    counts: Sequence[int] | None = None,
    allowances: Mapping[int, float] | None = None,
) -> dict[int, NoiseCovariance]:
    """The noise of each tissue that has enough flat places.

    Args:
        values: ``(D, H, W)``, finite.
        spacing: mm along each axis.
        tissues: of these values.
        resolution: mm, of the coarser of the scans that are compared.
        counts: largest lag along each axis; None for `lag_counts`, zeros for the variance alone.
        allowances: by tissue, variance that anatomy may add at a place, where it is more than the
            scan's own. Two scans whose noises are compared have the same.
    """
    counts = lag_counts(values.shape, spacing, resolution) if counts is None else counts
    measured = {}
    for tissue, known in enumerate(tissues.scheme.measured):
        inner = tissues.core(tissue) if known else None
        strict = tissues.scheme.strict
        if inner is None or int(inner.sum()) < (_FEWEST if strict else 2):
            continue
        residual = tissue_residual(values, inner, spacing, resolution)
        allowance = (allowances or {}).get(tissue, 0.0)
        places, allowance = _flat_places(
            residual, inner, spacing, resolution, allowance, strict=strict
        )
        if places is None:
            continue
        covariance = _covariance(residual, inner, places, counts)
        # Only magnitudes: their noise is white, while kernels of CT give noise any spectrum.
        anatomy = tissues.scheme.uniform and _is_anatomy(covariance, spacing, resolution)
        measured[tissue] = NoiseCovariance(
            covariance, tuple(spacing), tissue, places, allowance, anatomy
        )
    return _of_all_tissues(measured, tissues)


def measure_noise_again(
    values: Tensor, noise: Mapping[int, NoiseCovariance], tissues: TissueMap, resolution: float
) -> dict[int, NoiseCovariance]:
    """The noise of changed values at the places where it was measured before.

    Args:
        values: of the grid that the noise was measured on.
        noise: as it was measured, by tissue.
        tissues: as they were.
        resolution: see `measure_noise`.
    """
    again: dict[int, NoiseCovariance] = {}
    for before in {id(part): part for part in noise.values()}.values():
        inner = tissues.core(before.tissue)
        residual = tissue_residual(values, inner, before.spacing, resolution)
        counts = [extent // 2 for extent in before.values.shape]
        covariance = _covariance(residual, inner, before.places, counts)
        again[before.tissue] = dataclasses.replace(before, values=covariance)
    return {tissue: again[before.tissue] for tissue, before in noise.items()}


def power_spectrum(covariance: Tensor) -> Tensor:
    """The power spectrum of a covariance, on the grid of its lags, zero frequency first.

    Lags are weighted by a triangle, which smooths the spectrum; what is negative becomes 0.
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
    r"""The power spectrum of noise that has a covariance once it has passed the high-pass filter.

    The measured spectrum is :math:`D = W * (T S)`, with the power :math:`T` that the filter passes
    and the transform :math:`W` of the triangle by which lags are weighted. The iterations of
    Richardson (1972) and Lucy (1974) solve it for :math:`S \ge 0`.

    Args:
        covariance: ``(2 l_0 + 1, ...)``, as `measure_noise` gives it.
        spacing: mm of one lag along each axis.
        resolution: see `measure_noise`.
        flat_below: per resolution, at least 1 / 16; at lower frequencies the power is at most that
            just above it.
        iterations: their number.

    Returns:
        On a grid of about twice as many frequencies, zero frequency first; odd along each axis.
    """
    size = [2 * extent - 1 for extent in covariance.shape]
    weight = torch.fft.ifftshift(_centred(_triangle(covariance.shape), size))
    lags = torch.fft.ifftshift(_centred(covariance.double(), size))
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
    # Anatomy is coarse. Noise has no more power below the frequencies that the filter passes.
    frequency, flat_below = frequencies(size, spacing, resolution), max(flat_below, _LOWEST)
    hidden = frequency < flat_below
    shell = ~hidden & (frequency < 1.25 * flat_below)
    highest = float(spectrum[shell].mean()) if bool(shell.any()) else math.inf
    return torch.where(hidden, spectrum.clamp(max=highest), spectrum)


def frequencies(shape: Sequence[int], spacing: Sequence[float], resolution: float) -> Tensor:
    """Radial frequencies per resolution, over the axes that are filtered.

    Args:
        shape: their number along each axis, as `torch.fft.fftn` orders them.
        spacing: mm along each axis.
        resolution: see `measure_noise`.
    """
    widths = sigmas(spacing, resolution, min(spacing))
    total = torch.zeros(tuple(shape), dtype=torch.float64)
    for axis, (extent, width) in enumerate(zip(shape, widths, strict=True)):
        frequency = torch.fft.fftfreq(extent, dtype=torch.float64) * width
        total += frequency.square().view([-1 if other == axis else 1 for other in range(3)])
    return total.sqrt()


def high_pass_power(shape: Sequence[int], spacing: Sequence[float], resolution: float) -> Tensor:
    """The share of the power that the high-pass filter passes, by frequency.

    Args:
        shape: frequencies along each axis, as `torch.fft.fftn` orders them.
        spacing: mm along each axis.
        resolution: see `measure_noise`.
    """
    radius = frequencies(shape, spacing, resolution)
    return (1 - torch.exp(-2 * (math.pi * HIGH_PASS * radius) ** 2)) ** 4


def _is_anatomy(covariance: Tensor, spacing: Sequence[float], resolution: float) -> bool:
    """Whether a covariance is that of weak anatomy rather than of noise.

    The power of anatomy rises towards low frequencies (Burgess 1999). The high-pass filter halves
    it there, so that the power of noise does not rise, even behind a blur of one voxel. Where fine
    noise is as strong, it is noise with a little anatomy.
    """
    power = power_spectrum(covariance)
    frequency = frequencies(power.shape, spacing, resolution)
    low, fine = frequency < 1.25 * _LOWEST, frequency > ABOVE_ANATOMY
    next_higher = ~low & (frequency < 2.5 * _LOWEST)
    if not bool(next_higher.any()) or not bool(fine.any()):
        return False  # the variance alone, or too few lags
    coarse = float(power[low].mean())
    rises = coarse > _STEEP * float(power[next_higher].mean())
    return rises and float(power[fine].mean()) < _FINE * coarse


def _triangle(shape: Sequence[int]) -> Tensor:
    """Weights of lags, 1 in the middle."""
    weight = torch.ones(tuple(shape), dtype=torch.float64)
    for axis, extent in enumerate(shape):
        lags = (torch.arange(extent, dtype=torch.float64) - extent // 2).abs()
        along = 1 - lags / (extent // 2 + 1)
        weight = weight * along.view([-1 if other == axis else 1 for other in range(len(shape))])
    return weight


def _centred(values: Tensor, size: Sequence[int]) -> Tensor:
    """Values in the middle of a larger grid of zeros; all extents are odd."""
    pads = [
        (whole - extent) // 2
        for whole, extent in reversed(list(zip(size, values.shape, strict=True)))
        for _ in range(2)
    ]
    return F.pad(values, pads)


def tissue_residual(
    values: Tensor, inner: Tensor, spacing: Sequence[float], resolution: float
) -> Tensor:
    """High-pass filter the voxels of one tissue; voxels outside it have no influence.

    Args:
        values: ``(D, H, W)``, finite.
        inner: the voxels of the tissue.
        spacing: mm along each axis.
        resolution: see `measure_noise`.

    Returns:
        0 outside the tissue.
    """
    weight, widths = inner.float(), sigmas(spacing, HIGH_PASS * resolution, min(spacing))
    residual = values * weight
    for _ in range(2):  # the second removes curved trends as well
        residual = (residual - local_mean(residual, weight, widths)) * weight
    return residual


def _flat_places(
    residual: Tensor,
    inner: Tensor,
    spacing: Sequence[float],
    resolution: float,
    allowance: float,
    *,
    strict: bool,
) -> tuple[Tensor | None, float]:
    """Indices ``(n, 3)`` of places whose local deviation is about the most frequent one.

    Returns:
        The places, None where they are too few; and the variance that anatomy may add there.
    """
    widths = sigmas(spacing, _LOCAL * resolution, min(spacing))
    weight = inner.float()
    whole = inner & (gaussian(weight, widths) > 0.5)
    if int(whole.sum()) < _FEWEST:
        whole = inner
    local = local_mean(residual.square(), weight, widths).clamp(min=0).sqrt()
    deviations = local[whole]
    top = float(deviations.kthvalue(max(1, int(0.9 * deviations.numel()))).values)
    if top <= 0:
        return whole.nonzero(), 0.0  # no noise at all
    bins = 128
    # Bins of equal width: density by deviation favours quiet places, where anatomy is not.
    counts = torch.histc(deviations, bins, 0.0, top)
    smooth = gaussian(counts.view(1, 1, bins), (0.0, 0.0, 3.0)).flatten()
    peak = int(smooth.argmax())
    mode = (peak + 0.5) * top / bins
    # Anatomy only adds to a deviation, so the left flank tells how much those of noise scatter.
    half = int((smooth[:peak] < smooth[peak] / 2).sum())
    spread = min(max(3 * (peak - half) / (peak + 0.5), _SPREAD[0]), _SPREAD[1])
    own = ((1 + _ANATOMY * spread) ** 2 - 1) * mode**2
    allowance = max(allowance, ((1 + spread) ** 2 - 1) * mode**2)
    highest = math.sqrt(mode**2 + allowance)
    flat = whole & (local > (1 - spread) * mode) & (local < highest)
    places = flat.nonzero()
    if not strict:
        return places if len(places) else whole.nonzero(), own
    enough = len(places) >= max(_FEWEST, _FLAT * int(whole.sum()))
    return places if enough else None, own


def _covariance(residual: Tensor, inner: Tensor, places: Tensor, counts: Sequence[int]) -> Tensor:
    """Covariance by lag at some places, alike in both directions of every axis."""
    marks = torch.zeros_like(residual)
    marks[tuple(places.T)] = 1.0
    size = [fft_length(n + count) for n, count in zip(residual.shape, counts, strict=True)]
    spectra = [torch.fft.rfftn(field, size) for field in (marks * residual, residual)]
    total = torch.fft.irfftn(spectra[0].conj() * spectra[1], size)
    spectra = [torch.fft.rfftn(field, size) for field in (marks, inner.float())]
    number = torch.fft.irfftn(spectra[0].conj() * spectra[1], size)
    lags = torch.meshgrid(*(torch.arange(-count, count + 1) for count in counts), indexing="ij")
    total, number = total[lags], number[lags]  # negative lags are at the end
    result = torch.where(number > 0.1 * len(places), total / number.clamp(min=1.0), 0.0)
    for axis in range(3):
        result = (result + result.flip(axis)) / 2
    return result


def _of_all_tissues(
    measured: dict[int, NoiseCovariance], tissues: TissueMap
) -> dict[int, NoiseCovariance]:
    """The noise of the quietest tissue for all of them, where the scheme says that it is uniform.

    In magnitude images the noise of all tissues is that of the receiver (Gudbjartsson 1995), and
    what varies more is anatomy. Air is left aside where another tissue is known: it has less.
    """
    if not tissues.scheme.uniform or not measured:
        return measured
    candidates = [noise for tissue, noise in measured.items() if tissue] or [*measured.values()]
    quietest = min(candidates, key=lambda noise: noise.deviation)
    return dict.fromkeys(range(len(tissues.scheme.names)), quietest)
