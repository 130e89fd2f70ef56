r"""The sharpness of a scan's edges along each axis, and the filter that changes it.

A profile :math:`p_e` holds the values across an edge :math:`e`, along one axis. The profiles of the
strongest edges have the second moments :math:`M = \sum_e p_e p_e^\top`. With the derivatives of a
narrow and a wide Gaussian, :math:`v` and :math:`u`, sharpness is the ratio of slopes

.. math:: Q = \frac{v^\top M u}{u^\top M u}

at a fine and a coarse scale: 1 for very blurred edges, and the ratio of the two widths for ideal
steps. Noise does not correlate with the slope of an edge, so it hardly changes Q. A linear filter
:math:`H` along the axis changes :math:`M` into :math:`H M H^\top`, so the moments suffice to find
the filter that gives a scan the sharpness of another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.smoothing import erode, gaussian, local_mean, sigmas

__all__ = [
    "EDGE_SIGMAS",
    "EdgeProfiles",
    "Filter",
    "apply_filters",
    "differs",
    "find_filter",
    "is_significant",
    "measure_edges",
    "value_distance",
    "value_quantiles",
]

EDGE_SIGMAS = _NARROW, _WIDE = 0.7, 2.0
"""Standard deviations of the narrow and the wide Gaussian, in resolutions."""

_REACH = 7  # resolutions; half the length of a profile
_EDGE_SHARE = 0.02  # of the voxels, those with the largest slopes, are edges
_SLOPE_QUANTILES = (0.9, 0.95, 0.98, 0.99, 0.995)
_FEWEST, _MOST = 30, 20_000  # profiles
_UNSHARP_SIGMA = 1.0  # resolutions; the Gaussian of unsharp masking
_MOST_BLUR, _MOST_SHARPENING = 2.0, 4.0  # resolutions; factor of unsharp masking
_LEAST_CHANGE = 0.15  # of log(Q - 1), at most 7 % of a slope; smaller differences are ignored
# Anatomies that differ by less are the same: mean log ratio of slopes, and value distance.
_SAME_SLOPES, _SAME_VALUES = 0.085, 0.035


@dataclass(frozen=True)
class EdgeProfiles:
    """Second moments of the profiles across edges along one axis.

    Args:
        moments: ``(P, P)``, float64, for profiles of P voxels.
        scale: voxels along the axis in one resolution.
    """

    moments: Tensor
    scale: float

    def sharpness(self, matrix: Tensor | None = None) -> float:
        """The sharpness Q of the edges.

        Args:
            matrix: ``(P, P)``, a filter along the profiles that comes first; None is no filter.
        """
        extent = self.moments.shape[0]
        offsets = torch.arange(extent, dtype=torch.float64) - extent // 2

        def derivative(sigma: float) -> Tensor:
            kernel = offsets * torch.exp(-0.5 * (offsets / (sigma * self.scale)) ** 2)
            kernel = kernel / (kernel * offsets).sum()
            return kernel if matrix is None else matrix.mT @ kernel

        narrow, wide = derivative(_NARROW), derivative(_WIDE)
        return float(narrow @ self.moments @ wide / (wide @ self.moments @ wide))


@dataclass(frozen=True)
class Filter:
    """A Gaussian blur or an unsharp mask along one axis.

    Args:
        amount: a negative one blurs with a Gaussian of ``-amount`` resolutions; a positive one adds
            ``amount`` times the difference from a Gaussian of one resolution.
        scale: voxels along the axis in one resolution.
    """

    amount: float
    scale: float

    @property
    def sigma(self) -> float:
        """The standard deviation of the Gaussian, in voxels."""
        return (-self.amount if self.amount < 0 else _UNSHARP_SIGMA) * self.scale

    def combine(self, values: Tensor, blurred: Tensor) -> Tensor:
        """The filtered values, from the values and their blurred copy."""
        return blurred if self.amount < 0 else values + self.amount * (values - blurred)

    def matrix(self, extent: int) -> Tensor:
        """The filter as a matrix ``(extent, extent)``, float64; it repeats the outermost voxels."""
        identity = torch.eye(extent, dtype=torch.float64)
        # The columns of the matrix are filtered unit impulses.
        return self.combine(identity, gaussian(identity[None], (0.0, self.sigma, 0.0))[0])


def measure_edges(
    scan: Scan, resolution: float, *, pooled: bool = True
) -> tuple[dict[int, EdgeProfiles], Tensor]:
    """Measure the profiles across the strongest edges, along each axis with fine enough voxels.

    Args:
        scan: the scan; edges of its background do not count.
        resolution: mm; the coarsest, over the compared scans, of their finest voxel sides.
        pooled: axes with the same spacing share their profiles.

    Returns:
        Profiles by axis, without axes that have too few edges; and quantiles of the slopes, in
        units of the scan per mm.
    """
    spacing = scan.spacing
    widths = sigmas(spacing, _WIDE * resolution, min(spacing))
    fine = [axis for axis, width in enumerate(widths) if width > 0]
    reach = [math.ceil(_REACH * resolution / step - 0.5) for step in spacing]
    long = [axis for axis in fine if scan.values.shape[axis] > 2 * reach[axis] + 2]
    if not long:
        return {}, torch.zeros(len(_SLOPE_QUANTILES))
    smooth = local_mean(scan.values, scan.valid.float(), widths)
    slopes = {axis: torch.gradient(smooth, dim=axis)[0] / spacing[axis] for axis in long}
    magnitude = torch.stack([slope.square() for slope in slopes.values()]).sum(0).sqrt()
    quantiles = _quantiles(magnitude[_inside(scan, widths)], _SLOPE_QUANTILES)
    lines: dict[int, Tensor] = {}  # profiles, by the first axis of a spacing
    for axis in long:
        room = [reach[axis] if other == axis else 0 for other in range(3)]
        inside = _interior(erode(scan.valid, room), axis, reach[axis])
        if int(inside.sum()) < _FEWEST:
            continue
        (limit,) = _quantiles(magnitude[inside], [1 - _EDGE_SHARE]).tolist()
        slope = slopes[axis].abs()
        edges = inside & _maxima(slope, axis) & (magnitude >= limit) & (slope >= 0.8 * magnitude)
        if limit > 0:
            across = _profiles(scan.values, edges.nonzero(), axis, reach[axis])
            first = next(n for n in fine if n == axis or (pooled and _alike(spacing, n, axis)))
            lines[first] = torch.cat([lines.get(first, across[:0]), across])
    profiles = {}
    for first, across in lines.items():
        if len(across) >= _FEWEST:
            edges_along = EdgeProfiles(across.mT @ across, resolution / spacing[first])
            alike = [n for n in fine if n == first or (pooled and _alike(spacing, first, n))]
            profiles.update(dict.fromkeys(alike, edges_along))
    return profiles, quantiles


def find_filter(edges: EdgeProfiles, sharpness: float) -> Filter:
    """Find the filter that gives edges a sharpness, by bisection within fixed limits.

    Args:
        edges: the edges before the filter.
        sharpness: the sharpness Q after it.
    """
    blurs = sharpness < edges.sharpness()
    low, high = (-_MOST_BLUR, 0.0) if blurs else (0.0, _MOST_SHARPENING)
    extent = edges.moments.shape[0]
    for _ in range(12):
        middle = (low + high) / 2
        reached = edges.sharpness(Filter(middle, edges.scale).matrix(extent))
        low, high = (middle, high) if reached < sharpness else (low, middle)
    return Filter((low + high) / 2, edges.scale)


def is_significant(
    scan: EdgeProfiles, style: EdgeProfiles, slopes: tuple[Tensor, Tensor], distance: float
) -> bool:
    """Whether two scans of one anatomy differ in sharpness.

    Edges of two anatomies differ even with one scanner. So no difference is significant unless the
    slopes and the values of the filtered scan show that the anatomies are the same.

    Args:
        scan: edges of the scan along an axis.
        style: edges of the style along this axis.
        slopes: quantiles of the slopes of the filtered scan and of the style.
        distance: distance of their values, see `value_distance`.
    """
    ratio = (slopes[1] / slopes[0].clamp(min=1e-12)).clamp(min=1e-6).log()
    dissimilarity = max(float(ratio.abs().mean()) / _SAME_SLOPES, distance / _SAME_VALUES)
    return dissimilarity < 1 and differs(scan, style)


def value_distance(scan: Tensor, style: Tensor) -> float:
    """The mean distance between the quantiles of two scans, as a share of the scan's range.

    Noise and sharpness hardly change the values of a blurred scan, but anatomy does.

    Args:
        scan: ``(49,)``, see `value_quantiles`.
        style: the same of the style.
    """
    spread = float(scan[-1] - scan[0])
    return float((scan - style).abs().mean()) / spread if spread > 0 else 1.0


def value_quantiles(scan: Scan, resolution: float) -> Tensor:
    """49 quantiles, 5 to 95 %, of a scan's values after a blur of two resolutions.

    Voxels near the background are left out, as for edges.

    Args:
        scan: the scan.
        resolution: mm.
    """
    widths = sigmas(scan.spacing, _WIDE * resolution, min(scan.spacing))
    smooth = local_mean(scan.values, scan.valid.float(), widths)
    shares = [0.05 + 0.9 * number / 48 for number in range(49)]
    return _quantiles(smooth[_inside(scan, widths)], shares)


def differs(scan: EdgeProfiles, style: EdgeProfiles) -> bool:
    """Whether log(Q - 1) of two scans differs by more than 0.15."""
    logs = [math.log(max(1e-3, edges.sharpness() - 1)) for edges in (scan, style)]
    return abs(logs[1] - logs[0]) > _LEAST_CHANGE


def apply_filters(scan: Scan, filters: Mapping[int, Filter]) -> Tensor:
    """Filter a scan along some axes; voxels that are not valid have no influence on others.

    Args:
        scan: the scan.
        filters: filters by axis.

    Returns:
        Values ``(D, H, W)`` in the range of the scan's valid values; those of voxels that are not
        valid are unchanged.
    """
    if not filters:
        return scan.values
    low, high = scan.values[scan.valid].aminmax()
    filled = scan.values
    # Background gets the values of its neighbours, so its border is not an edge.
    if not bool(scan.valid.all()):
        widths = [2.0 * filters[axis].scale if axis in filters else 0.0 for axis in range(3)]
        means = local_mean(scan.values, scan.valid.float(), widths)
        filled = torch.where(scan.valid, scan.values, means)
    for amount in sorted({along.amount for along in filters.values()}):
        # Axes with one amount are filtered together; one by one, corners were sharpened twice.
        alike = {axis: along for axis, along in filters.items() if along.amount == amount}
        blurred = gaussian(filled, [alike[n].sigma if n in alike else 0.0 for n in range(3)])
        filled = next(iter(alike.values())).combine(filled, blurred)
    return torch.where(scan.valid, filled.clamp(low, high), scan.values)


def _profiles(values: Tensor, voxels: Tensor, axis: int, reach: int) -> Tensor:
    """The profiles ``(n, 2 reach + 1)`` across edges, less their means, float64.

    Args:
        values: ``(D, H, W)``.
        voxels: indices ``(m, 3)`` of edges; of too many, every k-th is used.
        axis: axis of the profiles.
        reach: voxels on either side of an edge.
    """
    voxels = voxels[:: max(1, len(voxels) // _MOST)]
    index = [voxels[:, None, other] for other in range(3)]
    index[axis] = index[axis] + torch.arange(-reach, reach + 1)
    lines = values[tuple(index)].double()
    return lines - lines.mean(1, keepdim=True)


def _alike(spacing: Sequence[float], first: int, second: int) -> bool:
    """Whether two axes have the same spacing to 5 %."""
    return math.isclose(spacing[first], spacing[second], rel_tol=0.05)


def _maxima(values: Tensor, axis: int) -> Tensor:
    """The voxels that are at least as high as their two neighbours along an axis."""
    size = values.shape[axis]
    rises = values.narrow(axis, 1, size - 1) >= values.narrow(axis, 0, size - 1)
    falls = values.narrow(axis, 1, size - 1) <= values.narrow(axis, 0, size - 1)
    maxima = torch.ones_like(values, dtype=torch.bool)
    maxima.narrow(axis, 1, size - 1).logical_and_(rises)
    maxima.narrow(axis, 0, size - 1).logical_and_(falls)
    return maxima


def _inside(scan: Scan, widths: Sequence[float]) -> Tensor:
    """The valid voxels that are more than two widths of a Gaussian away from the background."""
    return erode(scan.valid, [math.ceil(_WIDE * width) for width in widths])


def _interior(mask: Tensor, axis: int, reach: int) -> Tensor:
    """A mask without the voxels within ``reach`` of the ends of an axis."""
    mask = mask.clone()
    mask.narrow(axis, 0, reach).zero_()
    mask.narrow(axis, mask.shape[axis] - reach, reach).zero_()
    return mask


def _quantiles(values: Tensor, shares: Sequence[float]) -> Tensor:
    """Quantiles of values, from at most two million of them; zeros without values."""
    values = values[:: max(1, values.numel() // 1_000_000)]
    if not values.numel():
        return torch.zeros(len(shares))
    return torch.quantile(values, values.new_tensor(list(shares)))
