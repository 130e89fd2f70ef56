"""The look of a scan: the noise of its tissues, and how looks of several styles are combined."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from convnd_tasks.modalities.volumes.geometry import HOUNSFIELD
from convnd_tasks.modalities.volumes.noise_power import NoisePower, measure_noise
from convnd_tasks.modalities.volumes.paired import Pair
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.tissues import (
    CT_TISSUES,
    TissueMap,
    TissueScheme,
    otsu_scheme,
    tissue_values,
)

__all__ = [
    "Look",
    "blend_filters",
    "blend_noise",
    "measure_scan_noise",
    "moderate_noise",
    "tissue_scheme",
]

_QUIET_HU = 10.0  # noise at a standard dose; a built-in style adds no more
_ROSE = 5.0  # contrast-to-noise ratio at which something can be seen with certainty


@dataclass(frozen=True)
class Look:
    """A style and its noise.

    Args:
        scan: the style, in the scan's unit.
        unit: "HU", or "" for other units.
        resolution: mm; the coarsest, over the compared scans, of their finest voxel sides.
        phantom: the style is a phantom, whose flat tissues show nothing but noise.
    """

    scan: Scan
    unit: str
    resolution: float
    phantom: bool = False

    @cached_property
    def noise(self) -> Mapping[int, NoisePower]:
        """Power of the noise by tissue, for tissues that are measured and are not structured."""
        scheme = tissue_scheme(self.scan, self.unit).without_structured()
        return measure_scan_noise(self.scan, scheme, self.resolution)


def tissue_scheme(scan: Scan, unit: str) -> TissueScheme:
    """The tissues of a scan: by Hounsfield units for "HU", three Otsu classes for other units."""
    if unit == HOUNSFIELD:
        return CT_TISSUES
    return otsu_scheme([tissue_values(scan)])


def measure_scan_noise(
    scan: Scan, scheme: TissueScheme, resolution: float
) -> dict[int, NoisePower]:
    """Measure the noise by tissue on the slabs of a scan.

    Args:
        scan: the scan.
        scheme: its tissues.
        resolution: mm; the coarsest, over the compared scans, of their finest voxel sides.
    """
    scan = scan.slabs()
    tissues = TissueMap(scan, scheme, resolution)
    return measure_noise(scan, tissues, resolution)


def blend_filters(pairs: Sequence[Pair | None], weights: Sequence[float]) -> dict[int, float]:
    """Average the amounts of the filters of pairs by axis, with the weight of each style."""
    amounts = dict[int, float]()
    for pair, weight in zip(pairs, weights, strict=True):
        for axis, amount in (pair.filters if pair else {}).items():
            amounts[axis] = amounts.get(axis, 0.0) + amount * weight / sum(weights)
    return amounts


def blend_noise(
    scan: Mapping[int, NoisePower],
    styles: Sequence[Mapping[int, NoisePower]],
    weights: Sequence[float],
) -> dict[int, NoisePower]:
    """Average the noise of styles.

    Args:
        scan: noise of the scan by tissue.
        styles: noise of each style by tissue.
        weights: weight of each style.

    Returns:
        The target of the noise by tissue, for tissues of the scan that some style has.
    """
    targets = {}
    for tissue, own in scan.items():
        parts = [
            (style[tissue].bands, weight)
            for style, weight in zip(styles, weights, strict=True)
            if tissue in style
        ]
        if parts:
            total = sum(weight for _, weight in parts)
            bands = torch.stack([bands * (weight / total) for bands, weight in parts]).sum(0)
            targets[tissue] = dataclasses.replace(own, bands=bands)
    return targets


def moderate_noise(
    scan: Mapping[int, NoisePower], targets: Mapping[int, NoisePower], scheme: TissueScheme
) -> dict[int, NoisePower]:
    """Limit the noise that a built-in style adds to a scan.

    In HU, noise is added up to 10 HU, that of a standard dose. In other units the style has a noise
    of 3 % of the signal; it is added up to a fifth of the distance between the thresholds of three
    tissues, so that tissues of little contrast can still be told apart (Rose, 1948). A louder
    tissue keeps its own noise.

    Args:
        scan: noise of the scan by tissue.
        targets: noise of a built-in style by tissue.
        scheme: tissues of the scan.
    """
    loudest = _QUIET_HU if scheme.unit else (scheme.limits[1] - scheme.limits[0]) / _ROSE
    highest = loudest**2
    return {
        tissue: scan[tissue]
        if scan[tissue].variance >= highest
        else target.scaled(min(1.0, highest / max(target.variance, 1e-30)))
        for tissue, target in targets.items()
        if tissue in scan
    }
