"""Figures that tell whether a scan's anatomy survived a change of its look.

Noise and sharpness are expected to change, so a result is compared with the scan after its
sharpness was changed, and against the noise that the style has.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from convnd_tasks.modalities.volumes.look import Scan
from convnd_tasks.modalities.volumes.noise_change import NoiseChange
from convnd_tasks.modalities.volumes.smoothing import erode, gaussian, local_mean, sigmas
from convnd_tasks.modalities.volumes.tissues import HOUNSFIELD, Scheme, TissueMap, otsu_limits

__all__ = ["SafetyFigure", "describe_broken", "measure_safety"]

_FEWEST = 500  # voxels of a tissue that is judged
_MEAN_HU, _MEAN_SHARE = 2.0, 0.01
_DEEP = 4  # voxels
_DEVIATIONS = 6.0
_CONTRAST = 0.1
# Of normal noise 98 % are within 3.5 medians of its magnitude; structures are further out.
_TAIL = 4.5
_DICE = 0.98
_LEAST_DICE = 0.95  # noise that hides more of the anatomy is no longer only a look
_DICE_SCATTER = 0.005
_SEPARATION = 0.65
_CHUNK = 1_000_000  # voxels that are judged at once
_EMPHYSEMA = -950.0  # HU
_LAA_POINTS = 1.0
_BLOCK = 16  # voxels
_SEGMENT_SIGMA = 1.5  # resolutions; segmentations look at scans without their noise


@dataclass(frozen=True)
class SafetyFigure:
    """One figure with its limit.

    Args:
        name: for example "mean change of soft".
        value: what was measured.
        low: lowest value that is safe.
        high: highest value that is safe.
        unit: of the value, or "".
    """

    name: str
    value: float
    low: float
    high: float
    unit: str = ""

    @property
    def holds(self) -> bool:
        """Whether the value is within its limits."""
        return self.low <= self.value <= self.high

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
    scheme: Scheme,
    changes: Mapping[int, NoiseChange],
    resolution: float,
    unit: str,
) -> list[SafetyFigure]:
    """Measure one frame.

    Args:
        scan: the frame before.
        expected: the frame after its sharpness was changed, before its noise was.
        result: the frame after.
        scheme: tissues of the scan.
        changes: of the noise, by tissue.
        resolution: see `convnd_tasks.modalities.volumes.look.Look.measure`.
        unit: "HU", or "" for others.

    Returns:
        For each tissue the change of its mean and the largest change of a voxel; contrast of thin
        structures; overlap of segmentations; in CT the share of dark lung.
    """
    tissues = TissueMap(expected, scan.spacing, scan.valid, scheme, resolution)
    structures = _structures(scan, expected, result, resolution)
    return [
        *_tissue_means(scan, result, scheme, resolution, unit),
        *_largest_changes(expected, result, tissues, changes),
        *structures,
        *_segmentation(
            scan, expected, result, tissues, changes, resolution, always=bool(structures)
        ),
        *(_dark_lung(scan, expected, result, tissues, changes) if scheme == HOUNSFIELD else []),
    ]


def describe_broken(figures: Sequence[SafetyFigure]) -> str:
    """The figures outside their limits, for a message; "" if all are safe."""
    return "; ".join(str(figure) for figure in figures if not figure.holds)


def _tissue_means(
    scan: Scan, result: Tensor, scheme: Scheme, resolution: float, unit: str
) -> list[SafetyFigure]:
    """The change of the mean of each tissue, where a change of sharpness mixes no tissues."""
    tissues = TissueMap(scan.values, scan.spacing, scan.valid, scheme, resolution)
    cores = {number: tissues.core(number, _DEEP) for number in range(len(scheme.names))}
    masks = {number: core for number, core in cores.items() if int(core.sum()) > _FEWEST}
    before = {number: float(scan.values[mask].mean()) for number, mask in masks.items()}
    highest = max((abs(mean) for mean in before.values()), default=0.0)
    figures = []
    for number, mask in masks.items():
        change = abs(float((result[mask] - scan.values[mask]).mean()))
        if unit == "HU":  # bone alone has 1 % of more than 2 HU
            limit = max(_MEAN_HU, _MEAN_SHARE * before[number])
        else:  # values near 0, as those of air, have no level of their own
            limit = _MEAN_SHARE * max(abs(before[number]), highest / 2)
        name = f"mean change of {scheme.names[number]}"
        figures.append(SafetyFigure(name, change, 0.0, limit, unit))
    return figures


def _largest_changes(
    expected: Tensor, result: Tensor, tissues: TissueMap, changes: Mapping[int, NoiseChange]
) -> list[SafetyFigure]:
    largest = 0.0
    for number, change in changes.items():
        mask = tissues.mask(number)
        deviation = max(change.scan, change.style)
        if bool(mask.any()) and deviation > 0:
            moved = float((result - expected)[mask].abs().max())
            largest = max(largest, moved / deviation)
    return [SafetyFigure("largest change", largest, 0.0, _DEVIATIONS, "deviations of the noise")]


def _structures(
    scan: Scan, expected: Tensor, result: Tensor, resolution: float
) -> list[SafetyFigure]:
    """Contrast of thin structures, if the scan shows any."""
    weight = scan.valid.float()
    fine, coarse = (sigmas(scan.spacing, s * resolution, min(scan.spacing)) for s in (0.8, 2.5))

    def ridges(values: Tensor) -> Tensor:
        return local_mean(values, weight, fine) - local_mean(values, weight, coarse)

    before = ridges(expected)
    deep = erode(scan.valid, [math.ceil(2 * width) for width in coarse])
    # Vessels in a background of exact zeros have few deep voxels, and those show noise alone.
    for inner in (deep, scan.valid):
        strength = before.abs()[inner]
        if strength.numel() < _FEWEST:
            continue
        limit = float(strength.kthvalue(max(1, int(0.98 * strength.numel()))).values)
        if limit >= _TAIL * float(strength.median()):
            break
    else:
        return []  # the strongest structures are those of noise
    places = inner & (before.abs() >= limit)
    first, second = before[places].double(), ridges(result)[places].double()
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
    """Dice (1945) of the classes between Otsu's thresholds, the mean over two and three classes.

    Added noise moves voxels across a threshold that lies within a tissue. Where the overlap that
    noise of this strength leads to is below the limit, it is the limit. Noise that is removed
    lowers no limit, since it may be anatomy.
    """
    weight = scan.valid.float()
    widths = sigmas(scan.spacing, _SEGMENT_SIGMA * resolution, min(scan.spacing))
    first, second = (
        local_mean(values, weight, widths)[scan.valid] for values in (expected, result)
    )
    if not first.numel() or not (always or _separation(first) > _SEPARATION):
        return []  # the classes are those of noise
    noise = first.new_full((len(tissues.scheme.names),), 1e-30)
    for number, change in changes.items():
        noise[number] += change.deviation_after(widths)
    labels = tissues.labels[scan.valid]
    # Beside the background fewer voxels are averaged, which leaves more of their noise.
    near, width = gaussian(weight, widths), [w / math.sqrt(2) for w in widths]
    fewer = (gaussian(weight, width).sqrt() / near.clamp(min=1e-4))[scan.valid]
    figures = []
    for classes, name in ((2, "two"), (3, "three")):
        limits = (-math.inf, *otsu_limits([first], classes), math.inf)
        # Of each class: its volume before, after and likely with noise, and their overlaps with it.
        sums = torch.zeros(5, classes, dtype=torch.float64)
        for part, other, numbers, factor in zip(
            *(field.split(_CHUNK) for field in (first, second, labels, fewer)), strict=True
        ):
            deviation = noise[numbers.long()] * factor
            below = torch.zeros_like(part)
            for index, (low, high) in enumerate(itertools.pairwise(limits)):
                before, after = ((low <= values) & (values < high) for values in (part, other))
                above = torch.special.ndtr((high - part) / deviation)
                likely, below = above - below, above
                volumes = (before, after, likely, after & before, likely[before])
                sums[:, index] += torch.stack([v.sum(dtype=torch.float64) for v in volumes])
        dice = 2 * sums[3:] / (sums[0] + sums[1:3]).clamp(min=1.0)
        overlap, explained = dice.mean(1).tolist()
        limit = min(_DICE, max(_LEAST_DICE, explained - _DICE_SCATTER))
        figures.append(SafetyFigure(f"Dice of {name} classes", overlap, limit, math.inf))
    return figures


def _separation(values: Tensor) -> float:
    """Share of the variance between Otsu's two classes; that of normal noise is 2 / pi."""
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
    """The share of the lungs below -950 HU, less the share that added noise alone explains."""
    lung = HOUNSFIELD.names.index("lung")
    mask = tissues.mask(lung)
    if int(mask.sum()) < 20 * _FEWEST or lung not in changes:
        return []
    before, after = expected[mask], (result[mask] < _EMPHYSEMA).float()
    explained = (before < _EMPHYSEMA).float()
    if changes[lung].style >= changes[lung].scan:
        # The share of a normal distribution around each voxel that is below.
        widths = sigmas(scan.spacing, _SEGMENT_SIGMA * 2 * min(scan.spacing), min(scan.spacing))
        variance = local_mean((result - expected).square(), mask.float(), widths)[mask]
        below = torch.special.ndtr((_EMPHYSEMA - before) / variance.sqrt().clamp(min=1e-6))
        low = float(scan.values[scan.valid].min())
        # Near the end of the range there is no room for noise that reaches the limit.
        explained = torch.where(_EMPHYSEMA - before > before - low, explained, below)
    beyond = after - explained
    points = float(beyond.mean())
    # Noise of few voxels scatters; blocks that are longer than it correlates tell by how much.
    field = torch.zeros_like(expected)
    field[mask] = beyond - points
    side = [min(_BLOCK, extent) for extent in field.shape]
    sums = F.avg_pool3d(field[None], side, ceil_mode=True, divisor_override=1)
    limit = _LAA_POINTS + 2 * 100 * float(sums.square().sum().sqrt()) / len(beyond)
    name = "dark lung (LAA-950) beyond what noise explains"
    return [SafetyFigure(name, 100 * abs(points), 0.0, limit, "points")]
