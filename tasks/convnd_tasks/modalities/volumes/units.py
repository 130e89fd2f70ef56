"""The units of a scan and its styles: whether values of one mean something in the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convnd.errors import InputFileError, UsageError
from convnd_tasks.modalities.volumes.geometry import HOUNSFIELD, value_unit
from convnd_tasks.modalities.volumes.options import VolumeOptions, parse_window
from convnd_tasks.modalities.volumes.orientation import Orientation
from convnd_tasks.modalities.volumes.smoothing import constant_background
from convnd_tasks.modalities.volumes.tissues import otsu_scheme, tissue_values

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid

__all__ = ["StyleUnits", "scan_unit"]

_SAME_UNIT = 1.25  # ratio of levels up to which two scans without a unit are in the same one


def scan_unit(scan: Grid, modality: str) -> str:
    """The unit of a scan's values, "HU" or "" for others.

    Args:
        scan: a volume.
        modality: "auto", "ct", "mr" or "other"; auto looks at the file and its values.
    """
    if modality == "auto":
        return HOUNSFIELD if value_unit(scan) == HOUNSFIELD else ""
    return HOUNSFIELD if modality == "ct" else ""


class StyleUnits:
    """Brings the values of styles into the unit of a scan.

    In Hounsfield units, and where both files state one unit, values stay as they are. The values of
    magnetic resonance have no unit, so those of a style are multiplied by the ratio of the tissues'
    median values.

    Args:
        scan: the content.
        styles: volumes.
        options: reads ``modality``, ``window`` and ``style_window``.

    Attributes:
        unit: of the scan, "HU" or "".
        styles: as they were given.
        messages: what users should know.

    Raises:
        InputFileError: the scan is in HU and a style is not, or the other way round.
        UsageError: ``style_window`` without ``window``.
    """

    def __init__(self, scan: Grid, styles: Sequence[Grid], options: VolumeOptions) -> None:
        self.unit = scan_unit(scan, options.modality)
        self.styles = styles
        self._maps: list[tuple[float, float]] = []
        messages = []
        target, source = parse_window(options.window), parse_window(options.style_window)
        if source is not None and target is None:
            raise UsageError(
                "--style-window",
                expected="--window as well, the values of the scan that correspond to it",
                got="auto",
                remedy="give both",
            )
        for style in styles:
            if source is not None and target is not None:
                factor = (target[1] - target[0]) / (source[1] - source[0])
                self._maps.append((factor, target[0] - factor * source[0]))
                messages.append(
                    f"style: its values {source[0]:g} to {source[1]:g} are taken for "
                    f"{target[0]:g} to {target[1]:g} of the scan"
                )
                continue
            self._check(scan, style, options.modality)
            calibrated = self.unit or _stated_unit(scan) == _stated_unit(style) != ""
            factor = 1.0 if calibrated else _level_ratio(scan, style)
            self._maps.append((factor, 0.0))
            if factor != 1:
                messages.append(
                    f"style: its values times {factor:.3g} are in the unit of the scan, judged by "
                    "the median of their tissues"
                )
        stated = _stated_unit(scan)
        kind = f"values in {stated}" if stated else "values without a unit, as of MR"
        kind = "CT, in HU" if self.unit else kind
        messages.append(f"scan: {kind}; use --modality if it is another")
        self.messages = tuple(messages)

    @property
    def factors(self) -> list[float]:
        """By which the values of each style are multiplied."""
        return [factor for factor, _ in self._maps]

    def canonical_styles(self) -> list[tuple[Tensor, tuple[float, ...]]]:
        """The first frame ``(D, H, W)`` of each style in the unit of the scan, and its spacing."""
        result = []
        for style, (factor, offset) in zip(self.styles, self._maps, strict=True):
            axes = Orientation(style)
            values = axes.to_canonical(style.values[:, :1])[0, 0]
            if (factor, offset) != (1.0, 0.0):
                values = values * factor + offset
            result.append((values, axes.spacing))
        return result

    def _check(self, scan: Grid, style: Grid, modality: str) -> None:
        other = scan_unit(style, "auto")
        if other == self.unit or (modality == "ct" and self.unit == HOUNSFIELD):
            return
        if self.unit == HOUNSFIELD and _may_be_hounsfield(style):
            return
        if self.unit == HOUNSFIELD or not _may_be_hounsfield(scan):
            names = {HOUNSFIELD: "Hounsfield units (CT)", "": "values without a unit (as of MR)"}
            raise InputFileError(
                "style",
                expected=f"{names[self.unit]}, as the scan has",
                got=names[other],
                remedy=(
                    "give a style of the same modality, say --modality ct if both "
                    "are in HU, or name the values that correspond with --window and "
                    "--style-window"
                ),
            )
        self.unit = HOUNSFIELD  # a part of a CT without air, with a style that shows its unit


def _stated_unit(scan: Grid) -> str:
    """The unit that a scan's file states, "" if it does not."""
    return str(scan.header.get("value_unit") or "")


def _may_be_hounsfield(scan: Grid) -> bool:
    """Whether values without air may be HU: fat is below 0 and soft tissue above."""
    low, high = float(scan.values.nan_to_num().min()), float(scan.values.nan_to_num().max())
    return -1024 <= low < -20 and 0 < high < 4000


def _level_ratio(scan: Grid, style: Grid) -> float:
    """The median of a scan's tissues over that of a style's; 1 where they are nearly the same."""
    parts = []
    for grid in (scan, style):
        axes = Orientation(grid)
        values = axes.to_canonical(grid.values[:, :1])[0, 0].nan_to_num()
        smooth = tissue_values(values, axes.spacing, ~constant_background(values))
        if not smooth.numel():
            return 1.0
        parts.append(smooth[:: max(1, smooth.numel() // 100_000)])
    if min(float(part.quantile(0.01)) for part in parts) < 0:
        # Values around 0 have no level but their spread.
        shares = parts[0].new_tensor([0.25, 0.75])
        levels = [float(part.quantile(shares).diff()) for part in parts]
    else:
        tissues = [part[part > otsu_scheme([part]).limits[0]] for part in parts]
        pairs = zip(tissues, parts, strict=True)
        levels = [float((tissue if tissue.numel() else part).median()) for tissue, part in pairs]
    if levels[0] * levels[1] <= 0:
        return 1.0
    ratio = levels[0] / levels[1]
    return 1.0 if 1 / _SAME_UNIT < ratio < _SAME_UNIT else ratio
