r"""The sharpness of a scan's edges along each axis, and the filter that gives it to another.

Profiles of values across the strongest edges, taken along one axis, have the second moments
:math:`M = \sum_e p_e p_e^\top`, which add up over edges and over parts of scans. With the
derivatives of a narrow and a wide Gaussian, :math:`v` and :math:`u`,

.. math:: Q = \frac{v^\top M u}{u^\top M u}

is the slope at a fine scale for one unit of slope at a coarse scale: 1 for blurred edges, and the
ratio of the widths for ideal ones. Noise does not correlate with the slope of an edge and hardly
changes it. A linear filter :math:`H` along the axis changes :math:`M` into :math:`H M H^\top`, so
the filter that gives a scan the sharpness of another is found from the moments alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd_tasks.modalities.volumes.smoothing import (
    erode,
    gaussian,
    local_mean,
    sigmas,
)

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

_REACH = 7  # resolutions, half the length of a profile
_STRONGEST = 0.02  # share of the voxels that are edges
_STRENGTHS = (0.9, 0.95, 0.98, 0.99, 0.995)  # quantiles of the slopes that describe an anatomy
_FEWEST = 100
_MOST = 20_000
_MASK_SHARPENING = 1.0  # resolutions, sigma of the Gaussian whose difference sharpens
_MOST_BLUR, _MOST_SHARPENING = 2.0, 4.0
_LEAST_SPREAD = 0.15  # of the logarithm of Q - 1, between anatomies
_UNKNOWN_SPREAD = 0.5  # the largest between parts of large scans
_LEAST_CHANGE = 0.15  # of the logarithm of Q - 1, below it sharpness stays: 7 % of a slope at most
# From here on two anatomies have nothing in common: mean log ratio of slopes, distance of values.
_OTHER_SLOPES, _OTHER_VALUES = 0.25, 0.1


@dataclass(frozen=True)
class EdgeProfiles:
    """Second moments of the profiles across edges along one axis.

    Args:
        moments: ``(P, P)``, P samples of the scan.
        parts: the same of each part of the scan.
        unit: samples of one resolution.
    """

    moments: Tensor
    parts: tuple[Tensor, ...]
    unit: float

    def sharpness(self, matrix: Tensor | None = None) -> float:
        """Q after a filter along the profiles; None is without one."""
        return _ratio(self.moments, self.unit, matrix)

    @property
    def spread(self) -> float:
        """Standard deviation of the logarithm of Q - 1 between parts of the scan."""
        logs = torch.tensor([_log(_ratio(part, self.unit, None)) for part in self.parts])
        return float(logs.std()) if len(logs) > 1 else _UNKNOWN_SPREAD


@dataclass(frozen=True)
class Filter:
    """A filter along one axis.

    Args:
        amount: if below 0, a Gaussian of ``-amount`` resolutions blurs the values; if above 0, the
            filter adds ``amount`` times the difference from a Gaussian of one resolution.
        unit: samples of one resolution.
    """

    amount: float
    unit: float

    @property
    def sigma(self) -> float:
        """Standard deviation of the Gaussian, in samples."""
        return (-self.amount if self.amount < 0 else _MASK_SHARPENING) * self.unit

    def mix(self, values: Tensor, blurred: Tensor) -> Tensor:
        """The filtered values, from those before and behind the Gaussian."""
        return blurred if self.amount < 0 else values + self.amount * (values - blurred)

    def matrix(self, extent: int) -> Tensor:
        """The filter along one axis as a matrix, float64; it repeats the outermost samples."""
        identity = torch.eye(extent, dtype=torch.float64)
        # The columns of its matrix are the filtered unit impulses.
        return self.mix(identity, gaussian(identity[None], (0.0, self.sigma, 0.0))[0])


def measure_edges(
    values: Tensor,
    spacing: Sequence[float],
    valid: Tensor,
    resolution: float,
    *,
    pooled: bool = True,
) -> tuple[dict[int, EdgeProfiles], Tensor]:
    """The profiles along each axis that is fine enough, and the strengths of the edges.

    Args:
        values: ``(D, H, W)``, finite.
        spacing: mm along each axis.
        valid: voxels that are no background; edges of the background do not count.
        resolution: mm, of the coarser of the scans that are compared.
        pooled: whether axes with the same spacing share their profiles.

    Returns:
        Profiles by axis, none where there are too few edges; and quantiles of the slopes.
    """
    widths = sigmas(spacing, _WIDE * resolution, min(spacing))
    fine = [axis for axis, width in enumerate(widths) if width > 0]
    reach = [math.ceil(_REACH * resolution / step - 0.5) for step in spacing]
    long = [axis for axis in fine if values.shape[axis] > 2 * reach[axis] + 2]
    if not long:
        return {}, torch.zeros(len(_STRENGTHS))
    smooth = local_mean(values, valid.float(), widths)
    slopes = {axis: torch.gradient(smooth, dim=axis)[0] / spacing[axis] for axis in long}
    strength = torch.stack([slope.square() for slope in slopes.values()]).sum(0).sqrt()
    near = [_WIDE * width if width > 0 else 0 for width in widths]
    strengths = _quantiles(strength[erode(valid, [math.ceil(width) for width in near])], _STRENGTHS)
    lines: dict[int, list[Tensor]] = {}  # by the first axis with a spacing
    for axis in long:
        room = [reach[axis] if other == axis else 0 for other in range(3)]
        inside = _interior(erode(valid, room), axis, reach[axis])
        if int(inside.sum()) < _FEWEST:
            continue
        (limit,) = _quantiles(strength[inside], [1 - _STRONGEST]).tolist()
        edges = inside & (strength >= limit) & (slopes[axis].abs() >= 0.8 * strength)
        if limit > 0:
            parts = _lines(values, edges.nonzero(), axis, reach[axis])
            first = next(n for n in fine if n == axis or (pooled and _alike(spacing, n, axis)))
            former = lines.get(first, [parts[0][:0]] * len(parts))
            lines[first] = [torch.cat(pair) for pair in zip(former, parts, strict=True)]
    profiles = {}
    for first, parts in lines.items():
        if sum(map(len, parts)) >= _FEWEST:
            moments = [part.mT @ part for part in parts]
            large = [m for m, part in zip(moments, parts, strict=True) if len(part) > 50]
            total = torch.stack(moments).sum(0)
            edges_along = EdgeProfiles(total, tuple(large), resolution / spacing[first])
            alike = [n for n in fine if n == first or (pooled and _alike(spacing, first, n))]
            profiles.update(dict.fromkeys(alike, edges_along))
    return profiles, strengths


def find_filter(edges: EdgeProfiles, sharpness: float) -> Filter:
    """The filter that gives edges a sharpness, as far as it is within limits."""
    blurs = sharpness < edges.sharpness()
    low, high = (-_MOST_BLUR, 0.0) if blurs else (0.0, _MOST_SHARPENING)
    extent = edges.moments.shape[0]
    for _ in range(12):
        middle = (low + high) / 2
        reached = edges.sharpness(Filter(middle, edges.unit).matrix(extent))
        low, high = (middle, high) if reached < sharpness else (low, middle)
    return Filter((low + high) / 2, edges.unit)


def is_significant(
    scan: EdgeProfiles, style: EdgeProfiles, strengths: tuple[Tensor, Tensor], distance: float
) -> bool:
    """Whether two scans differ in sharpness by more than anatomy explains.

    Edges of two anatomies differ without any difference between the scanners, by about as much as
    the parts of one scan do. The more alike the anatomies are, the less this explains. A difference
    counts if it is above four deviations, and between unlike anatomies never.

    Args:
        scan: edges of the scan along an axis.
        style: edges of the style along it.
        strengths: quantiles of the slopes of both, of the scan after it was filtered.
        distance: between the values of both, see `value_distance`; of the filtered scan.
    """
    ratio = (strengths[1] / strengths[0].clamp(min=1e-12)).clamp(min=1e-6).log()
    unlike = max(float(ratio.abs().mean()) / _OTHER_SLOPES, distance / _OTHER_VALUES)
    if unlike > 0.5:
        return False
    spread = math.sqrt((scan.spread**2 + style.spread**2) / 2)
    return differs(scan, style, 4 * unlike * max(spread, _LEAST_SPREAD))


def value_distance(scan: Tensor, style: Tensor) -> float:
    """Mean distance of the quantiles of two scans' values, in ranges of the scan's values.

    Neither noise nor sharpness changes the values of a blurred scan by much, but anatomy does.
    """
    spread = float(scan[-1] - scan[0])
    return float((scan - style).abs().mean()) / spread if spread > 0 else 1.0


def value_quantiles(
    values: Tensor, spacing: Sequence[float], valid: Tensor, resolution: float
) -> Tensor:
    """Quantiles of the values of a scan after a blur, for `value_distance`."""
    smooth = local_mean(values, valid.float(), sigmas(spacing, _WIDE * resolution, min(spacing)))
    return _quantiles(smooth[valid], [0.05 + 0.9 * number / 48 for number in range(49)])


def differs(scan: EdgeProfiles, style: EdgeProfiles, least: float = 0.0) -> bool:
    """Whether the logarithms of Q - 1 differ by more than 0.15 and than another limit."""
    difference = _log(style.sharpness()) - _log(scan.sharpness())
    return abs(difference) > max(_LEAST_CHANGE, least)


def apply_filters(values: Tensor, filters: Mapping[int, Filter], valid: Tensor) -> Tensor:
    """Filter a volume along some axes; voxels that are not valid have no influence on others."""
    if not filters:
        return values
    weight = valid.float()
    # Background takes the values of its neighbours, so that its border is no edge.
    filled = values
    if not bool(valid.all()):
        widths = [2.0 * filters[axis].unit if axis in filters else 0.0 for axis in range(3)]
        filled = torch.where(valid, values, local_mean(values, weight, widths))
    for amount in sorted({along.amount for along in filters.values()}):
        # Axes of one amount together: one after the other would sharpen corners twice.
        alike = {axis: along for axis, along in filters.items() if along.amount == amount}
        blurred = gaussian(filled, [alike[n].sigma if n in alike else 0.0 for n in range(3)])
        filled = next(iter(alike.values())).mix(filled, blurred)
    return torch.where(valid, filled, values)


def _lines(values: Tensor, places: Tensor, axis: int, reach: int) -> list[Tensor]:
    """Values across edges along an axis, less their mean, of each octant of the volume."""
    places = places[:: max(1, len(places) // _MOST)]
    index = [places[:, None, other] for other in range(3)]
    index[axis] = index[axis] + torch.arange(-reach, reach + 1)
    lines = values[tuple(index)].double()
    lines = lines - lines.mean(1, keepdim=True)
    octant = (2 * places // torch.tensor(values.shape)) @ torch.tensor([4, 2, 1])
    return [lines[octant == number] for number in range(8)]


def _alike(spacing: Sequence[float], first: int, second: int) -> bool:
    """Whether two axes have the same spacing, as far as sharpness is concerned."""
    return math.isclose(spacing[first], spacing[second], rel_tol=0.05)


def _ratio(moments: Tensor, unit: float, matrix: Tensor | None) -> float:
    extent = moments.shape[0]
    offsets = torch.arange(extent, dtype=torch.float64) - extent // 2

    def derivative(sigma: float) -> Tensor:
        kernel = offsets * torch.exp(-0.5 * (offsets / sigma) ** 2)
        kernel = kernel / (kernel * offsets).sum()
        return kernel if matrix is None else matrix.mT @ kernel

    narrow, wide = derivative(_NARROW * unit), derivative(_WIDE * unit)
    return float(narrow @ moments @ wide / (wide @ moments @ wide))


def _log(sharpness: float) -> float:
    return math.log(max(1e-3, sharpness - 1))


def _interior(mask: Tensor, axis: int, reach: int) -> Tensor:
    """A mask without the voxels that are close to the ends of an axis."""
    mask = mask.clone()
    mask.narrow(axis, 0, reach).zero_()
    mask.narrow(axis, mask.shape[axis] - reach, reach).zero_()
    return mask


def _quantiles(values: Tensor, shares: Sequence[float]) -> Tensor:
    """Quantiles of any number of values, 0 of none."""
    values = values[:: max(1, values.numel() // 1_000_000)]
    if not values.numel():
        return torch.zeros(len(shares))
    return torch.quantile(values, values.new_tensor(list(shares)))
