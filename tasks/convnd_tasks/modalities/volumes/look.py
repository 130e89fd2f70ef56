"""The look of a scan: the sharpness of its edges and the noise of its tissues."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd_tasks.modalities.volumes.geometry import HOUNSFIELD as HU
from convnd_tasks.modalities.volumes.noise_covariance import NoiseCovariance, measure_noise
from convnd_tasks.modalities.volumes.noise_power import NoisePower
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.sharpness import Edges, find_filters, measure_edges
from convnd_tasks.modalities.volumes.smoothing import local_mean, sigmas
from convnd_tasks.modalities.volumes.tissues import (
    HOUNSFIELD,
    TissueMap,
    TissueScheme,
    otsu_scheme,
    tissue_values,
)

__all__ = [
    "Likeness",
    "Look",
    "blend_filters",
    "blend_noise",
    "measure_likeness",
    "measure_scan_noise",
    "moderate_noise",
    "tissue_scheme",
    "transferable_noise",
]

_QUIET_HU = 10.0  # noise at a standard dose; a built-in style adds no more
_VOXEL_RATIO = 1.25  # of the finest voxel sides of scans whose sharpness is compared
# Distance of the shares of tissues: half the sum of the magnitudes of their differences. The whole
# anatomy with other noise has 0.05 at most, and with another sharpness 0.1.
_BODY_DISTANCE, _BLURRED_DISTANCE, _SAME_DISTANCE = 0.25, 0.1, 0.05


@dataclass(frozen=True)
class Look:
    """The noise and sharpness of a scan.

    Args:
        noise: covariance of the noise by tissue, for tissues whose noise could be measured.
        edges: its edges, None for a phantom, whose edges are ideal and whose flat tissues show
            nothing but noise.
        spacing: mm of the finest voxel side.
        values: values of the scan after a small blur, as many as show the shares of its tissues.
    """

    noise: Mapping[int, NoiseCovariance]
    edges: Edges | None
    spacing: float
    values: Tensor

    @classmethod
    def measure(
        cls, scan: Scan, scheme: TissueScheme, resolution: float, *, phantom: bool = False
    ) -> Look:
        """Measure the look of a scan.

        Args:
            scan: the scan.
            scheme: its tissues.
            resolution: mm; the coarsest, over the compared scans, of their finest voxel sides.
            phantom: the scan is a phantom.
        """
        noise = measure_scan_noise(scan, scheme, resolution)
        edges = None if phantom else measure_edges(scan.slabs(), resolution)
        return cls(noise, edges, min(scan.spacing), _tissue_sample(scan, resolution))

    def distance(self, scan: Scan, scheme: TissueScheme, resolution: float) -> Tensor:
        """By how much the share of each tissue exceeds that of a scan.

        Args:
            scan: the scan.
            scheme: tissues of the scan.
            resolution: mm, see `Look.measure`.
        """
        shares = []
        for values in (_tissue_sample(scan, resolution), self.values):
            labels = torch.bucketize(values, values.new_tensor(scheme.limits))
            counts = torch.bincount(labels, minlength=len(scheme.names)).double()
            shares.append(counts / counts.sum().clamp(min=1))
        return shares[1] - shares[0]


def _tissue_sample(scan: Scan, resolution: float) -> Tensor:
    """Up to about 200,000 values of a scan after a blur of one resolution."""
    widths = sigmas(scan.spacing, resolution, min(scan.spacing))
    values = local_mean(scan.values, scan.valid.float(), widths)[scan.valid]
    return values[:: max(1, len(values) // 200_000)].contiguous()


def tissue_scheme(scan: Scan, unit: str) -> TissueScheme:
    """The tissues of a scan: by Hounsfield units for "HU", three Otsu classes for other units."""
    if unit == HU:
        return HOUNSFIELD
    return otsu_scheme([tissue_values(scan)])


def measure_scan_noise(
    scan: Scan,
    scheme: TissueScheme,
    resolution: float,
) -> dict[int, NoiseCovariance]:
    """Measure the noise by tissue on the slabs of a scan.

    Args:
        scan: the scan.
        scheme: its tissues.
        resolution: mm, see `Look.measure`.
    """
    scan = scan.slabs()
    tissues = TissueMap(scan, scheme, resolution)
    return measure_noise(scan, tissues, resolution)


def transferable_noise(
    noise: Mapping[int, NoiseCovariance], scheme: TissueScheme
) -> dict[int, NoiseCovariance]:
    """The noise of the tissues whose fine structures cannot be mistaken for noise."""
    return {tissue: part for tissue, part in noise.items() if tissue not in scheme.structured}


@dataclass(frozen=True)
class Likeness:
    """How far a style shows the anatomy of a scan.

    Args:
        reason: why its edges tell nothing about the sharpness of the scan, "" if they may.
        same: it shows the anatomy of the scan, so a filter explains a change of thin structures.
        noise: its coarse noise can be told from anatomy.
        filters: amounts of the filters that give the scan its sharpness, by axis.
    """

    reason: str = ""
    same: bool = False
    noise: bool = False
    filters: Mapping[int, float] = dataclasses.field(default_factory=dict)


def measure_likeness(scan: Scan, look: Look, scheme: TissueScheme, resolution: float) -> Likeness:
    """Compare the anatomy and the sharpness of a style with those of a scan.

    In CT, large parts of soft tissue are flat, so coarse noise is compared where sharpness is. In
    other scans it is compared only where the anatomy is the same: the shares of tissues are, and
    the slopes of edges are, too, or would be after a filter.

    Args:
        scan: the scan.
        look: look of the style, in the scan's unit.
        scheme: tissues of the scan.
        resolution: mm, see `Look.measure`.
    """
    if look.edges is None:
        return Likeness("it is a phantom", noise=True)
    finest = min(scan.spacing)
    if not 1 / _VOXEL_RATIO <= look.spacing / finest <= _VOXEL_RATIO:
        return Likeness(
            f"its voxels have {look.spacing:.3g} mm and those of the scan {finest:.3g} mm"
        )
    excess = look.distance(scan, scheme, resolution)
    distance = float(excess.abs().sum()) / 2
    if distance <= _BODY_DISTANCE:
        same = distance <= _BLURRED_DISTANCE
        filters = find_filters(scan.slabs(), look.edges, resolution, same=same)
        alike = distance <= _SAME_DISTANCE and filters is not None
        return Likeness("", same, alike or not scheme.uniform, filters or {})
    tissue = int(excess.abs().argmax())
    share = (
        f"{100 * abs(float(excess[tissue])):.0f} % {'more' if excess[tissue] > 0 else 'less'} of it"
        f" are {scheme.names[tissue]}"
    )
    return Likeness(f"it shows other anatomy: {share}")


def blend_filters(likeness: Sequence[Likeness], weights: Sequence[float]) -> dict[int, float]:
    """Average the amounts of the styles' filters by axis, with the weight of each style."""
    amounts = dict[int, float]()
    for part, weight in zip(likeness, weights, strict=True):
        for axis, amount in part.filters.items():
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
        if pairs:
            total = sum(weight for _, weight in pairs)
            blended = torch.stack([values * (weight / total) for values, weight in pairs]).sum(0)
            powers = [
                (style[tissue].powers, w)
                for style, w in zip(styles, weights, strict=True)
                if tissue in style
            ]
            targets[tissue] = dataclasses.replace(own, values=blended, powers=_blend(powers))
    return targets


def _blend(parts: Sequence[tuple[Mapping[int, NoisePower], float]]) -> dict[int, NoisePower]:
    """Average the power of noises with their weights, for tissues in which all were measured."""
    total, blended = sum(weight for _, weight in parts), dict[int, NoisePower]()
    for tissue in set.intersection(*(set(powers) for powers, _ in parts)):
        shares = [powers[tissue].scaled(weight / total) for powers, weight in parts]
        blended[tissue] = functools.reduce(NoisePower.plus, shares)
    return blended


def moderate_noise(
    scan: Mapping[int, NoiseCovariance], targets: Mapping[int, NoiseCovariance], unit: str
) -> dict[int, NoiseCovariance]:
    """Limit the noise that a built-in style adds to a scan.

    In HU, noise is added up to 10 HU, that of a standard dose. A louder tissue keeps its own noise.
    In other units there is no upper limit, since the built-in style has a noise of 3 % of the
    signal.

    Args:
        scan: noise of the scan by tissue.
        targets: noise of the styles by tissue, see `blend_noise`.
        unit: "HU", or "" for other units.
    """
    moderate = {}
    for tissue, target in targets.items():
        own, variance = scan[tissue], target.variance
        highest = _QUIET_HU**2 if unit == HU else math.inf
        if own.variance >= highest:
            moderate[tissue] = own
        elif variance > 0:
            aim = min(max(variance, own.variance / 2), highest)
            moderate[tissue] = target.scaled(aim / variance)
        else:
            moderate[tissue] = target
    return moderate
