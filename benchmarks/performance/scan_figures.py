"""Figures of a changed scan, independent of the code that changes scans.

Every function takes arrays ``(D, H, W)`` whose last two axes have the finest voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import filters

__all__ = [
    "contrast_to_noise",
    "dark_lung",
    "dice",
    "edge_slope",
    "largest_change",
    "spectrum_left",
    "tissue_labels",
    "tissue_means",
    "tissue_noise",
    "widths",
]

Volume = NDArray[np.float32]

_SIDE = 16  # pixels along a region
_FEWEST_REGIONS, _REGIONS = 8, 1000  # per tissue, for a comparison of spectra
_FEWEST = 300  # voxels per tissue
_TAIL = 4.5  # 98 % of normal noise lies within 3.5 times the median of its magnitude
_HU_LIMITS = (-950.0, -500.0, -200.0, 200.0)


def widths(spacing: Sequence[float], sigma: float) -> list[float]:
    """Standard deviations of a Gaussian in voxels; 0 along axes with much coarser voxels."""
    finest = min(spacing)
    return [sigma * finest / step if step <= 2.5 * finest else 0.0 for step in spacing]


def spectrum_left(
    content: Volume, truth: Volume, result: Volume, labels: Any, other: Volume | None = None
) -> dict[int, float]:
    r"""Distance of the result's noise spectrum to the truth's, over that of the content.

    Truth and result are the content plus noise. The spectra of the added noise are compared,
    :math:`\sum |P_{result - content} - P_{truth - content}| / \sum P_{truth - content}`, because
    the noise of the content itself would only add scatter. A spectrum is the mean over the regions
    of a tissue, in rings of equal frequency; a quadratic surface is first subtracted from each
    region. Tissues do not count if the range of the scan clips more than 1 % of the truth, because
    the noise there is not the known one.

    Args:
        content: the scan.
        truth: the scan with known noise.
        result: the result for a style with known noise.
        labels: tissues of the scan.
        other: the result for the style without the known noise, whose spectrum is added to the
            truth's; None adds nothing.

    Returns:
        The share for each tissue.
    """
    left = {}
    ends = [content.min(), content.max()]
    for tissue, places in _regions(labels).items():
        if np.isin(truth[labels == tissue], ends).mean() > 0.01:
            continue
        target, last = (_rings(volume - content, places) for volume in (truth, result))
        before = 0.0 if other is None else _rings(other - content, places)
        left[tissue] = float(np.abs(last - before - target).sum() / target.sum())
    return left


def _regions(labels: Any) -> dict[int, list[tuple[int, int, int]]]:
    """Corners of the regions that lie in one tissue, by tissue."""
    regions: dict[int, list[tuple[int, int, int]]] = {}
    for z in range(labels.shape[0]):
        for y in range(0, labels.shape[1] - _SIDE + 1, _SIDE // 2):
            for x in range(0, labels.shape[2] - _SIDE + 1, _SIDE // 2):
                index = (z, slice(y, y + _SIDE), slice(x, x + _SIDE))
                tissue = int(labels[z, y + _SIDE // 2, x + _SIDE // 2])
                if tissue >= 0 and (labels[index] == tissue).mean() > 0.9:
                    regions.setdefault(tissue, []).append((z, y, x))
    return {
        tissue: places[:: max(1, len(places) // _REGIONS)]
        for tissue, places in regions.items()
        if len(places) >= _FEWEST_REGIONS
    }


def _rings(volume: Volume, places: Sequence[tuple[int, int, int]]) -> Any:
    y, x = np.meshgrid(*(np.linspace(-1, 1, _SIDE),) * 2, indexing="ij")
    surface = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y]).reshape(6, -1).T
    basis, _ = np.linalg.qr(surface)
    regions = np.stack(
        [volume[z, y : y + _SIDE, x : x + _SIDE].ravel() for z, y, x in places]
    ).astype(np.float64)
    regions -= (regions @ basis) @ basis.T
    power = np.abs(np.fft.fft2(regions.reshape(-1, _SIDE, _SIDE))) ** 2
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(_SIDE) * _SIDE,) * 2))
    return np.bincount(frequency.round().astype(int).ravel(), power.mean(0).ravel())[1:9]


def tissue_labels(
    volume: Volume, spacing: Sequence[float], background: Any, unit: str, depth: int = 2
) -> Any:
    """Number of the tissue of every voxel, -1 in the background and near other tissues.

    Args:
        volume: the scan.
        spacing: mm along each axis.
        background: mask of the padding.
        unit: "HU", or "" for others.
        depth: voxels from other tissues.
    """
    smooth = ndimage.gaussian_filter(volume, widths(spacing, 1.0))
    limits = _HU_LIMITS if unit == "HU" else _otsu(smooth[~background], 3)
    labels = np.where(background, -1, np.searchsorted(limits, smooth))
    side = [2 * depth + 1 if width else 1 for width in widths(spacing, 1.0)]
    same = ndimage.maximum_filter(labels, side) == ndimage.minimum_filter(labels, side)
    return np.where(same, labels, -1)


def _otsu(values: Any, classes: int) -> Any:
    values = values[:: max(1, values.size // 200_000)]
    low, high = np.percentile(values, [0.5, 99.5])
    threshold: Any = filters.threshold_multiotsu
    return threshold(values.clip(low, high), classes, nbins=128)


def tissue_means(volume: Volume, labels: Any) -> dict[int, float]:
    """Mean value of each tissue that has enough voxels."""
    counts = {int(number): int((labels == number).sum()) for number in np.unique(labels)}
    return {
        number: float(volume[labels == number].mean(dtype=np.float64))
        for number, count in counts.items()
        if number >= 0 and count >= _FEWEST
    }


def tissue_noise(volume: Volume, labels: Any, spacing: Sequence[float]) -> dict[int, float]:
    """Standard deviation of the noise of each tissue: the median of local ones."""
    sigma = widths(spacing, 3.0)
    residual = volume - ndimage.gaussian_filter(volume, widths(spacing, 1.5))
    local = np.sqrt(ndimage.gaussian_filter(residual**2, sigma).clip(0))
    return {
        number: float(np.median(local[labels == number])) for number in tissue_means(volume, labels)
    }


def contrast_to_noise(means: dict[int, float], noise: dict[int, float]) -> float:
    """Largest difference between the means of two tissues over the noise of both."""
    numbers = [number for number in means if noise.get(number, 0.0) > 0]
    pairs = [(a, b) for a in numbers for b in numbers if a < b]
    ratios = [abs(means[a] - means[b]) / np.hypot(noise[a], noise[b]) for a, b in pairs]
    return float(max(ratios, default=np.nan))


def largest_change(
    change: Volume,
    volume: Volume,
    spacing: Sequence[float],
    background: Any,
    unit: str,
    noise: dict[int, float],
) -> float:
    """Largest change of a voxel, in standard deviations of the noise of its tissue."""
    smooth = ndimage.gaussian_filter(volume, widths(spacing, 1.0))
    limits = _HU_LIMITS if unit == "HU" else _otsu(smooth[~background], 3)
    labels = np.searchsorted(limits, smooth)
    default = max(noise.values(), default=np.nan)
    deviations = np.array([noise.get(number, default) for number in range(len(limits) + 1)])
    return float((np.abs(change) / deviations[labels])[~background].max())


def thin_contrast(
    expected: Volume, result: Volume, spacing: Sequence[float], background: Any
) -> float:
    """Contrast of thin structures in the result over their contrast in the expected scan.

    Thin structures are the strongest 2 % of the ridges away from the background. If these are no
    stronger than ridges of noise, all voxels count, also near the background.
    """

    def ridges(volume: Volume) -> Volume:
        fine, coarse = (ndimage.gaussian_filter(volume, widths(spacing, s)) for s in (0.8, 2.5))
        ridge: Volume = fine - coarse
        return ridge

    first, second = ridges(expected).astype(np.float64), ridges(result).astype(np.float64)
    for places in (ndimage.maximum_filter(background, 11) == 0, ~background):
        before, after = first[places], second[places]
        if before.size < _FEWEST:
            continue
        limit = np.percentile(np.abs(before), 98)
        if limit >= _TAIL * np.median(np.abs(before)):
            strong = np.abs(before) >= limit
            return float((before[strong] * after[strong]).sum() / (before[strong] ** 2).sum())
    return float("nan")


def edge_slope(volume: Volume, spacing: Sequence[float], guide: Volume, background: Any) -> float:
    """Median slope in the plane at the strongest edges of the volume ``guide``.

    Voxels within 5 voxels of the background are left out; NaN without others.
    """

    def slope(values: Volume, sigma: float) -> Any:
        return np.hypot(
            *(
                ndimage.gaussian_filter(values, [0, sigma, sigma], order=order) / step
                for order, step in (((0, 1, 0), spacing[1]), ((0, 0, 1), spacing[2]))
            )
        )

    inside = ndimage.maximum_filter(background, 11) == 0
    steep, fine = slope(guide, 1.5)[inside], slope(volume, 0.7)[inside]
    if steep.size < _FEWEST:
        return float("nan")
    return float(np.median(fine[steep >= np.percentile(steep, 98)]))


def dice(
    expected: Volume, result: Volume, spacing: Sequence[float], background: Any, classes: int
) -> float:
    """Mean Dice coefficient of Otsu's classes."""
    first, second = (
        ndimage.gaussian_filter(volume, widths(spacing, 1.5))[~background]
        for volume in (expected, result)
    )
    limits = _otsu(first, classes)
    one, other = np.searchsorted(limits, first), np.searchsorted(limits, second)
    table = np.bincount(classes * one + other, minlength=classes**2).reshape(classes, classes)
    overlaps = 2 * np.diag(table) / np.maximum(1, table.sum(0) + table.sum(1))
    return float(overlaps.mean())


def dark_lung(volume: Volume, labels: Any) -> float:
    """Percentage of the lungs below -950 HU."""
    lung = labels == 1
    return 100 * float((volume[lung] < -950).mean()) if lung.sum() >= 10_000 else float("nan")
