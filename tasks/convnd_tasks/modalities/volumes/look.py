"""The look of a scan: the sharpness of its edges and the noise of its tissues."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd_tasks.modalities.volumes.geometry import HOUNSFIELD as HU
from convnd_tasks.modalities.volumes.noise_covariance import NoiseCovariance, measure_noise
from convnd_tasks.modalities.volumes.sharpness import (
    EdgeProfiles,
    Filter,
    apply_filters,
    differs,
    find_filter,
    is_significant,
    measure_edges,
    value_distance,
    value_quantiles,
)
from convnd_tasks.modalities.volumes.smoothing import constant_background
from convnd_tasks.modalities.volumes.tissues import (
    HOUNSFIELD,
    Scheme,
    TissueMap,
    otsu_scheme,
    tissue_values,
)

__all__ = [
    "Look",
    "Scan",
    "blend_noise",
    "comparable_noise",
    "match_sharpness",
    "moderate_noise",
    "noise_of",
    "scheme_of",
    "transferable_noise",
]

_ITERATIONS = 6
_QUIET_HU = 10.0  # noise of a standard dose, which a scan with less may always take


@dataclass(frozen=True)
class Scan:
    """A frame of a scan with axes towards head, front and right.

    Args:
        values: ``(D, H, W)``, finite.
        spacing: mm along each axis.
        valid: voxels that are neither padding nor missing.
    """

    values: Tensor
    spacing: tuple[float, ...]
    valid: Tensor

    @classmethod
    def of(cls, values: Tensor, spacing: Sequence[float]) -> Scan:
        """A scan whose values may be missing (NaN) and padded."""
        finite = torch.isfinite(values)
        low = values[finite].min() if bool(finite.any()) else values.new_zeros(())
        values = torch.where(finite, values, low)
        return cls(values, tuple(spacing), finite & ~constant_background(values))

    def with_values(self, values: Tensor) -> Scan:
        """The same grid with other values."""
        return Scan(values, self.spacing, self.valid)

    def sample(self) -> Scan:
        """The slices that the scan's look is measured on: three slabs of a tall scan.

        Slices that are not valid lie between the slabs, so that no filter reads across.
        """
        thick = self.spacing[0] > 2.5 * min(self.spacing)  # nothing is filtered across slices
        slab, gap = (8, 1) if thick else (16, 8)
        slices = self.values.shape[0]
        if slices <= 3 * slab + 2 * gap:
            return self
        starts = [0, (slices - slab) // 2, slices - slab]
        index = torch.cat([torch.arange(slab + gap) + start for start in starts])[:-gap]
        valid = self.valid[index.clamp(max=slices - 1)]
        for number in (1, 2):
            valid[number * (slab + gap) - gap : number * (slab + gap)] = False
        return Scan(self.values[index], self.spacing, valid)


@dataclass(frozen=True)
class Look:
    """The noise and sharpness of a scan, and quantiles that tell whether anatomies are alike.

    Args:
        noise: covariance of the noise by number of the tissue; not of every tissue.
        edges: profiles across edges, by axis.
        strengths: quantiles of the slopes of edges.
        values: quantiles of the values after a blur.
    """

    noise: Mapping[int, NoiseCovariance]
    edges: Mapping[int, EdgeProfiles]
    strengths: Tensor
    values: Tensor

    @classmethod
    def measure(cls, scan: Scan, scheme: Scheme, resolution: float) -> Look:
        """Measure a scan.

        Args:
            scan: the scan.
            scheme: the tissues.
            resolution: mm; of scans that are compared the coarser one's finest voxel side.
        """
        noise, scan = noise_of(scan, scheme, resolution), scan.sample()
        edges, strengths = measure_edges(scan.values, scan.spacing, scan.valid, resolution)
        values = value_quantiles(scan.values, scan.spacing, scan.valid, resolution)
        return cls(noise, edges, strengths, values)

    def without_anatomy(self) -> Look:
        """The look of a phantom: its noise, and no edges."""
        noise = {
            tissue: dataclasses.replace(part, allowance=0.0, anatomy=False)
            for tissue, part in self.noise.items()
        }
        return dataclasses.replace(self, noise=noise, edges={})


def scheme_of(scan: Scan, unit: str) -> Scheme:
    """The tissues of a scan: by Hounsfield units in CT, three classes of its values elsewhere."""
    if unit == HU:
        return HOUNSFIELD
    return otsu_scheme([tissue_values(scan.values, scan.spacing, scan.valid)])


def noise_of(
    scan: Scan, scheme: Scheme, resolution: float, allowances: Mapping[int, float] | None = None
) -> dict[int, NoiseCovariance]:
    """The noise of a scan by tissue, see `Look.measure` and `measure_noise`."""
    scan = scan.sample()
    tissues = TissueMap(scan.values, scan.spacing, scan.valid, scheme, resolution)
    return measure_noise(scan.values, scan.spacing, tissues, resolution, allowances=allowances)


def comparable_noise(
    scan: Scan,
    noise: Mapping[int, NoiseCovariance],
    styles: Sequence[Mapping[int, NoiseCovariance]],
    scheme: Scheme,
    resolution: float,
) -> Mapping[int, NoiseCovariance]:
    """The noise of a scan where it has as much weak anatomy as its styles, see `measure_noise`.

    Weak anatomy passes for a flat place where noise is strong, so it is part of a noisy style's
    covariance. With as much of it in the scan's, their difference is noise alone.

    Args:
        scan: the scan.
        noise: of it, by tissue.
        styles: noise of the styles, by tissue.
        scheme: the tissues.
        resolution: see `Look.measure`.
    """
    allowances = {
        tissue: max((style[tissue].allowance for style in styles if tissue in style), default=0.0)
        for tissue in noise
    }
    if all(noise[tissue].allowance >= allowance for tissue, allowance in allowances.items()):
        return noise
    return noise_of(scan, scheme, resolution, allowances)


def transferable_noise(
    noise: Mapping[int, NoiseCovariance], scheme: Scheme
) -> dict[int, NoiseCovariance]:
    """The noise of tissues without fine structures."""
    return {tissue: part for tissue, part in noise.items() if tissue not in scheme.structured}


def match_sharpness(
    scan: Scan, styles: Sequence[Look], weights: Sequence[float], resolution: float
) -> dict[int, Filter]:
    """The filters that give a scan the sharpness of styles, by axis.

    An axis has none where the difference may be one of anatomy, see `is_significant`.

    Args:
        scan: the scan.
        styles: their looks.
        weights: of the styles; the filters of several are averaged.
        resolution: see `Look.measure`.
    """
    scan = scan.sample()
    own, _ = measure_edges(scan.values, scan.spacing, scan.valid, resolution)
    total: dict[int, float] = {}
    for style, weight in zip(styles, weights, strict=True):
        for axis, along in _filters_of_style(scan, own, style, resolution).items():
            share = weight / sum(weights)
            total[axis] = total.get(axis, 0.0) + share * along.amount
    return {
        axis: Filter(amount, resolution / scan.spacing[axis])
        for axis, amount in total.items()
        if amount
    }


def blend_noise(
    scan: Mapping[int, NoiseCovariance],
    styles: Sequence[Mapping[int, NoiseCovariance]],
    weights: Sequence[float],
) -> dict[int, NoiseCovariance]:
    """Return the target noise of a scan: the styles' noise, sampled at the scan's lags.

    Args:
        scan: noise of the scan by tissue.
        styles: noise of the styles by tissue.
        weights: of the styles.

    Returns:
        The noise by tissue, for tissues that the scan and at least one style have.
    """
    targets = {}
    for tissue, own in scan.items():
        counts = [extent // 2 for extent in own.values.shape]
        pairs = [
            (style[tissue].resampled(own.spacing, counts).values, weight)
            for style, weight in zip(styles, weights, strict=True)
            if tissue in style
        ]
        anatomy = any(style[tissue].anatomy for style in styles if tissue in style)
        if pairs:
            total = sum(weight for _, weight in pairs)
            blended = torch.stack([values * (weight / total) for values, weight in pairs]).sum(0)
            targets[tissue] = dataclasses.replace(own, values=blended, anatomy=anatomy)
    return targets


def moderate_noise(
    scan: Mapping[int, NoiseCovariance], targets: Mapping[int, NoiseCovariance], unit: str
) -> dict[int, NoiseCovariance]:
    """Targets with at least half and at most twice the variance of the scan's own noise.

    The variance of noise is proportional to 1 / dose. The limit from above is 10 HU where that is
    more; in other units, where a built-in style has 3 % of the signal, there is none.

    Args:
        scan: noise of the scan by tissue.
        targets: see `blend_noise`.
        unit: "HU", or "" for others.
    """
    moderate = {}
    for tissue, target in targets.items():
        own, variance = scan[tissue].variance, target.variance
        highest = max(2 * own, _QUIET_HU**2) if unit == HU else math.inf
        factor = min(max(variance, own / 2), highest) / variance if variance > 0 else 1.0
        moderate[tissue] = dataclasses.replace(target, values=target.values * factor)
    return moderate


def _filters_of_style(
    scan: Scan, own: Mapping[int, EdgeProfiles], style: Look, resolution: float
) -> dict[int, Filter]:
    """Filters for one style, corrected by what they do to the scan itself."""
    shared = [axis for axis in own if axis in style.edges and differs(own[axis], style.edges[axis])]
    if not shared:
        return {}
    targets = {axis: style.edges[axis].sharpness() for axis in shared}
    aims = dict(targets)
    filters: dict[int, Filter] = {}
    for _ in range(_ITERATIONS):
        filters = {axis: find_filter(own[axis], aims[axis]) for axis in shared}
        filtered = apply_filters(scan.values, filters, scan.valid)
        edges, slopes = measure_edges(filtered, scan.spacing, scan.valid, resolution)
        # Other voxels are the strongest edges after the filter, so the aim is corrected.
        for axis in shared:
            if axis in edges:
                error = (targets[axis] - 1) / max(1e-3, edges[axis].sharpness() - 1)
                aims[axis] = 1 + (aims[axis] - 1) * math.sqrt(error)
    values = value_quantiles(filtered, scan.spacing, scan.valid, resolution)
    distance = value_distance(values, style.values)
    return {
        axis: along
        for axis, along in filters.items()
        if is_significant(own[axis], style.edges[axis], (slopes, style.strengths), distance)
    }
