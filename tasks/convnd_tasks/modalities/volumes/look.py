"""The look of a scan: the sharpness of its edges and the noise of its tissues."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from convnd_tasks.modalities.volumes.geometry import HOUNSFIELD as HU
from convnd_tasks.modalities.volumes.noise_power import NoisePower, measure_noise
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.sharpness import (
    Edges,
    apply_filters,
    find_filters,
    measure_edges,
)
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
# Half the sum of the magnitudes of the differences between shares of tissues. The anatomy of a scan
# with other noise and the scan's sharpness has 0.05 at most.
_SAME_DISTANCE = 0.05


@dataclass(frozen=True)
class Look:
    """The noise and sharpness of a scan.

    Args:
        noise: power of the noise by tissue, for tissues whose noise could be measured.
        edges: its edges, None for a phantom, whose edges are ideal and whose flat tissues show
            nothing but noise.
        values: values of the scan after a small blur, as many as show the shares of its tissues.
    """

    noise: Mapping[int, NoisePower]
    edges: Edges | None
    values: Tensor

    @classmethod
    def measure(cls, scan: Scan, unit: str, resolution: float, *, phantom: bool = False) -> Look:
        """Measure the look of a scan.

        Args:
            scan: the scan.
            unit: "HU", or "" for other units.
            resolution: mm; the coarsest, over the compared scans, of their finest voxel sides.
            phantom: the scan is a phantom.
        """
        noise = measure_scan_noise(scan, tissue_scheme(scan, unit), resolution)
        edges = None if phantom else measure_edges(scan.slabs(), resolution)
        return cls(noise, edges, tissue_values(scan, resolution))


def tissue_scheme(scan: Scan, unit: str) -> TissueScheme:
    """The tissues of a scan: by Hounsfield units for "HU", three Otsu classes for other units."""
    if unit == HU:
        return HOUNSFIELD
    return otsu_scheme([tissue_values(scan, min(scan.spacing))])


def measure_scan_noise(
    scan: Scan,
    scheme: TissueScheme,
    resolution: float,
) -> dict[int, NoisePower]:
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
    noise: Mapping[int, NoisePower], scheme: TissueScheme
) -> dict[int, NoisePower]:
    """The noise of the tissues whose fine structures cannot be mistaken for noise."""
    return {tissue: part for tissue, part in noise.items() if tissue not in scheme.structured}


class Likeness(NamedTuple):
    """Why a style does not show the anatomy of a scan, "" if it does; filters for its sharpness."""

    reason: str = ""
    filters: Mapping[int, float] = MappingProxyType({})


def measure_likeness(scan: Scan, look: Look, scheme: TissueScheme, resolution: float) -> Likeness:
    """Compare the anatomy and the sharpness of a style with those of a scan.

    A style shows the anatomy of a scan if a filter explains how their edges differ, and the scan
    has the style's shares of tissues behind that filter. Only then its sharpness counts.

    Args:
        scan: the scan.
        look: look of the style, in the scan's unit.
        scheme: tissues of the scan.
        resolution: mm, see `Look.measure`.
    """
    if look.edges is None:
        return Likeness("it is a phantom")
    filters = find_filters(scan.slabs(), look.edges, resolution)
    if filters is None:
        return Likeness("no filter explains how its edges differ")
    filtered = tissue_values(apply_filters(scan, filters, resolution), resolution)
    own, style = (
        torch.bincount(torch.bucketize(values, values.new_tensor(scheme.limits)), minlength=5)
        / max(1, len(values))
        for values in (filtered, look.values)
    )
    excess = style - own
    if float(excess.abs().sum()) / 2 <= _SAME_DISTANCE:
        return Likeness("", filters)
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
            (style[tissue].powers, weight)
            for style, weight in zip(styles, weights, strict=True)
            if tissue in style
        ]
        if parts:
            total = sum(weight for _, weight in parts)
            powers = torch.stack([powers * (weight / total) for powers, weight in parts]).sum(0)
            targets[tissue] = dataclasses.replace(own, powers=powers)
    return targets


def moderate_noise(
    scan: Mapping[int, NoisePower], targets: Mapping[int, NoisePower], scheme: TissueScheme
) -> dict[int, NoisePower]:
    """Limit the noise that a built-in style adds to a scan.

    In HU, noise is added up to 10 HU, that of a standard dose. A louder tissue keeps its own noise.
    In other units there is no upper limit, since the built-in style has a noise of 3 % of the
    signal.

    Args:
        scan: noise of the scan by tissue.
        targets: noise of the styles by tissue, see `blend_noise`.
        scheme: tissues of the scan.
    """
    highest = _QUIET_HU**2 if scheme.unit else math.inf
    return {
        tissue: scan[tissue]
        if scan[tissue].variance >= highest
        else target.scaled(min(1.0, highest / max(target.variance, 1e-30)))
        for tissue, target in targets.items()
    }
