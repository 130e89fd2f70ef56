"""Safety figures: measures, with limits, of how a change of the look affects the anatomy.

A result is compared with the scan itself. The limits allow for the noise of the style. They allow
for a filter as far as it acts on the scan, and within fixed bounds, so a wrong filter breaks them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from convnd_tasks.modalities.volumes.noise_change import LARGEST_CHANGE, NoiseChange
from convnd_tasks.modalities.volumes.safety_figure import SafetyFigure
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.smoothing import erode, gaussian, local_mean, sigmas
from convnd_tasks.modalities.volumes.tissues import (
    CT_TISSUES,
    EMPHYSEMA,
    TissueMap,
    TissueScheme,
    otsu_limits,
)

__all__ = ["limit_means", "measure_safety"]

_NoiseChanges = Mapping[int, NoiseChange]
"""Changes of the noise by tissue."""

_FEWEST = 500  # voxels of a tissue that is measured
_FEWEST_FILTERED = 100  # the same for a filter's change, which does not scatter as noise does
_MEAN_HU, _MEAN_SHARE = 2.0, 0.01  # limits of the change of a mean
_MARGIN = 0.9  # of a limit that is exceeded: a measure with other borders of tissues holds, too
_MEAN_DEPTH = 4  # voxels from other tissues, with which a filter mixes none there
_CONTRAST = 0.1  # limit of the relative change of thin structures, besides that by a filter
_FILTERED_CONTRAST = 0.5, 2.0  # limits of their contrast behind a filter
# In medians of the magnitude. 98 % of normal noise are within 3.5; structures are stronger.
_STRUCTURE = 4.5
_DICE = 0.98  # limit of the overlap of segmentations
_LEAST_DICE = 0.95  # noise may lower that limit to this
_FILTERED_DICE = 0.9  # a filter, with which two images of one scan agree, may lower it to this
_DICE_SCATTER = 0.005  # of the overlap that noise explains
_SEPARATION = 0.65  # share of the variance between two classes; that of normal noise is 2 / pi
_CHUNK = 1_000_000  # voxels that are processed at once
_LAA_POINTS = 1.0  # percentage points; limit of the change of dark lung
_FILTERED_LAA_POINTS = 5.0  # of that change which a filter explains
_BLOCK = 16  # voxels along each side
_SEGMENT_SIGMA = 1.5  # finest voxel sides; the blur that removes noise before a segmentation


def measure_safety(
    scan: Scan,
    filtered: Tensor,
    result: Tensor,
    changes: _NoiseChanges,
    scheme: TissueScheme,
    resolution: float,
) -> list[SafetyFigure]:
    """Measure the safety figures of one frame.

    Args:
        scan: the frame before the change.
        filtered: ``(D, H, W)``; the frame after the change of its sharpness only.
        result: ``(D, H, W)``; the frame after the whole change.
        changes: changes of the noise by tissue.
        scheme: tissues of the scan.
        resolution: mm; the coarsest, over the compared scans, of their finest voxel sides.

    Returns:
        The change of the mean of each tissue; the largest change of a voxel by noise; the contrast
        of thin structures; the overlap of segmentations; in CT, the share of dark lung.
    """
    own = TissueMap(scan, scheme, resolution)
    # The noise follows the tissues of the filtered scan.
    tissues = TissueMap(scan.with_values(filtered), scheme, resolution)
    structures = _structures(scan, filtered, result)
    return [
        *_means(scan, filtered, result, own),
        _largest_change(scan, filtered, result, tissues, changes),
        structures,
        *_segmentation(scan, filtered, result, tissues, changes, always=structures.measured),
        *(_dark_lung(scan, filtered, result, own, changes) if scheme == CT_TISSUES else []),
    ]


def limit_means(
    scan: Scan, filtered: Tensor, result: Tensor, scheme: TissueScheme, resolution: float
) -> Tensor:
    """Compute the smooth change that brings the means of tissues back within their limits.

    A filter moves the mean of a thin tissue, such as a ventricle, even far from its border.
    The arguments are those of `measure_safety`.

    Returns:
        ``(D, H, W)``, to subtract from the result; 0 if all means are within their limits.
    """
    excess = torch.zeros_like(result)
    tissues = TissueMap(scan, scheme, resolution)
    widths = sigmas(scan.spacing, _MEAN_DEPTH / 2 * resolution, min(scan.spacing))
    for mask, change, limit in _mean_changes(scan, filtered, result, tissues).values():
        if abs(change) > limit:
            weight = local_mean(mask.float(), scan.valid.float(), widths)
            beyond = change - math.copysign(_MARGIN * limit, change)
            excess += weight * (beyond / float(weight[mask].mean()))
    return excess


def _means(scan: Scan, filtered: Tensor, result: Tensor, tissues: TissueMap) -> list[SafetyFigure]:
    """The change of the mean of each tissue."""
    changes, scheme = _mean_changes(scan, filtered, result, tissues), tissues.scheme
    reason = "too few voxels away from other tissues"
    figures = []
    for tissue in scheme.names:
        name = f"mean change of {tissue}"
        if tissue in changes:
            _, change, limit = changes[tissue]
            figures.append(SafetyFigure(name, abs(change), 0.0, limit, scheme.unit))
        else:
            figures.append(SafetyFigure(name, math.nan, 0.0, 0.0, reason=reason))
    return figures


def _mean_changes(
    scan: Scan, filtered: Tensor, result: Tensor, tissues: TissueMap
) -> dict[str, tuple[Tensor, float, float]]:
    """The voxels of each tissue that are far from others, the change of their mean, its limit.

    The mean of noise over few voxels is not 0, so in small tissues the filter alone counts.
    """
    names = tissues.scheme.names
    cores = {name: tissues.core(number, _MEAN_DEPTH) for number, name in enumerate(names)}
    masks = {name: core for name, core in cores.items() if int(core.sum()) > _FEWEST_FILTERED}
    before = {name: float(scan.values[mask].mean()) for name, mask in masks.items()}
    highest = max((abs(mean) for mean in before.values()), default=0.0)
    changes = {}
    for name, mask in masks.items():
        # A share of a mean near 0, as that of air, would be no meaningful limit.
        share = _MEAN_SHARE * max(abs(before[name]), highest / 2)
        after = result if int(mask.sum()) > _FEWEST else filtered
        change = float((after[mask] - scan.values[mask]).mean())
        changes[name] = (mask, change, _MEAN_HU if tissues.scheme.unit else share)
    return changes


def _largest_change(
    scan: Scan, filtered: Tensor, result: Tensor, tissues: TissueMap, changes: _NoiseChanges
) -> SafetyFigure:
    """The largest change of a voxel by noise, in deviations of the noise of its tissue."""
    deviation = torch.zeros_like(result)
    for number, change in changes.items():
        deviation[tissues.mask(number)] = max(change.scan, change.style)
    noisy = scan.valid & (deviation > 0)
    largest = torch.where(noisy, (result - filtered).abs() / deviation.clamp(min=1e-30), 0.0)
    unit, value = "deviations of the noise", float(largest.max())
    return SafetyFigure("largest change", value, 0.0, LARGEST_CHANGE, unit, decisive=False)


def _structures(scan: Scan, filtered: Tensor, result: Tensor) -> SafetyFigure:
    """The contrast of thin structures in the result over that in the scan.

    Thin structures are the strongest 2 % of a difference of Gaussians of 0.8 and 2.5 voxels.
    """
    finest, weight = min(scan.spacing), scan.valid.float()
    fine, coarse = (sigmas(scan.spacing, s * finest, finest) for s in (0.8, 2.5))

    def ridges(values: Tensor) -> Tensor:
        return local_mean(values, weight, fine) - local_mean(values, weight, coarse)

    def contrast(values: Tensor) -> float:
        return float((first * ridges(values)[strongest].double()).sum() / first.square().sum())

    before = ridges(scan.values)
    deep = erode(scan.valid, [math.ceil(2 * width) for width in coarse])
    # Vessels in a background of exact zeros have few deep voxels, and those show only noise.
    for inner in (deep, scan.valid):
        strength = before.abs()[inner]
        if strength.numel() < _FEWEST:
            continue
        limit = float(strength.kthvalue(max(1, int(0.98 * strength.numel()))).values)
        if limit > 0 and limit >= _STRUCTURE * float(strength.median()):
            break
    else:
        reason = "none stronger than noise"
        return SafetyFigure("contrast of thin structures", math.nan, 0.0, 0.0, "", reason)
    strongest = inner & (before.abs() >= limit)
    first = before[strongest].double()
    least, most = _FILTERED_CONTRAST
    explained = min(max(contrast(filtered), least), most)
    low, high = min(1.0, explained) - _CONTRAST, max(1.0, explained) + _CONTRAST
    return SafetyFigure("contrast of thin structures", contrast(result), low, high)


def _segmentation(
    scan: Scan,
    filtered: Tensor,
    result: Tensor,
    tissues: TissueMap,
    changes: _NoiseChanges,
    *,
    always: bool,
) -> list[SafetyFigure]:
    """The mean Dice coefficient (1945) of two and of three Otsu classes, before and after.

    A filter moves borders, and added noise moves voxels across a threshold that lies within a
    tissue. If the overlap that is expected from both is below 0.98, it becomes the limit, but never
    less than 0.95, or 0.9 with a filter. Removed noise lowers no limit, since it may be anatomy.
    """
    finest, weight = min(scan.spacing), scan.valid.float()
    widths = sigmas(scan.spacing, _SEGMENT_SIGMA * finest, finest)
    first, second, third = (
        local_mean(values, weight, widths)[scan.valid] for values in (scan.values, result, filtered)
    )
    names = {2: "Dice of two classes", 3: "Dice of three classes"}
    if not first.numel() or not (always or _separation(first) > _SEPARATION):
        reason = "classes differ by noise only"
        return [SafetyFigure(name, math.nan, 0.0, 0.0, "", reason) for name in names.values()]
    least = _LEAST_DICE if torch.equal(filtered, scan.values) else _FILTERED_DICE
    noise = first.new_full((len(tissues.scheme.names),), 1e-30)
    for number, change in changes.items():
        noise[number] += change.deviation_after(widths)
    labels = tissues.labels[scan.valid]
    # Beside the background, the blur averages fewer voxels, so more of their noise remains.
    total, narrow = gaussian(weight, widths), [width / math.sqrt(2) for width in widths]
    gains = (gaussian(weight, narrow).sqrt() / total.clamp(min=1e-4))[scan.valid]
    figures = []
    for classes, name in names.items():
        limits = (-math.inf, *otsu_limits([first], classes), math.inf)
        # Volumes of each class: before, after, expected; overlaps of the last two with the first.
        sums = torch.zeros(5, classes, dtype=torch.float64)
        fields = (first, second, third, labels, gains)
        for part, other, sharp, numbers, gain in zip(
            *(field.split(_CHUNK) for field in fields), strict=True
        ):
            deviation = noise[numbers.long()] * gain
            below = torch.zeros_like(part)
            for index, (low, high) in enumerate(itertools.pairwise(limits)):
                before, after = ((low <= values) & (values < high) for values in (part, other))
                above = torch.special.ndtr((high - sharp) / deviation)
                probability, below = above - below, above
                volumes = (before, after, probability, after & before, probability[before])
                sums[:, index] += torch.stack([v.sum(dtype=torch.float64) for v in volumes])
        dice = 2 * sums[3:] / (sums[0] + sums[1:3]).clamp(min=1.0)
        overlap, explained = dice.mean(1).tolist()
        limit = min(_DICE, max(least, explained - _DICE_SCATTER))
        figures.append(SafetyFigure(name, overlap, limit, math.inf))
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
    scan: Scan, filtered: Tensor, result: Tensor, tissues: TissueMap, changes: _NoiseChanges
) -> list[SafetyFigure]:
    """The share of the lungs below -950 HU beyond the share that noise and filter explain."""
    lung = CT_TISSUES.names.index("lung")
    mask = tissues.core(lung)  # lung next to other tissues mixes with them
    name = "dark lung (LAA-950) beyond what noise explains"
    if int(mask.sum()) < 20 * _FEWEST or lung not in changes:
        return []
    before, after = filtered[mask], (result[mask] < EMPHYSEMA).float()
    explained = (before < EMPHYSEMA).float()
    by_filter = 100 * float((explained - (scan.values[mask] < EMPHYSEMA).float()).mean())
    if changes[lung].style >= changes[lung].scan:
        # The probability that normal noise lowers a voxel below the threshold.
        widths = sigmas(scan.spacing, _SEGMENT_SIGMA * 2 * min(scan.spacing), min(scan.spacing))
        variance = local_mean((result - filtered).square(), mask.float(), widths)[mask]
        below = torch.special.ndtr((EMPHYSEMA - before) / variance.sqrt().clamp(min=1e-6))
        low = float(scan.values[scan.valid].min())
        # Noise is clipped to the distance from the end of the range, see `change_noise`.
        explained = torch.where(EMPHYSEMA - before > before - low, explained, below)
    beyond = after - explained
    points = float(beyond.mean())
    # The standard error, from the sums over blocks that are longer than noise correlates.
    field = torch.zeros_like(filtered)
    field[mask] = beyond - points
    side = [min(_BLOCK, extent) for extent in field.shape]
    sums = F.avg_pool3d(field[None], side, ceil_mode=True, divisor_override=1)
    limit = _LAA_POINTS + 2 * 100 * float(sums.square().sum().sqrt()) / len(beyond)
    value = 100 * abs(points) + max(0.0, abs(by_filter) - _FILTERED_LAA_POINTS)
    return [SafetyFigure(name, value, 0.0, limit, "points", decisive=False)]
