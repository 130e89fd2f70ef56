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
from convnd_tasks.modalities.volumes.smoothing import (
    constant_background,
    erode,
    local_mean,
    sigmas,
    window_maximum,
)

__all__ = [
    "EDGE_SIGMAS",
    "Edges",
    "apply_filters",
    "find_filters",
    "measure_edges",
]

EDGE_SIGMAS = 0.7, 2.0
"""Standard deviations of the narrow and the wide Gaussian, in resolutions."""

_EDGE_SHARE = 0.02  # of the voxels, those with the largest slopes, are edges
_SLOPE_GROUPS = 4  # of crests, from weak to strong ones
_FEWEST = 30  # voxels of edges
_MOST = 4.0  # limit of the amount of a filter: a blur of two resolutions, or five-fold contrast
_STARTS = -0.5, 1.5  # amounts of filters at which the search for one starts
_STEPS = 5  # of the search
_LEAST_CHANGE = 0.05  # of slopes; smaller differences are ignored
_PRECISION = 2e-3  # of the sharpness, at which the search ends
_UNEXPLAINED = 0.2  # of the difference of slopes that a filter may leave


@dataclass(frozen=True)
class Edges:
    """The edges of a scan.

    Args:
        sharpness: the sharpness Q of the edges by axis, for axes with enough edges.
        slopes: ``(2, 4)`` by axis, slopes behind the narrow and the wide Gaussian in units of the
            scan per mm, each the mean over a quarter of the crests, from weak to strong ones.
    """

    sharpness: Mapping[int, float]
    slopes: Mapping[int, Tensor]

    def log_ratio(self, other: Edges, axis: int) -> Tensor:
        """``(2, 4)``, the logarithm of the slopes over those of another scan."""
        logs = [edges.slopes[axis].clamp(min=1e-12).log() for edges in (self, other)]
        return logs[0] - logs[1]


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
        return Edges({}, {})
    slopes = []
    for sigma in widths:
        smooth = local_mean(scan.values, weight, sigma)
        parts = [torch.gradient(smooth, dim=axis)[0] / spacing[axis] for axis in axes]
        slopes.append(torch.stack(parts))
    magnitude = slopes[1].square().sum(0).sqrt()
    strong = inside & (magnitude >= _quantile(magnitude[inside], 1 - _EDGE_SHARE).clamp(min=1e-30))
    steepest = slopes[1].abs().amax(0)
    crests: dict[int, list[Tensor]] = {}
    groups = {
        axis: next(n for n in axes if n == axis or (pooled and _alike(spacing[n], spacing[axis])))
        for axis in axes
    }
    for number, axis in enumerate(axes):
        ridge = slopes[1][number].abs()
        # Beside a crest, slopes hardly change with sharpness.
        reach = [int(other == axis) for other in range(3)]
        crest = strong & (ridge == steepest) & (ridge == window_maximum(ridge, reach))
        pair = torch.stack([field[number][crest].double() for field in slopes])
        # The sign of the wide slope: the noise of narrow ones then averages out.
        crests.setdefault(groups[axis], []).append(pair * pair[1].sign())
    sharpness, means = {}, {}
    for axis, first in groups.items():
        pair = torch.cat(crests[first], 1)
        if pair.shape[1] >= _FEWEST:
            sharpness[axis] = float((pair[0] @ pair[1]) / pair[1].square().sum())
            order = pair[1].argsort().tensor_split(_SLOPE_GROUPS)
            means[axis] = torch.stack([pair[:, part].mean(1) for part in order], 1)
    return Edges(sharpness, means)


def find_filters(scan: Scan, style: Edges, resolution: float) -> dict[int, float] | None:
    """Find the filters that give a scan the slopes of a style's edges, by the secant method.

    Edges of two anatomies differ even with one scanner. So there is no filter unless it explains
    most of the difference between the slopes of both scans. Where the range clips a sharpened scan,
    other voxels become its edges, so the search starts at a blur and at a sharpening.

    Args:
        scan: the scan.
        style: edges of the style.
        resolution: mm, see `measure_edges`.

    Returns:
        Amounts of the filters by axis, see `apply_filters`; empty if slopes differ by less than
        5 %, None if they differ otherwise than after a filter.
    """
    edges = measure_edges(scan, resolution)
    axes = [axis for axis in edges.slopes if axis in style.slopes]
    if not axes:
        return {}
    tried: list[tuple[float, dict[int, float], dict[int, float]]] = []

    def judge(amounts: dict[int, float], edges: Edges) -> None:
        """Note the mean difference of slopes, and by how much narrow slopes are too steep."""
        if all(axis in edges.slopes for axis in axes):
            ratios = {axis: edges.log_ratio(style, axis) for axis in axes}
            difference = float(torch.stack([ratio.abs() for ratio in ratios.values()]).mean())
            excess = {axis: float(ratio[0].mean()) for axis, ratio in ratios.items()}
            tried.append((difference, amounts, excess))

    def attempt(amounts: dict[int, float]) -> None:
        judge(amounts, measure_edges(apply_filters(scan, amounts, resolution), resolution))

    judge(dict.fromkeys(axes, 0.0), edges)
    before = tried[0][0]
    if before < _LEAST_CHANGE:
        return {}
    for amount in _STARTS:
        attempt(dict.fromkeys(axes, amount))
    if len(tried) < 2:
        return None
    start = min(tried[1:], key=lambda part: part[0])[1]
    attempt({axis: 0.7 * amount for axis, amount in start.items()})
    # The secant begins with the two best filters.
    (_, amounts, rest), (_, former, errors) = sorted(tried, key=lambda part: part[0])[:2]
    for _ in range(_STEPS):
        if max(map(abs, rest.values())) < _PRECISION:
            break
        steps = {
            axis: rest[axis] * (amounts[axis] - former[axis]) / change
            for axis in axes
            if (change := rest[axis] - errors[axis])
        }
        former, errors = amounts, rest
        amounts = {
            axis: min(max(amounts[axis] - steps.get(axis, 0.0), -_MOST), _MOST) for axis in axes
        }
        attempt(amounts)
        if tried[-1][1] is not amounts:  # too few edges
            break
        rest = tried[-1][2]
    least, best, _ = min(tried, key=lambda part: part[0])
    return best if least < _UNEXPLAINED * before else None


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
    low, high = scan.values[scan.valid].aminmax()
    values = torch.where(scan.valid, values.clamp(low, high), scan.values)
    if bool(scan.valid.all()):
        return scan.with_values(values)
    # In the file of a style, voxels that were clipped beside the background are background, too.
    return Scan(values, scan.spacing, scan.valid & ~constant_background(values))


def _alike(first: float, second: float) -> bool:
    """Whether two spacings are equal to 5 %."""
    return math.isclose(first, second, rel_tol=0.05)


def _quantile(values: Tensor, share: float) -> Tensor:
    """A quantile of values, from at most two million of them."""
    return torch.quantile(values[:: max(1, values.numel() // 1_000_000)], share)
