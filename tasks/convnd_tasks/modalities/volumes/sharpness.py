r"""The sharpness of a scan's edges along each axis, and the filter that changes it.

The slopes across an edge are measured behind a narrow and a wide Gaussian, :math:`s_n` and
:math:`s_w`. At the crests of the strongest edges :math:`e`, sharpness is the ratio of both

.. math:: Q = \frac{\sum_e s_n(e)\, s_w(e)}{\sum_e s_w(e)^2},

1 for very blurred edges, and the ratio of the two widths for ideal steps. Noise does not correlate
with the slope of an edge, so it hardly changes Q. Voxels of the background have no influence on any
Gaussian (normalised convolution; Knutsson & Westin, 1993).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.smoothing import constant_background, erode, local_mean, sigmas

__all__ = ["EDGE_SIGMAS", "Edges", "apply_filters", "find_filters", "measure_edges"]

EDGE_SIGMAS = 0.7, 2.0
"""Standard deviations of the narrow and the wide Gaussian, in resolutions."""

_EDGE_SHARE = 0.02  # of the voxels, those with the largest slopes, are edges
_SLOPE_QUANTILES = (0.9, 0.95, 0.98, 0.99, 0.995)
_FEWEST = 30  # voxels of edges
_MOST = 4.0  # limit of the amount of a filter: a blur of two resolutions, or five-fold contrast
_STEPS = 6  # of the search for a filter
_LEAST_CHANGE = 0.05  # of slopes; smaller differences are ignored
_PRECISION = 2e-3  # of the sharpness, at which the search ends
_UNEXPLAINED = 1 / 3  # of the difference of slopes that a filter may leave


@dataclass(frozen=True)
class Edges:
    """The edges of a scan.

    Args:
        sharpness: the sharpness Q of the edges by axis, for axes with enough edges.
        slopes: ``(2, 5)``, quantiles of the slopes behind the narrow and the wide Gaussian, in
            units of the scan per mm.
    """

    sharpness: Mapping[int, float]
    slopes: Tensor

    def distance(self, other: Edges) -> float:
        """The mean magnitude of the log ratio of the slopes of two scans."""
        slopes = [edges.slopes.clamp(min=1e-12).log() for edges in (self, other)]
        return float((slopes[0] - slopes[1]).abs().mean())


def measure_edges(scan: Scan, resolution: float, *, pooled: bool = True) -> Edges:
    """Measure the strongest edges of a scan, along each axis with fine enough voxels.

    Args:
        scan: the scan; edges of its background do not count.
        resolution: mm; the coarsest, over the compared scans, of their finest voxel sides.
        pooled: axes with the same spacing have the sharpness of all their edges.
    """
    spacing, weight = scan.spacing, scan.valid.float()
    widths = [sigmas(spacing, sigma * resolution, min(spacing)) for sigma in EDGE_SIGMAS]
    extents = scan.values.shape
    axes = [axis for axis in range(3) if widths[1][axis] > 0 and extents[axis] > 2]
    inside = erode(scan.valid, [math.ceil(width) for width in widths[1]])
    for axis in axes:  # where the gradient has two neighbours
        inside.narrow(axis, 0, 1).zero_()
        inside.narrow(axis, extents[axis] - 1, 1).zero_()
    if not axes or not bool(inside.any()):
        return Edges({}, torch.zeros(2, len(_SLOPE_QUANTILES)))
    slopes = []
    for sigma in widths:
        smooth = local_mean(scan.values, weight, sigma)
        parts = [torch.gradient(smooth, dim=axis)[0] / spacing[axis] for axis in axes]
        slopes.append(torch.stack(parts))
    magnitudes = [field.square().sum(0).sqrt() for field in slopes]
    shares = (*_SLOPE_QUANTILES, 1 - _EDGE_SHARE)
    quantiles = torch.stack([_quantiles(field[inside], shares) for field in magnitudes])
    strong = inside & (magnitudes[1] >= quantiles[1, -1].clamp(min=1e-30))
    steepest = slopes[1].abs().amax(0)
    sums: dict[int, Tensor] = {}
    groups = {
        axis: next(n for n in axes if n == axis or (pooled and _alike(spacing[n], spacing[axis])))
        for axis in axes
    }
    for number, axis in enumerate(axes):
        ridge = slopes[1][number].abs()
        # Beside a crest, slopes hardly change with sharpness.
        crest = strong & (ridge == steepest) & _maxima(ridge, axis)
        narrow, wide = (field[number][crest].double() for field in slopes)
        products = torch.stack([narrow.new_tensor(len(narrow)), narrow @ wide, wide @ wide])
        sums[groups[axis]] = sums.get(groups[axis], 0.0) + products
    sharpness = {
        axis: float(sums[first][1] / sums[first][2])
        for axis, first in groups.items()
        if sums[first][0] >= _FEWEST
    }
    return Edges(sharpness, quantiles[:, :-1])


def find_filters(scan: Scan, style: Edges, resolution: float) -> dict[int, float]:
    """Find the filters that give a scan the sharpness of a style, by the secant method.

    Edges of two anatomies differ even with one scanner. So there is no filter unless it explains
    most of the difference between the slopes of both scans.

    Args:
        scan: the scan.
        style: edges of the style.
        resolution: mm, see `measure_edges`.

    Returns:
        Amounts of the filters by axis, see `apply_filters`; empty if slopes differ by less than
        5 %.
    """
    edges = measure_edges(scan, resolution)
    before, targets = dict(edges.sharpness), style.sharpness
    axes = [axis for axis in before if axis in targets]
    difference = edges.distance(style)
    if not axes or difference < _LEAST_CHANGE:
        return {}
    amounts = {axis: math.copysign(0.5, targets[axis] - before[axis]) for axis in axes}
    former, best, least = dict.fromkeys(axes, 0.0), amounts, math.inf
    for _ in range(_STEPS):
        filtered = measure_edges(apply_filters(scan, amounts, resolution), resolution)
        if filtered.distance(style) < least:
            best, least = dict(amounts), filtered.distance(style)
        missing = {n: targets[n] - filtered.sharpness.get(n, targets[n]) for n in axes}
        if max(map(abs, missing.values())) < _PRECISION:
            break
        for axis, rest in missing.items():
            change = filtered.sharpness.get(axis, before[axis]) - before[axis]
            slope = (amounts[axis] - former[axis]) / change if change else 0.0
            before[axis], former[axis] = before[axis] + change, amounts[axis]
            amounts[axis] = min(max(amounts[axis] + rest * slope, -_MOST), _MOST)
    return best if least < _UNEXPLAINED * difference else {}


def apply_filters(scan: Scan, amounts: Mapping[int, float], resolution: float) -> Scan:
    """Filter a scan along some axes.

    A negative amount blurs with a Gaussian of this variance, in squared resolutions. A positive
    one adds ``amount`` times the difference from a Gaussian of one resolution (unsharp masking).
    Near 0, both change low frequencies alike.

    Args:
        scan: the scan; voxels that are not valid have no influence on others and do not change.
        amounts: amounts of the filters by axis.
        resolution: mm.

    Returns:
        The filtered scan, in the range of the scan's valid values. Voxels that become background
        are not valid.
    """
    if not amounts:
        return scan
    low, high = scan.values[scan.valid].aminmax()
    values, weight = scan.values, scan.valid.float()
    for amount in sorted(set(amounts.values())):
        # Axes with one amount are filtered together; one by one, corners were sharpened twice.
        width = math.sqrt(-amount) if amount < 0 else 1.0
        blurred = local_mean(
            values,
            weight,
            [
                width * resolution / step if amounts.get(axis) == amount else 0.0
                for axis, step in enumerate(scan.spacing)
            ],
        )
        values = blurred if amount < 0 else values + amount * (values - blurred)
    values = torch.where(scan.valid, values.clamp(low, high), scan.values)
    if bool(scan.valid.all()):
        return scan.with_values(values)
    # In the file of a style, voxels that were clipped beside the background are background, too.
    return Scan(values, scan.spacing, scan.valid & ~constant_background(values))


def _maxima(values: Tensor, axis: int) -> Tensor:
    """The voxels that are at least as high as their two neighbours along an axis."""
    size = values.shape[axis]
    rises = values.narrow(axis, 1, size - 1) >= values.narrow(axis, 0, size - 1)
    falls = values.narrow(axis, 1, size - 1) <= values.narrow(axis, 0, size - 1)
    maxima = torch.ones_like(values, dtype=torch.bool)
    maxima.narrow(axis, 1, size - 1).logical_and_(rises)
    maxima.narrow(axis, 0, size - 1).logical_and_(falls)
    return maxima


def _alike(first: float, second: float) -> bool:
    """Whether two spacings are equal to 5 %."""
    return math.isclose(first, second, rel_tol=0.05)


def _quantiles(values: Tensor, shares: tuple[float, ...]) -> Tensor:
    """Quantiles of values, from at most two million of them."""
    values = values[:: max(1, values.numel() // 1_000_000)]
    return torch.quantile(values, values.new_tensor(shares))
