"""The look of a scan: the sharpness of its edges and the noise of its tissues."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from convnd_tasks.modalities.volumes.geometry import HOUNSFIELD as HU
from convnd_tasks.modalities.volumes.noise_covariance import NoiseCovariance, measure_noise
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.sharpness import Edges, find_filters, measure_edges
from convnd_tasks.modalities.volumes.tissues import (
    HOUNSFIELD,
    TissueMap,
    TissueScheme,
    otsu_scheme,
    tissue_values,
)

__all__ = [
    "Look",
    "blend_noise",
    "comparable_noise",
    "match_sharpness",
    "measure_scan_noise",
    "moderate_noise",
    "tissue_scheme",
    "transferable_noise",
    "why_not_comparable",
]

_QUIET_HU = 10.0  # noise at a standard dose; a built-in style adds no more
_VOXEL_RATIO = 1.25  # of the finest voxel sides of scans whose sharpness is compared
# Distance of the shares of tissues: half the sum of the magnitudes of their differences.
_BODY_DISTANCE = 0.25


@dataclass(frozen=True)
class Look:
    """The noise and sharpness of a scan.

    Args:
        noise: covariance of the noise by tissue, for tissues whose noise could be measured.
        edges: its edges, None if their sharpness is of no use.
    """

    noise: Mapping[int, NoiseCovariance]
    edges: Edges | None

    @classmethod
    def measure(cls, scan: Scan, scheme: TissueScheme, resolution: float) -> Look:
        """Measure the look of a scan.

        Args:
            scan: the scan.
            scheme: its tissues.
            resolution: mm; the coarsest, over the compared scans, of their finest voxel sides.
        """
        noise = measure_scan_noise(scan, scheme, resolution)
        return cls(noise, measure_edges(scan.slabs(), resolution))

    def without_anatomy(self) -> Look:
        """The look of a phantom: its noise without an allowance for anatomy, and no edges."""
        noise = {
            tissue: dataclasses.replace(part, allowance=0.0, anatomy=False)
            for tissue, part in self.noise.items()
        }
        return dataclasses.replace(self, noise=noise, edges=None)


def tissue_scheme(scan: Scan, unit: str) -> TissueScheme:
    """The tissues of a scan: by Hounsfield units for "HU", three Otsu classes for other units."""
    if unit == HU:
        return HOUNSFIELD
    return otsu_scheme([tissue_values(scan)])


def measure_scan_noise(
    scan: Scan,
    scheme: TissueScheme,
    resolution: float,
    allowances: Mapping[int, float] | None = None,
) -> dict[int, NoiseCovariance]:
    """Measure the noise by tissue on the slabs of a scan.

    Args:
        scan: the scan.
        scheme: its tissues.
        resolution: mm, see `Look.measure`.
        allowances: variance by tissue that weak anatomy may add, see `measure_noise`.
    """
    scan = scan.slabs()
    tissues = TissueMap(scan, scheme, resolution)
    return measure_noise(scan, tissues, resolution, allowances=allowances)


def comparable_noise(
    scan: Scan,
    noise: Mapping[int, NoiseCovariance],
    styles: Sequence[Mapping[int, NoiseCovariance]],
    scheme: TissueScheme,
    resolution: float,
) -> Mapping[int, NoiseCovariance]:
    """Measure a scan's noise with as much weak anatomy as that of its styles contains.

    In a noisy style, voxels with weak anatomy count as flat, so the covariance contains it. If the
    covariance of the scan contains as much, the difference of the two is noise only.

    Args:
        scan: the scan.
        noise: its noise by tissue.
        styles: noise of each style by tissue.
        scheme: tissues of the scan.
        resolution: mm, see `Look.measure`.
    """
    allowances = {
        tissue: max((style[tissue].allowance for style in styles if tissue in style), default=0.0)
        for tissue in noise
    }
    if all(noise[tissue].allowance >= allowance for tissue, allowance in allowances.items()):
        return noise
    return measure_scan_noise(scan, scheme, resolution, allowances)


def transferable_noise(
    noise: Mapping[int, NoiseCovariance], scheme: TissueScheme
) -> dict[int, NoiseCovariance]:
    """The noise of the tissues whose fine structures cannot be mistaken for noise."""
    return {tissue: part for tissue, part in noise.items() if tissue not in scheme.structured}


def why_not_comparable(scan: Scan, style: Scan, scheme: TissueScheme) -> str:
    """Say why the edges of a style tell nothing about the sharpness of a scan; "" if they may.

    Args:
        scan: the scan.
        style: the style, in the scan's unit.
        scheme: tissues of the scan.
    """
    finest, other = min(scan.spacing), min(style.spacing)
    if not 1 / _VOXEL_RATIO <= other / finest <= _VOXEL_RATIO:
        return f"its voxels have {other:.3g} mm and those of the scan {finest:.3g} mm"
    labels = [
        TissueMap(part, scheme, max(finest, other)).labels[part.valid] for part in (scan, style)
    ]
    counts = [torch.bincount(part.long(), minlength=len(scheme.names)).double() for part in labels]
    first, second = (count / count.sum().clamp(min=1) for count in counts)
    if float((first - second).abs().sum()) / 2 <= _BODY_DISTANCE:
        return ""
    tissue = int((first - second).abs().argmax())
    return (
        f"it shows other anatomy: {100 * second[tissue]:.0f} % of it are "
        f"{scheme.names[tissue]}, of the scan {100 * first[tissue]:.0f} %"
    )


def match_sharpness(
    scan: Scan, styles: Sequence[Edges | None], weights: Sequence[float], resolution: float
) -> dict[int, float]:
    """Find the filters that give a scan the sharpness of styles.

    Args:
        scan: the scan.
        styles: edges of each style; None if they tell nothing about the scan.
        weights: weight of each style; the amounts of the styles' filters are averaged.
        resolution: mm, see `Look.measure`.

    Returns:
        Amounts of the filters by axis, see `find_filters`.
    """
    scan, amounts = scan.slabs(), dict[int, float]()
    for edges, weight in zip(styles, weights, strict=True):
        if edges is not None:
            for axis, amount in find_filters(scan, edges, resolution).items():
                amounts[axis] = amounts.get(axis, 0.0) + amount * weight / sum(weights)
    return amounts


def blend_noise(
    scan: Mapping[int, NoiseCovariance],
    styles: Sequence[Mapping[int, NoiseCovariance]],
    weights: Sequence[float],
) -> dict[int, NoiseCovariance]:
    """Average the noise of styles, at the lags of a scan.

    Args:
        scan: noise of the scan by tissue.
        styles: noise of each style by tissue.
        weights: weight of each style.

    Returns:
        The target of the noise by tissue, for tissues of the scan that some style has.
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
    """Limit the noise that a built-in style adds to and removes from a scan.

    The variance of noise is proportional to 1 / dose. It falls to half at most. In HU, noise is
    added up to 10 HU, that of a standard dose. A louder tissue keeps its own spectrum, since its
    noise may be overestimated. In other units there is no upper limit, since the built-in style has
    a noise of 3 % of the signal.

    Args:
        scan: noise of the scan by tissue.
        targets: noise of the styles by tissue, see `blend_noise`.
        unit: "HU", or "" for other units.
    """
    moderate = {}
    for tissue, target in targets.items():
        own, variance = scan[tissue].variance, target.variance
        highest = _QUIET_HU**2 if unit == HU else math.inf
        if own >= highest:
            values = scan[tissue].values * min(max(variance / own, 0.5), 1.0)
        else:
            factor = min(max(variance, own / 2), highest) / variance if variance > 0 else 1.0
            values = target.values * factor
        moderate[tissue] = dataclasses.replace(target, values=values)
    return moderate
