"""Measures of a scan's look: means and noise of tissues, edges, and safety of the anatomy."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
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
from convnd_tasks.modalities.volumes.tissues import TissueMap, TissueScheme

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
        scheme: its tissues.
        noise: power of the noise by tissue, for tissues with enough voxels.
        resolution: mm; the coarsest, over the compared scans, of their finest voxel sides.
    """

    scan: Scan
    scheme: TissueScheme
    noise: Mapping[int, NoisePower]
    resolution: float

    @classmethod
    def measure(cls, scan: Scan, unit: str, resolution: float) -> MeasuredScan:
        """Measure a scan.

        Args:
            scan: the scan.
            unit: "HU", or "" for other units.
            resolution: mm, see `MeasuredScan`.
        """
        scheme = tissue_scheme(scan, unit)
        return cls(scan, scheme, measure_scan_noise(scan, scheme, resolution), resolution)

    def tissues(self, scan: Scan | None = None) -> TissueMap:
        """The tissue of every voxel.

        Args:
            scan: a part of the scan, None for the whole.
        """
        return TissueMap(self.scan if scan is None else scan, self.scheme, self.resolution)

    def noise_of_result(self, result: Tensor) -> dict[int, NoisePower]:
        """Measure the noise of a result ``(D, H, W)`` in the tissues of the scan."""
        changed = self.scan.with_values(result).slabs()
        return measure_noise(changed, self.tissues(self.scan.slabs()), self.resolution)


def compare_tissues(
    before: MeasuredScan,
    labels: TissueMap,
    result: Tensor,
    after: Mapping[int, NoisePower],
    unit: str,
) -> list[Measure]:
    r"""Measure the mean of each tissue, and the contrast-to-noise ratio of neighbouring tissues.

    The ratio of two tissues with means :math:`m` and standard deviations :math:`s` of their noise
    is :math:`|m_1 - m_2| / \sqrt{(s_1^2 + s_2^2) / 2}` (Bushberg et al., The Essential Physics of
    Medical Imaging, 2012).

    Args:
        before: the scan.
        labels: tissues of the scan.
        result: ``(D, H, W)``.
        after: noise of the result by tissue.
        unit: unit of the values.
    """
    means: dict[int, tuple[float, float]] = {}
    measures = []
    names = before.scheme.names
    for number, name in enumerate(names):
        mask = labels.core(number)
        if int(mask.sum()) >= _FEWEST:
            first, second = float(before.scan.values[mask].mean()), float(result[mask].mean())
            means[number] = (first, second)
            measures.append(
                Measure(
                    f"mean_{_slug(name)}",
                    second,
                    before=first,
                    unit=unit,
                    meaning=f"mean of {name} tissue, without its border",
                )
            )
    pairs = [number for number in means if number in before.noise]
    for number, other in itertools.pairwise(pairs):
        ratios = []
        for index, noise in enumerate((before.noise, after)):
            deviation = math.sqrt((noise[number].variance + noise[other].variance) / 2)
            contrast = abs(means[number][index] - means[other][index])
            ratios.append(contrast / deviation if deviation > 0 else math.inf)
        measures.append(
            Measure(
                f"cnr_{_slug(names[number])}_{_slug(names[other])}",
                ratios[1],
                before=ratios[0],
                meaning=f"contrast-to-noise ratio between {names[number]} and {names[other]}",
            )
        )
    return measures


def compare_noise(
    before: MeasuredScan,
    after: Mapping[int, NoisePower],
    styles: Sequence[MeasuredScan],
    unit: str,
) -> list[Measure]:
    """Measure strength, mean frequency and spectrum distance of the noise of each tissue.

    The mean frequency of the spectrum is that of report 233 of the American Association of
    Physicists in Medicine (2019).

    Args:
        before: the scan.
        after: noise of the result by tissue.
        styles: the styles; the mean of their noise is the reference.
        unit: unit of the values.
    """
    targets = blend_noise(before.noise, [style.noise for style in styles], [1.0] * len(styles))
    measures = []
    uniform = before.scheme.uniform
    for number in list(before.noise)[:1] if uniform else before.noise:
        first, last, target = before.noise[number], after[number], targets.get(number)
        suffix = "" if uniform else "_" + _slug(before.scheme.names[number])
        location = "" if uniform else f" in {before.scheme.names[number]} tissue"
        measures.append(
            Measure(
                f"noise{suffix}",
                last.deviation,
                before=first.deviation,
                style=None if target is None else target.deviation,
                unit=unit,
                meaning=f"standard deviation of the noise{location}",
            )
        )
        measures.append(
            Measure(
                f"noise_frequency{suffix}",
                last.mean_frequency / before.resolution,
                before=first.mean_frequency / before.resolution,
                style=None if target is None else target.mean_frequency / before.resolution,
                unit="1/mm",
                meaning=f"mean frequency of the noise{location}",
            )
        )
        compared, against = (first, "scan") if target is None else (target, "style")
        measures.append(
            Measure(
                f"noise_distance{suffix}",
                last.distance(compared),
                before=None if target is None else first.distance(compared),
                better="lower" if target is not None else "",
                against="content" if target is None else "style",
                meaning=f"relative distance of the noise spectrum{location} from the {against}'s",
            )
        )
    return measures


def compare_edges(
    before: MeasuredScan, result: Tensor, styles: Sequence[MeasuredScan]
) -> list[Measure]:
    """Measure the width of the strongest edges along each axis, see `edge_widths`.

    Args:
        before: the scan.
        result: ``(D, H, W)``.
        styles: the styles; the first is the reference.
    """
    first, second = (
        edge_widths(scan, before.resolution)
        for scan in (before.scan, before.scan.with_values(result))
    )
    third = edge_widths(styles[0].scan, before.resolution) if styles else {}
    return [
        Measure(
            f"edge_width_{DIRECTIONS[axis]}",
            second.get(axis, math.nan),
            before=width,
            style=third.get(axis),
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
    before: MeasuredScan,
    result: Tensor,
    after: Mapping[int, NoisePower],
    styles: Sequence[MeasuredScan],
) -> list[SafetyFigure]:
    """Measure the safety figures of a transfer, without any allowance for a change of sharpness.

    Args:
        before: the scan.
        result: ``(D, H, W)``.
        after: noise of the result by tissue.
        styles: the styles; their noise explains a part of the changes.
    """
    zero = torch.zeros(1, 1, 1)
    changes = {}
    for number, noise in before.noise.items():
        others = [
            after[number],
            *(style.noise[number] for style in styles if number in style.noise),
        ]
        largest = max(other.deviation for other in others)
        changes[number] = NoiseChange(zero, zero, 0.0, noise.deviation, largest)
    return measure_safety(
        before.scan, before.scan.values, result, changes, before.scheme, before.resolution
    )


def compare_anatomy(
    before: MeasuredScan,
    result: Tensor,
    after: Mapping[int, NoisePower],
    styles: Sequence[MeasuredScan],
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
        for figure in anatomy_figures(before, result, after, styles)
        if not figure.name.startswith("mean change")  # `compare_tissues` measures the means
    ]


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
