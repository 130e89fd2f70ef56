"""Measures of a scan and its result: differences, tissues, noise, edges, anatomy and radiomics.

They also compare two scans of one patient, for example with different kernels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from convnd.errors import InputFileError
from convnd.grid import Grid
from convnd.io.reading import import_optional
from convnd_tasks.modalities.metrics import Measure, finite_mean
from convnd_tasks.modalities.structural_similarity import structural_similarity
from convnd_tasks.modalities.value_range import value_range
from convnd_tasks.modalities.volumes.geometry import (
    HOUNSFIELD,
    check_same_voxels,
    largest_shift,
    value_unit,
)
from convnd_tasks.modalities.volumes.inputs import check_tissue
from convnd_tasks.modalities.volumes.look_metrics import (
    MeasuredScan,
    compare_anatomy,
    compare_edges,
    compare_noise,
    compare_tissues,
)
from convnd_tasks.modalities.volumes.options import VolumeOptions
from convnd_tasks.modalities.volumes.orientation import Orientation, canonical_origin
from convnd_tasks.modalities.volumes.radiomics import Blocks, concordance, first_order, texture
from convnd_tasks.modalities.volumes.scan import Scan, first_valid_frame
from convnd_tasks.modalities.volumes.similarity import (
    anatomy_error,
    lung_mask,
    peak_signal_to_noise,
)
from convnd_tasks.modalities.volumes.tissues import EMPHYSEMA
from convnd_tasks.modalities.volumes.units import StyleUnits

__all__ = ["measure_all"]

_BIN_HU = 25.0  # width of a grey level of radiomics in CT
_LEVELS = 64  # grey levels of radiomics in the range of a scan without a unit


def measure_all(content: Grid, result: Grid, styles: Sequence[Grid]) -> list[Measure]:
    """Measure a result against its scan and its style.

    The frames of a series are measured one by one; a measure is the mean over frames, and its parts
    are the values of the frames. A blank frame is left out.

    Args:
        content: the scan, values ``(1, T, *S)`` and spacing in mm.
        result: the result, of the scan's shape.
        styles: volumes and pictures; the first volume is the reference for noise, edges and
            radiomics. Its values have the scan's unit, or neither has a unit.

    Raises:
        InputFileError: scan and result differ in shape, unit or position, or have no valid voxel in
            common; or the style has another unit, or constant regions only.
        DependencyError: scipy is not installed.
    """
    import_optional("scipy", "evaluate", extra="volumes")
    check_same_voxels(content, result)
    references = [style for style in styles if style.ndim == 3][:1]
    for reference in references:
        check_tissue(reference, "style")
    units = StyleUnits(content, references, VolumeOptions())
    unit = value_unit(content) or units.unit
    axes, scans = Orientation(content), units.scans()
    resolution = max(map(min, (axes.spacing, *(scan.spacing for scan in scans))))
    style = MeasuredScan.measure(scans[0], unit, resolution) if scans else None
    origin = canonical_origin(content)
    frames, blank = [], []
    several = content.values.shape[1] > 1 and first_valid_frame(content) is not None
    for frame in range(content.values.shape[1]):
        scan = Scan.from_grid(content, frame)
        after = axes.canonical_frame(result.values, frame)
        compared = scan.valid & torch.isfinite(after)
        if several and not bool(scan.valid.any()):
            frames.append(_background(scan, after))
            blank.append(frame)
            continue
        if not bool(compared.any()):
            expected = "voxels with a value in scan and result that are not padding"
            got = f"none in frame {frame + 1}" if several else "none"
            remedy = "give a scan and a result with values"
            raise InputFileError("evaluate", expected=expected, got=got, remedy=remedy)
        before = MeasuredScan.measure(scan, unit, resolution)
        frames.append(_measure_frame(before, after, compared, style, origin))
    factors = [
        Measure("style_factor", factor, meaning="factor that brings the style into the scan's unit")
        for factor in units.factors
        if factor != 1
    ]
    return [_placement(content, result), *factors, *_join(frames, blank)]


def _measure_frame(
    before: MeasuredScan,
    values: Tensor,
    compared: Tensor,
    style: MeasuredScan | None,
    origin: Sequence[float],
) -> list[Measure]:
    """Measure one frame.

    Args:
        before: the scan.
        values: ``(D, H, W)``, those of the result.
        compared: ``(D, H, W)``, bool; voxels with a value in both.
        style: the style, or None.
        origin: position of the scan's first voxel in mm.
    """
    scan, in_hu = before.scan, before.unit == HOUNSFIELD
    after = before.changed(torch.where(compared, values, scan.values))
    low, high = value_range(scan.values[scan.valid])
    bin_width = _BIN_HU if in_hu else (high - low) / _LEVELS
    return [
        *_differences(before, after, compared, high - low),
        *_background(scan, values),
        *compare_tissues(before, after),
        *compare_noise(before, after, style),
        *compare_edges(before, after, style),
        *compare_anatomy(before, after, style),
        *(_emphysema(scan, after.scan) if in_hu else []),
        *_radiomics(before, after, style, bin_width, origin),
    ]


def _placement(content: Grid, result: Grid) -> Measure:
    """The largest distance between corresponding voxels; `check_same_voxels` limits it."""
    shift = largest_shift(content, result)
    meaning = "largest distance between the positions of a voxel in both files"
    if shift is None:
        shift = math.nan
        meaning = "unknown, since a file has no affine; the positions are assumed to be equal"
    return Measure("placement", shift, unit="mm", against="content", meaning=meaning)


def _differences(
    before: MeasuredScan, after: MeasuredScan, compared: Tensor, span: float
) -> list[Measure]:
    """Measures of the difference between scan and result.

    Args:
        before: the scan.
        after: the result.
        compared: ``(D, H, W)``, bool; voxels with a value in both.
        span: range of the scan's values, for PSNR and SSIM.
    """
    unit, first, last = before.unit, before.scan.values, after.scan.values
    change = (last - first)[compared].numpy().astype(np.float64)
    extent = f"{span:.4g}{unit and ' ' + unit}, the range of 99 % of the scan's values"
    share, rmse = 100 * float(compared.float().mean()), float(np.sqrt(np.square(change).mean()))
    largest = float(np.abs(change).max())
    psnr = peak_signal_to_noise(change, span)
    ssim = structural_similarity(first, last, span, compared, mirrored=True)
    blurred = anatomy_error(last.numpy(), first.numpy(), before.scan.spacing)
    rows = (
        ("compared", share, "%", "share of voxels that are neither padding nor missing"),
        ("bias", float(change.mean()), unit, "mean of result - scan"),
        ("rmse", rmse, unit, "root mean square of result - scan"),
        ("largest_difference", largest, unit, "largest magnitude of result - scan"),
        ("psnr", psnr, "dB", f"peak signal-to-noise ratio; peak {extent}"),
        ("ssim", ssim, "", f"structural similarity to the scan; range {extent}"),
        ("anatomy_error", blurred, unit, "mean absolute difference after a blur of 2 mm"),
    )
    better = {"psnr": "higher", "ssim": "higher", "anatomy_error": "lower"}
    return [
        Measure(
            name, value, unit=unit, better=better.get(name, ""), against="content", meaning=meaning
        )
        for name, value, unit, meaning in rows
    ]


def _background(scan: Scan, values: Tensor) -> list[Measure]:
    """The share of the padding that a result ``(D, H, W)`` changes; empty without padding."""
    changed = (values != scan.values)[~scan.valid & torch.isfinite(values)].double()
    meaning = "share of the constant background whose values changed"
    share = 100 * float(changed.mean())
    measure = Measure("changed_background", share, unit="%", against="content", meaning=meaning)
    return [measure] if len(changed) else []


def _emphysema(before: Scan, after: Scan) -> list[Measure]:
    """The share of the lungs below -950 HU (Gevenois et al., 1996); empty without lungs."""
    lungs = lung_mask(before.values.numpy(), before.spacing)
    if lungs is None:
        return []
    first, last = (
        100 * float((scan.values.numpy()[lungs] < EMPHYSEMA).mean()) for scan in (before, after)
    )
    meaning = "share of the lungs below -950 HU"
    return [Measure("laa950", last, before=first, unit="%", meaning=meaning)]


def _radiomics(
    before: MeasuredScan,
    after: MeasuredScan,
    style: MeasuredScan | None,
    bin_width: float,
    origin: Sequence[float],
) -> list[Measure]:
    """Concordance of the radiomics of blocks with those of the scan and of the style.

    Args:
        before: the scan.
        after: the result.
        style: the style, or None.
        bin_width: width of a grey level, in the unit of the values.
        origin: position of the scan's first voxel in mm.
    """
    blocks = Blocks(before.body(), before.scan.spacing, origin)
    measures = []
    for name, function in (("first_order", first_order), ("texture", texture)):
        first, last = (
            blocks.features(part.scan.values.numpy(), function, bin_width)
            for part in (before, after)
        )
        parts = {key: concordance(values, last[key]) for key, values in first.items()}
        measures.append(
            Measure(
                f"{name}_ccc",
                finite_mean(parts.values()),
                better="higher",
                against="content",
                parts=parts,
                meaning=f"concordance (CCC) of {len(blocks.boxes)} blocks' radiomics with the "
                "scan's",
            )
        )
        if style is None:
            continue
        # Features are {} for a scan without blocks.
        target = Blocks(style.body(), style.scan.spacing).features(
            style.scan.values.numpy(), function, bin_width
        )
        earlier, parts = (
            {
                key: concordance(features[key], target[key], ranked=True)
                for key in features
                if key in target
            }
            for features in (first, last)
        )
        measures.append(
            Measure(
                f"{name}_ccc_style",
                finite_mean(parts.values()),
                before=finite_mean(earlier.values()),
                better="higher",
                against="style",
                parts=parts,
                meaning="concordance of blocks' radiomics, ranked, with the style's",
            )
        )
    return measures


def _join(frames: Sequence[Sequence[Measure]], blank: Sequence[int]) -> list[Measure]:
    """Average the measures of the frames of a series; their parts are the frames.

    Args:
        frames: the measures of each frame.
        blank: numbers of the frames without valid voxels.
    """
    if len(frames) == 1:
        return list(frames[0])
    by_name: dict[str, dict[int, Measure]] = {}
    for number, frame in enumerate(frames):
        for measure in frame:
            by_name.setdefault(measure.name, {})[number] = measure
    meaning = "number of frames; every other measure is the mean over frames"
    if blank:
        numbers = ", ".join(str(number + 1) for number in blank)
        meaning += f", without blank ones: {numbers}"
    joined = [Measure("frames", len(frames), meaning=meaning)]
    for rows in by_name.values():
        known = list(rows.values())
        value = _mean(row.value for row in known)
        joined.append(
            dataclasses.replace(
                known[0],
                value=math.nan if value is None else value,
                before=_mean(row.before for row in known),
                style=_mean(row.style for row in known),
                parts={
                    f"frame {number + 1}": rows[number].value if number in rows else math.nan
                    for number in range(len(frames))
                },
            )
        )
    return joined


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are known, perhaps infinite; None without any."""
    numbers = [value for value in values if value is not None and not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else None
