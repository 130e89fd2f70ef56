"""Measures of a scan's look: means and noise of tissues, edges, and safety of the anatomy."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convnd_tasks.modalities.metrics import Measure
from convnd_tasks.modalities.volumes.look import blend_noise, measure_scan_noise, tissue_scheme
from convnd_tasks.modalities.volumes.noise_change import NoiseChange
from convnd_tasks.modalities.volumes.noise_power import NoisePower, measure_noise
from convnd_tasks.modalities.volumes.orientation import DIRECTIONS
from convnd_tasks.modalities.volumes.safety import measure_safety
from convnd_tasks.modalities.volumes.safety_figure import SafetyFigure
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.sharpness import EDGE_SIGMAS, edge_sharpness
from convnd_tasks.modalities.volumes.tissues import TissueMap

__all__ = [
    "MeasuredScan",
    "anatomy_figures",
    "compare_anatomy",
    "compare_edges",
    "compare_noise",
    "compare_tissues",
    "edge_widths",
]

_FEWEST = 500  # voxels of a tissue whose mean is measured


@dataclass(frozen=True)
class MeasuredScan:
    """A scan with its tissues and their noise.

    Args:
        scan: the scan.
        tissues: its tissues; of a result, those of the scan before the change.
        noise: power of the noise by tissue, for tissues with enough voxels.
        resolution: mm; the coarsest, over the compared scans, of their finest voxel sides.
        unit: unit of the values, "" for none.
    """

    scan: Scan
    tissues: TissueMap
    noise: Mapping[int, NoisePower]
    resolution: float
    unit: str

    @classmethod
    def measure(cls, scan: Scan, unit: str, resolution: float) -> MeasuredScan:
        """Measure a scan.

        Args:
            scan: the scan.
            unit: unit of its values; "HU" has tissues of its own.
            resolution: mm, see `MeasuredScan`.
        """
        scheme = tissue_scheme(scan, unit)
        tissues = TissueMap(scan, scheme, resolution)
        noise = measure_scan_noise(scan, scheme, resolution)
        return cls(scan, tissues, noise, resolution, unit)

    def changed(self, values: Tensor) -> MeasuredScan:
        """Measure a result ``(D, H, W)`` of this scan in the same tissues."""
        scan = self.scan.with_values(values)
        tissues = TissueMap(self.scan.slabs(), self.tissues.scheme, self.resolution)
        noise = measure_noise(scan.slabs(), tissues, self.resolution, before=self.noise)
        return dataclasses.replace(self, scan=scan, noise=noise)

    def body(self) -> NDArray[Any]:
        """The voxels ``(D, H, W)`` of the patient, bool."""
        return np.asarray(self.tissues.labels > 0)


def compare_tissues(before: MeasuredScan, after: MeasuredScan) -> list[Measure]:
    r"""Measure the mean of each tissue, and the contrast-to-noise ratio of neighbouring tissues.

    The ratio of two tissues with means :math:`m` and standard deviations :math:`s` of their noise
    is :math:`|m_1 - m_2| / \sqrt{(s_1^2 + s_2^2) / 2}` (Bushberg et al., The Essential Physics of
    Medical Imaging, 2012).

    Args:
        before: the scan.
        after: the result.
    """
    means: dict[int, tuple[float, ...]] = {}
    measures = []
    names = before.tissues.scheme.names
    for number, name in enumerate(names):
        mask = before.tissues.core(number)
        if int(mask.sum()) < _FEWEST:
            continue
        means[number] = tuple(float(part.scan.values[mask].mean()) for part in (before, after))
        first, last = means[number]
        meaning = f"mean of {name} tissue, without its border"
        measures.append(
            Measure(f"mean_{_slug(name)}", last, before=first, unit=before.unit, meaning=meaning)
        )
    pairs = [number for number in means if number in before.noise]
    for number, other in itertools.pairwise(pairs):
        ratios = []
        for index, noise in enumerate((before.noise, after.noise)):
            deviation = math.sqrt((noise[number].variance + noise[other].variance) / 2)
            contrast = abs(means[number][index] - means[other][index])
            ratios.append(contrast / deviation if deviation > 0 else math.inf)
        name = f"cnr_{_slug(names[number])}_{_slug(names[other])}"
        meaning = f"contrast-to-noise ratio between {names[number]} and {names[other]}"
        measures.append(Measure(name, ratios[1], before=ratios[0], meaning=meaning))
    return measures


def compare_noise(
    before: MeasuredScan, after: MeasuredScan, style: MeasuredScan | None
) -> list[Measure]:
    """Measure strength, mean frequency and spectrum distance of the noise of each tissue.

    The mean frequency of the spectrum is that of report 233 of the American Association of
    Physicists in Medicine (2019).

    Args:
        before: the scan.
        after: the result.
        style: the style, whose noise is the reference; None compares with the scan.
    """
    targets = blend_noise(before.noise, [style.noise], [1.0]) if style else {}
    scheme, unit, measures = before.tissues.scheme, before.unit, []
    for number in list(before.noise)[: 1 if scheme.uniform else None]:
        first, last, target = before.noise[number], after.noise[number], targets.get(number)
        suffix = "" if scheme.uniform else "_" + _slug(scheme.names[number])
        location = "" if scheme.uniform else f" in {scheme.names[number]} tissue"
        measures += [
            Measure(
                f"noise{suffix}",
                last.deviation,
                before=first.deviation,
                style=target.deviation if target else None,
                unit=unit,
                meaning=f"standard deviation of the noise{location}",
            ),
            Measure(
                f"noise_frequency{suffix}",
                last.mean_frequency / before.resolution,
                before=first.mean_frequency / before.resolution,
                style=target.mean_frequency / before.resolution if target else None,
                unit="1/mm",
                meaning=f"mean frequency of the noise{location}",
            ),
            Measure(
                f"noise_distance{suffix}",
                last.distance(target or first),
                before=first.distance(target) if target else None,
                better="lower" if target else "",
                against="style" if target else "content",
                meaning=f"relative distance of the noise spectrum{location} from the "
                f"{'style' if target else 'scan'}'s",
            ),
        ]
    return measures


def compare_edges(
    before: MeasuredScan, after: MeasuredScan, style: MeasuredScan | None
) -> list[Measure]:
    """Measure the width of the strongest edges along each axis, see `edge_widths`.

    Args:
        before: the scan.
        after: the result.
        style: the style, which is the reference, or None.
    """
    first, last, reference = (
        edge_widths(part.scan, before.resolution) if part else {} for part in (before, after, style)
    )
    return [
        Measure(
            f"edge_width_{DIRECTIONS[axis]}",
            last.get(axis, math.nan),
            before=width,
            style=reference.get(axis),
            unit="mm",
            meaning=f"width of the strongest edges towards {DIRECTIONS[axis]}: sigma of a Gaussian",
        )
        for axis, width in first.items()
    ]


def edge_widths(scan: Scan, resolution: float) -> dict[int, float]:
    r"""Estimate the width of a scan's strongest edges, along each axis with fine enough voxels.

    Behind a narrow and a wide Gaussian, of widths :math:`n` and :math:`w`, a step of height a that
    is blurred by a Gaussian of width :math:`s` has the slopes :math:`a / \sqrt{n^2 + s^2}` and
    :math:`a / \sqrt{w^2 + s^2}`. From their ratio Q, which noise hardly changes
    (`convnd_tasks.modalities.volumes.sharpness`), :math:`s^2 = (w^2 - Q^2 n^2) / (Q^2 - 1)`. The
    difference over two voxels of side h, which takes the place of the derivative, adds
    :math:`h^2 / 3` to the variances. Edges of anatomy are not ideal steps, so s includes
    their own width: compare only results of one scan.

    Args:
        scan: the scan; a tall one is measured on three slabs.
        resolution: mm, see `MeasuredScan`.

    Returns:
        Standard deviation s in mm by axis, without axes that have too few edges.
    """
    narrow, wide = (sigma * resolution for sigma in EDGE_SIGMAS)
    variances = {
        axis: (wide**2 - ratio**2 * narrow**2) / (ratio**2 - 1) - scan.spacing[axis] ** 2 / 3
        for axis, ratio in edge_sharpness(scan.slabs(), resolution).items()
        if ratio > 1
    }
    return {axis: math.sqrt(max(0.0, variance)) for axis, variance in variances.items()}


def anatomy_figures(
    before: MeasuredScan, after: MeasuredScan, style: MeasuredScan | None = None
) -> list[SafetyFigure]:
    """Measure the safety figures of a transfer, without any allowance for a change of sharpness.

    Args:
        before: the scan.
        after: the result.
        style: the style; its noise explains a part of the changes.
    """
    zero = torch.zeros(1, 1, 1)
    changes = {}
    for number, noise in before.noise.items():
        noises = (after.noise, style.noise if style else {})
        largest = max(part[number].deviation for part in noises if number in part)
        changes[number] = NoiseChange(zero, zero, 0.0, noise.deviation, largest)
    scan, scheme = before.scan, before.tissues.scheme
    return measure_safety(scan, scan.values, after.scan.values, changes, scheme, before.resolution)


def compare_anatomy(
    before: MeasuredScan, after: MeasuredScan, style: MeasuredScan | None
) -> list[Measure]:
    """Return the `anatomy_figures` as measures; the arguments are the same."""
    return [
        Measure(
            _slug(figure.name),
            figure.value,
            unit=figure.unit,
            against="content",
            meaning=f"{figure.name}, a safety figure of stylize",
        )
        for figure in anatomy_figures(before, after, style)
        if not figure.name.startswith("mean change")  # `compare_tissues` measures the means
    ]


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
