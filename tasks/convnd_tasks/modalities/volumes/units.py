"""The units and voxel sizes of a scan and its styles; conversion into the scan's unit."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from convnd.errors import InputFileError, UsageError
from convnd.grid import Grid
from convnd_tasks.modalities.volumes.geometry import HOUNSFIELD, UNIT_NAMES, value_unit
from convnd_tasks.modalities.volumes.options import VolumeOptions, parse_window
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.tissues import otsu_limits, tissue_values

__all__ = ["StyleUnits", "check_voxel_sizes", "level_ratio", "scan_unit"]

# A style without a unit is not rescaled if a ratio of medians is below the first number, and that
# above the scans' own thresholds is below the second: the halves of one scan differ as much.
_SAME_UNIT, _FARTHEST = 1.4, 1.8

_LARGEST_RATIO = 2.5  # of voxel sides; what is noise at one is anatomy at much finer ones


def check_voxel_sizes(scan: Grid, styles: Sequence[Grid]) -> None:
    """Check that the finest voxel sides of scans can be compared.

    Much coarser voxels show nothing of the noise between fine ones, and their noise has the size of
    anatomy there: it would be drawn as clouds.

    Raises:
        InputFileError: a style's finest side is over 2.5 times as long or as short as
            the scan's.
    """
    own = min(scan.spacing)
    for finest in (min(style.spacing) for style in styles):
        if not 1 / _LARGEST_RATIO <= finest / own <= _LARGEST_RATIO:
            low, high = own / _LARGEST_RATIO, own * _LARGEST_RATIO
            expected = f"voxels of {low:.3g} to {high:.3g} mm, since the scan's have {own:.3g} mm"
            remedy = "resample one of them, or give another style"
            raise InputFileError("style", expected=expected, got=f"{finest:.3g} mm", remedy=remedy)


def scan_unit(scan: Grid, modality: str) -> str:
    """The unit of a scan's values: "HU", or "" for other units.

    Args:
        scan: a volume.
        modality: "ct", "mr", "other", or "auto" to decide by the file and its values.
    """
    if modality == "auto":
        return HOUNSFIELD if value_unit(scan) == HOUNSFIELD else ""
    return HOUNSFIELD if modality == "ct" else ""


class StyleUnits:
    """The conversion of styles into the unit of a scan.

    Values in Hounsfield units, or in a unit that both files state, are not converted. Values of
    magnetic resonance have no unit, so a style is multiplied by the ratio of the median tissue
    values.

    Args:
        scan: the content, a volume.
        styles: volumes.
        options: options; ``modality``, ``window`` and ``style_window`` are read.

    Attributes:
        unit: unit of the scan, "HU", or "" for other units.
        styles: the styles before the conversion.
        messages: lines that tell users about units and conversions.

    Raises:
        InputFileError: only one of scan and style is in HU.
        UsageError: ``style_window`` is given without ``window``.
    """

    def __init__(self, scan: Grid, styles: Sequence[Grid], options: VolumeOptions) -> None:
        self.unit = scan_unit(scan, options.modality)
        self.styles = styles
        self._maps: list[tuple[float, float]] = []
        messages = []
        target, source = parse_window(options.window), parse_window(options.style_window)
        if source is not None and target is None:
            expected = "also --window, the corresponding values of the scan"
            raise UsageError("--style-window", expected=expected, got="auto", remedy="give both")
        for style in styles:
            if source is not None and target is not None:
                factor = (target[1] - target[0]) / (source[1] - source[0])
                self._maps.append((factor, target[0] - factor * source[0]))
                messages.append(
                    f"style: its values {source[0]:g} to {source[1]:g} correspond to "
                    f"{target[0]:g} to {target[1]:g} of the scan"
                )
                continue
            self._check(scan, style, options.modality)
            calibrated = self.unit or _stated_unit(scan) == _stated_unit(style) != ""
            factor = 1.0 if calibrated else level_ratio(*map(Scan.first, (scan, style)))
            self._maps.append((factor, 0.0))
            if factor != 1:
                messages.append(
                    f"style: its values are multiplied by {factor:.3g}, the ratio of the median "
                    "tissue values"
                )
        stated = _stated_unit(scan)
        kind = f"values in {stated}" if stated else "values without a unit, like MR"
        kind = "CT, in HU" if self.unit else kind
        messages.append(f"scan: {kind}; use --modality if this is wrong")
        self.messages = tuple(messages)

    @property
    def factors(self) -> list[float]:
        """The factors by which the values of the styles are multiplied."""
        return [factor for factor, _ in self._maps]

    def scans(self) -> list[Scan]:
        """The first frame with valid voxels of each style, in the scan's unit."""
        result = []
        for style, (factor, offset) in zip(self.styles, self._maps, strict=True):
            scan = Scan.first(style)
            unchanged = (factor, offset) == (1.0, 0.0)
            result.append(scan if unchanged else scan.with_values(scan.values * factor + offset))
        return result

    def _check(self, scan: Grid, style: Grid, modality: str) -> None:
        """Check that both are in HU or neither is; a style in HU may reveal the scan's unit."""
        other = scan_unit(style, "auto")
        if other == self.unit or (modality == "ct" and self.unit == HOUNSFIELD):
            return
        if self.unit == HOUNSFIELD and _may_be_hounsfield(style):
            return
        if self.unit == HOUNSFIELD or not _may_be_hounsfield(scan):
            raise InputFileError(
                "style",
                expected=f"{UNIT_NAMES[self.unit]}, like the scan",
                got=UNIT_NAMES[other],
                remedy="give a style of the same modality, use --modality ct if both are in HU, or "
                "give the corresponding values with --window and --style-window",
            )
        self.unit = HOUNSFIELD  # the scan is a part of a CT without air


def _stated_unit(scan: Grid) -> str:
    """The unit that a scan's file states, "" without one."""
    return str(scan.header.get("value_unit") or "")


def _may_be_hounsfield(scan: Grid) -> bool:
    """Whether values without air may be HU: fat is below 0, soft tissue above."""
    low, high = float(scan.values.nan_to_num().min()), float(scan.values.nan_to_num().max())
    return -1024 <= low < -20 and 0 < high < 4000


def level_ratio(scan: Scan, style: Scan) -> float:
    """The ratio of the median tissue values of scan and style; 1 if they may have one unit.

    Tissue is above a threshold of each scan. Two parts of one scan can have medians that differ
    much, because they have other tissues; but above a threshold that they share, medians are close.
    """
    parts = [tissue_values(part) for part in (scan, style)]
    if not all(part.numel() for part in parts):
        return 1.0
    if min(float(part.quantile(0.01)) for part in parts) < 0:
        # Values around 0 have a meaningless median, so their quartile ranges are compared.
        shares = parts[0].new_tensor([0.25, 0.75])
        levels = [[float(part.quantile(shares).diff()) for part in parts]]
    else:
        own, shared = [otsu_limits([part], 3)[0] for part in parts], otsu_limits(parts, 3)[0]
        levels = [_medians_above(parts, own), _medians_above(parts, [shared] * 2)]
    ratios = [first / second if first * second > 0 else 1.0 for first, second in levels]
    distances = [abs(math.log(ratio)) for ratio in ratios]
    is_same = distances[0] < math.log(_FARTHEST) and min(distances) < math.log(_SAME_UNIT)
    return 1.0 if is_same else ratios[0]


def _medians_above(parts: Sequence[Tensor], limits: Sequence[float]) -> list[float]:
    """The median of the values of each part above its limit; of all where none are."""
    above = [part[part > limit] for part, limit in zip(parts, limits, strict=True)]
    pairs = zip(above, parts, strict=True)
    return [float((some if some.numel() else part).median()) for some, part in pairs]
