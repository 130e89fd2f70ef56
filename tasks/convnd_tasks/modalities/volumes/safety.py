"""Safety figures: measures, with limits, of how a change of the look affects the anatomy.

Noise and sharpness are supposed to change. So a result is compared with the scan after the change
of its sharpness, and the limits allow for the noise of the style.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from convnd_tasks.modalities.volumes.noise_change import LARGEST_CHANGE, NoiseChange
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.smoothing import erode, gaussian, local_mean, sigmas
from convnd_tasks.modalities.volumes.tissues import (
    EMPHYSEMA,
    HOUNSFIELD,
    TissueMap,
    TissueScheme,
    otsu_limits,
)

__all__ = ["SafetyFigure", "describe_broken", "limit_means", "measure_safety"]

_FEWEST = 500  # voxels of a tissue that is measured
_MEAN_HU, _MEAN_SHARE = 2.0, 0.01  # limits of the change of a mean
_MARGIN = 0.9  # of a limit that is exceeded: a measure with other borders of tissues holds, too
_MEAN_DEPTH = 4  # voxels from other tissues; a change of sharpness mixes no tissues there
_CONTRAST = 0.1  # limit of the relative change of thin structures
# In medians of the magnitude. 98 % of normal noise are within 3.5; structures are stronger.
_STRUCTURE = 4.5
_DICE = 0.98  # limit of the overlap of segmentations
_LEAST_DICE = 0.95  # noise may lower that limit to this
_DICE_SCATTER = 0.005  # of the overlap that noise explains
_SEPARATION = 0.65  # share of the variance between two classes; that of normal noise is 2 / pi
_CHUNK = 1_000_000  # voxels that are processed at once
_LAA_POINTS = 1.0  # percentage points; limit of the change of dark lung
_BLOCK = 16  # voxels along each side
_SEGMENT_SIGMA = 1.5  # resolutions; the blur that removes noise before a segmentation


@dataclass(frozen=True)
class SafetyFigure:
    """One measured value and its limits.

    Args:
        name: name of the measure, for example "mean change of soft".
        value: the measured value.
        low: lowest safe value.
        high: highest safe value.
        unit: unit of the values, or "".
    """

    name: str
    value: float
    low: float
    high: float
    unit: str = ""

    @property
    def holds(self) -> bool:
        """Whether the value is within its limits, or beyond by no more than rounding explains."""
        tolerance = 1e-4
        return self.low * (1 - tolerance) <= self.value <= self.high * (1 + tolerance)

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        limits = (
            f"at most {self.high:.3g}"
            if self.low in (-math.inf, 0.0)
            else f"at least {self.low:.3g}"
            if self.high == math.inf
            else f"{self.low:.3g} to {self.high:.3g}"
        )
        return f"{self.name} {self.value:.3g}{unit} ({limits})"


def measure_safety(
    scan: Scan,
    expected: Tensor,
    result: Tensor,
    scheme: TissueScheme,
    changes: Mapping[int, NoiseChange],
    resolution: float,
    unit: str,
) -> list[SafetyFigure]:
    """Measure the safety figures of one frame.

    Args:
        scan: the frame before the change.
        expected: ``(D, H, W)``; the frame after the change of its sharpness only.
        result: ``(D, H, W)``; the frame after the whole change.
        scheme: tissues of the scan.
        changes: changes of the noise by tissue.
        resolution: mm; the coarsest, over the compared scans, of their finest voxel sides.
        unit: "HU", or "" for other units.

    Returns:
        The change of the mean of each tissue; the largest change of a voxel; the contrast of thin
        structures; the overlap of segmentations; in CT, the share of dark lung.
    """
    tissues = TissueMap(scan.with_values(expected), scheme, resolution)
    structures = _structures(scan, expected, result, resolution)
    return [
        *(
            SafetyFigure(f"mean change of {name}", abs(change), 0.0, limit, unit)
            for name, _, change, limit in _mean_changes(scan, result, scheme, resolution, unit)
        ),
        *_largest_changes(expected, result, tissues, changes),
        *structures,
        *_segmentation(
            scan, expected, result, tissues, changes, resolution, always=bool(structures)
        ),
        *(_dark_lung(scan, expected, result, tissues, changes) if scheme == HOUNSFIELD else []),
    ]


def describe_broken(figures: Sequence[SafetyFigure]) -> str:
    """Describe the figures outside their limits in a message; "" if all are safe."""
    return "; ".join(str(figure) for figure in figures if not figure.holds)


def limit_means(
    scan: Scan, result: Tensor, scheme: TissueScheme, resolution: float, unit: str
) -> Tensor:
    """Compute the smooth change that brings the means of tissues back within their limits.

    A filter moves the mean of a thin tissue, such as a ventricle, even far from its border.

    Args:
        scan: the frame before the change.
        result: ``(D, H, W)``; the frame after the change.
        scheme: tissues of the scan.
        resolution: mm, see `measure_safety`.
        unit: "HU", or "" for other units.

    Returns:
        ``(D, H, W)``, to subtract from the result; 0 if all means are within their limits.
    """
    excess = torch.zeros_like(result)
    widths = sigmas(scan.spacing, _MEAN_DEPTH / 2 * resolution, min(scan.spacing))
    for _, mask, change, limit in _mean_changes(scan, result, scheme, resolution, unit):
        if abs(change) > limit:
            weight = local_mean(mask.float(), scan.valid.float(), widths)
            beyond = change - math.copysign(_MARGIN * limit, change)
            excess += weight * (beyond / float(weight[mask].mean()))
    return excess


def _mean_changes(
    scan: Scan, result: Tensor, scheme: TissueScheme, resolution: float, unit: str
) -> list[tuple[str, Tensor, float, float]]:
    """The name of each tissue, its voxels far from other tissues, their change and its limit."""
    tissues = TissueMap(scan, scheme, resolution)
    cores = {name: tissues.core(n, _MEAN_DEPTH) for n, name in enumerate(scheme.names)}
    masks = {name: core for name, core in cores.items() if int(core.sum()) > _FEWEST}
    before = {name: float(scan.values[mask].mean()) for name, mask in masks.items()}
    highest = max((abs(mean) for mean in before.values()), default=0.0)
    changes = []
    for name, mask in masks.items():
        # A share of a mean near 0, as that of air, would be no meaningful limit.
        share = _MEAN_SHARE * max(abs(before[name]), highest / 2)
        limit = _MEAN_HU if unit == "HU" else share
        changes.append((name, mask, float((result[mask] - scan.values[mask]).mean()), limit))
    return changes


def _largest_changes(
    expected: Tensor, result: Tensor, tissues: TissueMap, changes: Mapping[int, NoiseChange]
) -> list[SafetyFigure]:
    """The largest change of a voxel, in standard deviations of its tissue's noise."""
    largest = 0.0
    for number, change in changes.items():
        mask = tissues.mask(number)
        deviation = max(change.scan, change.style)
        if bool(mask.any()) and deviation > 0:
            highest = float((result - expected)[mask].abs().max())
            largest = max(largest, highest / deviation)
    unit = "deviations of the noise"
    return [SafetyFigure("largest change", largest, 0.0, LARGEST_CHANGE, unit)]


def _structures(
    scan: Scan, expected: Tensor, result: Tensor, resolution: float
) -> list[SafetyFigure]:
    """The contrast of thin structures in the result over the expected one; empty without any.

    Thin structures are the strongest 2 % of a difference of Gaussians of 0.8 and 2.5 resolutions.
    """
    weight = scan.valid.float()
    fine, coarse = (sigmas(scan.spacing, s * resolution, min(scan.spacing)) for s in (0.8, 2.5))

    def ridges(values: Tensor) -> Tensor:
        return local_mean(values, weight, fine) - local_mean(values, weight, coarse)

    before = ridges(expected)
    deep = erode(scan.valid, [math.ceil(2 * width) for width in coarse])
    # Vessels in a background of exact zeros have few deep voxels, and those show only noise.
    for inner in (deep, scan.valid):
        strength = before.abs()[inner]
        if strength.numel() < _FEWEST:
            continue
        limit = float(strength.kthvalue(max(1, int(0.98 * strength.numel()))).values)
        if limit >= _STRUCTURE * float(strength.median()):
            break
    else:
        return []  # even the strongest ones are noise
    strongest = inner & (before.abs() >= limit)
    first, second = before[strongest].double(), ridges(result)[strongest].double()
    ratio = float((first * second).sum() / first.square().sum().clamp(min=1e-300))
    return [SafetyFigure("contrast of thin structures", ratio, 1 - _CONTRAST, 1 + _CONTRAST)]


def _segmentation(
    scan: Scan,
    expected: Tensor,
    result: Tensor,
    tissues: TissueMap,
    changes: Mapping[int, NoiseChange],
    resolution: float,
    *,
    always: bool,
) -> list[SafetyFigure]:
    """The mean Dice coefficient (1945) of two and of three Otsu classes, before and after.

    Added noise moves voxels across a threshold that lies within a tissue. If the overlap that is
    expected from this noise is below 0.98, it becomes the limit. Removed noise lowers no limit,
    since it may be anatomy.
    """
    weight = scan.valid.float()
    widths = sigmas(scan.spacing, _SEGMENT_SIGMA * resolution, min(scan.spacing))
    first, second = (
        local_mean(values, weight, widths)[scan.valid] for values in (expected, result)
    )
    if not first.numel() or not (always or _separation(first) > _SEPARATION):
        return []  # the classes separate only noise
    noise = first.new_full((len(tissues.scheme.names),), 1e-30)
    for number, change in changes.items():
        noise[number] += change.deviation_after(widths)
    labels = tissues.labels[scan.valid]
    # Beside the background, the blur averages fewer voxels, so more of their noise remains.
    total, narrow = gaussian(weight, widths), [width / math.sqrt(2) for width in widths]
    gains = (gaussian(weight, narrow).sqrt() / total.clamp(min=1e-4))[scan.valid]
    figures = []
    for classes, name in ((2, "two"), (3, "three")):
        limits = (-math.inf, *otsu_limits([first], classes), math.inf)
        # Volumes of each class: before, after, expected with noise; overlaps of the last two with
        # the first.
        sums = torch.zeros(5, classes, dtype=torch.float64)
        for part, other, numbers, gain in zip(
            *(field.split(_CHUNK) for field in (first, second, labels, gains)), strict=True
        ):
            deviation = noise[numbers.long()] * gain
            below = torch.zeros_like(part)
            for index, (low, high) in enumerate(itertools.pairwise(limits)):
                before, after = ((low <= values) & (values < high) for values in (part, other))
                above = torch.special.ndtr((high - part) / deviation)
                probability, below = above - below, above
                volumes = (before, after, probability, after & before, probability[before])
                sums[:, index] += torch.stack([v.sum(dtype=torch.float64) for v in volumes])
        dice = 2 * sums[3:] / (sums[0] + sums[1:3]).clamp(min=1.0)
        overlap, explained = dice.mean(1).tolist()
        limit = min(_DICE, max(_LEAST_DICE, explained - _DICE_SCATTER))
        figures.append(SafetyFigure(f"Dice of {name} classes", overlap, limit, math.inf))
    return figures


def _separation(values: Tensor) -> float:
    """The share of the variance that lies between Otsu's two classes."""
    upper = values >= otsu_limits([values], 2)[0]
    share = float(upper.float().mean())
    if share in (0.0, 1.0):
        return 0.0
    distance = float(values[upper].mean() - values[~upper].mean())
    return share * (1 - share) * distance**2 / max(float(values.var()), 1e-300)


def _dark_lung(
    scan: Scan,
    expected: Tensor,
    result: Tensor,
    tissues: TissueMap,
    changes: Mapping[int, NoiseChange],
) -> list[SafetyFigure]:
    """The share of the lungs below -950 HU beyond the share that added noise explains."""
    lung = HOUNSFIELD.names.index("lung")
    mask = tissues.mask(lung)
    if int(mask.sum()) < 20 * _FEWEST or lung not in changes:
        return []
    before, after = expected[mask], (result[mask] < EMPHYSEMA).float()
    explained = (before < EMPHYSEMA).float()
    if changes[lung].style >= changes[lung].scan:
        # The probability that normal noise lowers a voxel below the threshold.
        widths = sigmas(scan.spacing, _SEGMENT_SIGMA * 2 * min(scan.spacing), min(scan.spacing))
        variance = local_mean((result - expected).square(), mask.float(), widths)[mask]
        below = torch.special.ndtr((EMPHYSEMA - before) / variance.sqrt().clamp(min=1e-6))
        low = float(scan.values[scan.valid].min())
        # Noise is clipped to the distance from the end of the range, see `change_noise`.
        explained = torch.where(EMPHYSEMA - before > before - low, explained, below)
    beyond = after - explained
    points = float(beyond.mean())
    # The standard error, from the sums over blocks that are longer than noise correlates.
    field = torch.zeros_like(expected)
    field[mask] = beyond - points
    side = [min(_BLOCK, extent) for extent in field.shape]
    sums = F.avg_pool3d(field[None], side, ceil_mode=True, divisor_override=1)
    limit = _LAA_POINTS + 2 * 100 * float(sums.square().sum().sqrt()) / len(beyond)
    name = "dark lung (LAA-950) beyond what noise explains"
    return [SafetyFigure(name, 100 * abs(points), 0.0, limit, "points")]
