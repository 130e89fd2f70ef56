"""Measures of a scan's look: tissues and their noise, edges, and figures of the anatomy."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd_tasks.modalities.metrics import Measure
from convnd_tasks.modalities.volumes.look import Scan, blend_noise, noise_of, scheme_of
from convnd_tasks.modalities.volumes.noise_change import NoiseChange
from convnd_tasks.modalities.volumes.noise_covariance import (
    NoiseCovariance,
    measure_noise_again,
    power_spectrum,
)
from convnd_tasks.modalities.volumes.safety import measure_safety
from convnd_tasks.modalities.volumes.sharpness import EDGE_SIGMAS, measure_edges
from convnd_tasks.modalities.volumes.smoothing import sigmas
from convnd_tasks.modalities.volumes.tissues import WHOLE, Scheme, TissueMap

__all__ = ["Look", "anatomy", "edge_widths", "edges", "noise_distance", "noises", "tissues"]

_FEWEST = 500  # voxels of a tissue whose mean counts
_AXES = ("head", "front", "right")


@dataclass(frozen=True)
class Look:
    """What is measured of a scan before it is compared.

    Args:
        scan: the scan.
        scheme: its tissues.
        noise: of each tissue that has enough flat places.
        resolution: mm; of scans that are compared the coarser one's finest voxel side.
    """

    scan: Scan
    scheme: Scheme
    noise: Mapping[int, NoiseCovariance]
    resolution: float

    @classmethod
    def of(cls, scan: Scan, unit: str, resolution: float) -> Look:
        """Measure a scan; the noise of one without flat tissue is that of the whole."""
        scheme = scheme_of(scan, unit)
        noise = noise_of(scan, scheme, resolution)
        if not noise:
            scheme = WHOLE
            noise = noise_of(scan, scheme, resolution)
        return cls(scan, scheme, noise, resolution)

    def tissues(self, scan: Scan | None = None) -> TissueMap:
        """The tissue of every voxel of the scan, or of a part of it."""
        part = self.scan if scan is None else scan
        return TissueMap(part.values, part.spacing, part.valid, self.scheme, self.resolution)

    def noise_of_result(self, result: Tensor) -> dict[int, NoiseCovariance]:
        """The noise of a result, at the places where that of the scan was measured."""
        part, changed = self.scan.sample(), self.scan.with_values(result).sample()
        tissues = self.tissues(part)
        return measure_noise_again(changed.values, self.noise, tissues, self.resolution)


def tissues(
    before: Look, labels: TissueMap, result: Tensor, after: Mapping[int, NoiseCovariance], unit: str
) -> list[Measure]:
    r"""The mean of each tissue, and the contrast-to-noise ratio between neighbouring ones.

    The ratio of two tissues is :math:`|m_1 - m_2| / \sqrt{(s_1^2 + s_2^2) / 2}`, with their means
    and the standard deviations of their noise (Bushberg et al., The Essential Physics of Medical
    Imaging, 2012).

    Args:
        before: the look of the scan.
        labels: tissues of the scan.
        result: of the scan's shape.
        after: noise of the result.
        unit: of the values.
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
                    meaning=f"mean of {_tissue(name)}, without its border",
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


def noises(
    before: Look, after: Mapping[int, NoiseCovariance], styles: Sequence[Look], unit: str
) -> list[Measure]:
    """Strength, mean frequency and spectrum of the noise of each tissue.

    The spectrum is the Fourier transform of the covariance, see
    `convnd_tasks.modalities.volumes.noise_covariance`. Its mean frequency is that of report 233 of
    the American Association of Physicists in Medicine (2019).

    Args:
        before: the look of the scan.
        after: noise of the result.
        styles: the mean of their noise is compared.
        unit: of the values.
    """
    targets = blend_noise(before.noise, [style.noise for style in styles], [1.0] * len(styles))
    measures = []
    alone = before.scheme.uniform  # one noise for all tissues
    for number in list(before.noise)[:1] if alone else before.noise:
        first, last, target = before.noise[number], after[number], targets.get(number)
        suffix = "" if alone else "_" + _slug(before.scheme.names[number])
        place = "" if alone else f" in {_tissue(before.scheme.names[number])}"
        measures.append(
            Measure(
                f"noise{suffix}",
                last.deviation,
                before=first.deviation,
                style=None if target is None else target.deviation,
                unit=unit,
                meaning=f"standard deviation of the noise{place}",
            )
        )
        measures.append(
            Measure(
                f"noise_frequency{suffix}",
                _mean_frequency(last),
                before=_mean_frequency(first),
                style=None if target is None else _mean_frequency(target),
                unit="1/mm",
                meaning=f"mean frequency of the noise{place}",
            )
        )
        compared, against = (first, "content") if target is None else (target, "style")
        measures.append(
            Measure(
                f"noise_distance{suffix}",
                noise_distance(last, compared),
                before=None if target is None else noise_distance(first, compared),
                better="lower" if target is not None else "",
                against=against,
                meaning=f"noise power{place} at another frequency than the {_role(against)}'s, "
                "as a share",
            )
        )
    return measures


def noise_distance(one: NoiseCovariance, other: NoiseCovariance) -> float:
    r"""Distance of two power spectra of noise, relative to the second.

    .. math:: \sum_f |P_1(f) - P_2(f)| \Big/ \sum_f P_2(f)

    Args:
        one: at the lags of the other.
        other: above 0.
    """
    first, second = power_spectrum(one.values), power_spectrum(other.values)
    total = float(second.sum())
    difference = float((first - second).abs().sum())
    return difference / total if total > 0 else (math.inf if difference > 0 else 0.0)


def edges(before: Look, result: Tensor, styles: Sequence[Look]) -> list[Measure]:
    """The width of the strongest edges along each axis, see `edge_widths`."""
    first, second = (
        edge_widths(scan, before.resolution)
        for scan in (before.scan, before.scan.with_values(result))
    )
    third = edge_widths(styles[0].scan, before.resolution) if styles else {}
    return [
        Measure(
            f"edge_width_{_AXES[axis]}",
            second.get(axis, math.nan),
            before=width,
            style=third.get(axis),
            unit="mm",
            meaning=f"width of the strongest edges towards {_AXES[axis]}: sigma of a Gaussian",
        )
        for axis, width in first.items()
    ]


def edge_widths(scan: Scan, resolution: float) -> dict[int, float]:
    r"""The edge response of a scan along each axis that is fine enough.

    A step that is blurred by a Gaussian of :math:`s` has the slopes :math:`a / \sqrt{n^2 + s^2}`
    and :math:`a / \sqrt{w^2 + s^2}` behind a narrow and a wide derivative of a Gaussian. With
    the ratio Q of both at the strongest edges, which noise hardly changes
    (`convnd_tasks.modalities.volumes.sharpness`), :math:`s^2 = (w^2 - Q^2 n^2) / (Q^2 - 1)`.
    Edges of anatomy are no ideal steps, so the width contains their own; what can be compared is
    one scan before and after a change.

    Args:
        scan: the scan; of a tall one three slabs count.
        resolution: mm, see `Look`.

    Returns:
        mm by axis, none where there are too few edges.
    """
    part = scan.sample()
    narrow, wide = (sigma * resolution for sigma in EDGE_SIGMAS)
    widths = {}
    edges, _ = measure_edges(part.values, part.spacing, part.valid, resolution, pooled=False)
    for axis, profiles in edges.items():
        square = profiles.sharpness() ** 2
        if square > 1:
            widths[axis] = math.sqrt(max(0.0, (wide**2 - square * narrow**2) / (square - 1)))
    return widths


def anatomy(
    before: Look,
    result: Tensor,
    after: Mapping[int, NoiseCovariance],
    styles: Sequence[Look],
    unit: str,
) -> list[Measure]:
    """The figures that a transfer judges its result by, with the scan itself as what is expected.

    A style of another sharpness changes thin structures; a transfer allows for it, and this does
    not.
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
    figures = measure_safety(
        before.scan, before.scan.values, result, before.scheme, changes, before.resolution, unit
    )
    return [
        Measure(
            _slug(figure.name),
            figure.value,
            unit=figure.unit,
            against="content",
            meaning=f"{figure.name}, as a transfer judges its result",
        )
        for figure in figures
        if not figure.name.startswith("mean change")  # the means themselves are measured
    ]


def _mean_frequency(noise: NoiseCovariance) -> float:
    """Mean frequency of the power, per mm, along the axes with fine voxels."""
    power = power_spectrum(noise.values)
    square = torch.zeros_like(power)
    for axis, width in enumerate(sigmas(noise.spacing, 1.0, min(noise.spacing))):
        if width > 0:
            frequency = torch.fft.fftfreq(
                power.shape[axis], noise.spacing[axis], dtype=torch.float64
            )
            square += frequency.square().view([-1 if other == axis else 1 for other in range(3)])
    total = float(power.sum())
    return float((square.sqrt() * power).sum()) / total if total > 0 else math.nan


def _role(against: str) -> str:
    return "scan" if against == "content" else against


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _tissue(name: str) -> str:
    return name if name.startswith("the ") else f"{name} tissue"
