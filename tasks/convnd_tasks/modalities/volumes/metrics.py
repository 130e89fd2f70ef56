"""Measures of a scan and its result: differences, tissues, noise, edges, anatomy and radiomics.

They also compare two scans of one patient, for example with different kernels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.reading import import_optional
from convnd_tasks.modalities.metrics import Measure
from convnd_tasks.modalities.volumes.geometry import (
    HOUNSFIELD,
    check_same_voxels,
    largest_shift,
    value_unit,
)
from convnd_tasks.modalities.volumes.orientation import Orientation, canonical_origin

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid
    from convnd_tasks.modalities.volumes.look_metrics import MeasuredScan
    from convnd_tasks.modalities.volumes.scan import Scan

__all__ = ["measure_all"]

_RANGE = (0.5, 99.5)  # percentiles of the scan's values; the range of PSNR and SSIM
_BIN_HU = 25.0  # width of a grey level of radiomics in CT
_LEVELS = 64  # grey levels of radiomics in that range, for values without a unit


def measure_all(content: Grid, result: Grid, styles: Sequence[Grid]) -> list[Measure]:
    """Measure a result against its scan and its style.

    The frames of a series are measured one by one; a measure is the mean over frames, and its parts
    are the values of the frames.

    Args:
        content: the scan, values ``(1, T, *S)`` and spacing in mm.
        result: the result, of the scan's shape.
        styles: volumes and pictures; the first volume is the reference for noise, edges and
            radiomics. Its values have the scan's unit, or neither has a unit.

    Raises:
        InputFileError: scan and result differ in shape, unit or position, or have no valid voxel in
            common; or the style has another unit.
        DependencyError: scipy is not installed.
    """
    from convnd_tasks.modalities.volumes.look_metrics import MeasuredScan
    from convnd_tasks.modalities.volumes.options import VolumeOptions
    from convnd_tasks.modalities.volumes.scan import Scan
    from convnd_tasks.modalities.volumes.units import StyleUnits

    import_optional("scipy", "evaluate", extra="volumes")
    check_same_voxels(content, result)
    volumes = [style for style in styles if style.ndim == 3][:1]
    units = StyleUnits(content, volumes, VolumeOptions())
    unit = value_unit(content) or units.unit
    scans = units.scans()
    axes = Orientation(content)
    resolution = max(min(spacing) for spacing in (axes.spacing, *(s.spacing for s in scans)))
    looks = [MeasuredScan.measure(scan, unit, resolution) for scan in scans]
    origin = canonical_origin(content)
    frames = []
    for frame in range(content.values.shape[1]):
        before, after = (axes.canonical_frame(grid.values, frame) for grid in (content, result))
        frames.append(
            _measure_frame(
                Scan.from_values(before, axes.spacing), after, looks, unit, resolution, origin
            )
        )
    factors = [
        Measure("style_factor", factor, meaning="factor that brings the style into the scan's unit")
        for factor in units.factors
        if factor != 1
    ]
    return [_placement(content, result), *factors, *_join(frames)]


def _measure_frame(
    scan: Scan,
    after: Tensor,
    styles: Sequence[MeasuredScan],
    unit: str,
    resolution: float,
    origin: Any,
) -> list[Measure]:
    """Measure one frame; the arguments are those of `measure_all`, with canonical axes."""
    import torch

    from convnd_tasks.modalities.volumes import look_metrics

    compared = scan.valid & torch.isfinite(after)
    if not bool(compared.any()):
        raise InputFileError(
            "evaluate",
            expected="voxels with a value in scan and result that are not padding",
            got="none",
            remedy="give a scan and a result with values",
        )
    padding = ~scan.valid & torch.isfinite(after)
    changed = (after != scan.values)[padding].double()
    result = torch.where(compared, after, scan.values)
    before = look_metrics.MeasuredScan.measure(scan, unit, resolution)
    noise = before.noise_of_result(result)
    labels = before.tissues()
    span = _span(scan)
    body = (labels.labels > 0).numpy()
    return [
        *_differences(scan, result, compared, unit, span),
        *([_changed_background(100 * float(changed.mean()))] if len(changed) else []),
        *look_metrics.compare_tissues(before, labels, result, noise, unit),
        *look_metrics.compare_noise(before, noise, styles, unit),
        *look_metrics.compare_edges(before, result, styles),
        *look_metrics.compare_anatomy(before, result, noise, styles),
        *(_emphysema(scan, result) if unit == HOUNSFIELD else []),
        *_radiomics(
            scan, result, body, styles, _BIN_HU if unit == HOUNSFIELD else span / _LEVELS, origin
        ),
    ]


def _placement(content: Grid, result: Grid) -> Measure:
    """The largest distance between corresponding voxels; `check_same_voxels` limits it."""
    shift = largest_shift(content, result)
    return Measure(
        "placement",
        math.nan if shift is None else shift,
        unit="mm",
        against="content",
        meaning="largest distance between the positions of a voxel in both files"
        if shift is not None
        else "unknown, since a file has no affine; the positions are assumed to be equal",
    )


def _span(scan: Scan) -> float:
    """The range of 99 % of a scan's valid values, above 0."""
    import numpy as np

    values = scan.values[scan.valid].numpy()
    low, high = np.percentile(values, _RANGE)
    return float(high - low) or float(values.max() - values.min()) or 1.0


def _differences(
    scan: Scan, result: Tensor, compared: Tensor, unit: str, span: float
) -> list[Measure]:
    """Measures of the difference between scan and result.

    Args:
        scan: the scan.
        result: ``(D, H, W)``.
        compared: ``(D, H, W)``, bool; voxels with a value in both.
        unit: unit of the values, "" for none.
        span: range of the scan's values, for PSNR and SSIM.
    """
    import numpy as np

    from convnd_tasks.modalities.structural_similarity import structural_similarity
    from convnd_tasks.modalities.volumes import similarity

    before, after = scan.values.numpy(), result.numpy()
    change = (after - before)[compared.numpy()].astype(np.float64)
    value_range = f"{span:.4g}{unit and ' ' + unit}, the range of 99 % of the scan's values"
    share, rmse = 100 * float(compared.float().mean()), float(np.sqrt(np.square(change).mean()))
    largest = float(np.abs(change).max())
    psnr = similarity.peak_signal_to_noise(change, span)
    ssim = structural_similarity(scan.values, result, span, compared, mirrored=True)
    anatomy_error = similarity.anatomy_error(after, before, scan.spacing)
    rows = (
        ("compared", share, "%", "share of voxels that are neither padding nor missing"),
        ("bias", float(change.mean()), unit, "mean of result - scan"),
        ("rmse", rmse, unit, "root mean square of result - scan"),
        ("largest_difference", largest, unit, "largest magnitude of result - scan"),
        ("psnr", psnr, "dB", f"peak signal-to-noise ratio; peak {value_range}"),
        ("ssim", ssim, "", f"structural similarity to the scan; range {value_range}"),
        ("anatomy_error", anatomy_error, unit, "mean absolute difference after a blur of 2 mm"),
    )
    better = {"psnr": "higher", "ssim": "higher", "anatomy_error": "lower"}
    return [
        Measure(
            name, value, unit=unit, better=better.get(name, ""), against="content", meaning=meaning
        )
        for name, value, unit, meaning in rows
    ]


def _changed_background(share: float) -> Measure:
    meaning = "share of the constant background whose values changed"
    return Measure("changed_background", share, unit="%", against="content", meaning=meaning)


def _emphysema(scan: Scan, result: Tensor) -> list[Measure]:
    """The share of the lungs below -950 HU (Gevenois et al., 1996); empty without lungs."""
    from convnd_tasks.modalities.volumes.similarity import lung_mask
    from convnd_tasks.modalities.volumes.tissues import EMPHYSEMA

    before, after = scan.values.numpy(), result.numpy()
    lungs = lung_mask(before, scan.spacing)
    if lungs is None:
        return []
    return [
        Measure(
            "laa950",
            100 * float((after[lungs] < EMPHYSEMA).mean()),
            before=100 * float((before[lungs] < EMPHYSEMA).mean()),
            unit="%",
            meaning="share of the lungs below -950 HU",
        )
    ]


def _radiomics(
    scan: Scan,
    result: Tensor,
    body: Any,
    styles: Sequence[MeasuredScan],
    bin_width: float,
    origin: Any,
) -> list[Measure]:
    """Concordance of the radiomics of blocks with those of the scan and of the styles.

    Args:
        scan: the scan.
        result: ``(D, H, W)``.
        body: ``(D, H, W)``, a bool array; voxels of the patient.
        styles: the styles.
        bin_width: width of a grey level, in the unit of the values.
        origin: position of the scan's first voxel in mm.
    """
    from convnd_tasks.modalities.volumes.radiomics import Blocks, concordance, first_order, texture

    blocks = Blocks(body, scan.spacing, origin)
    others = [
        (style.scan, Blocks((style.tissues().labels > 0).numpy(), style.scan.spacing))
        for style in styles
    ]
    measures = []
    for name, function in (("first_order", first_order), ("texture", texture)):
        before, after = (
            blocks.features(values.numpy(), function, bin_width) for values in (scan.values, result)
        )
        parts = {key: concordance(values, after[key]) for key, values in before.items()}
        measures.append(
            Measure(
                f"{name}_ccc",
                _mean(parts),
                better="higher",
                against="content",
                parts=parts,
                meaning=f"concordance (CCC) of {len(blocks.boxes)} blocks' radiomics with the "
                "scan's",
            )
        )
        for other, style_blocks in others:
            target = style_blocks.features(other.values.numpy(), function, bin_width)
            measures.append(_style_concordance(name, before, after, target))
    return measures


def _style_concordance(name: str, before: Any, after: Any, target: Any) -> Measure:
    """Ranked concordance of features with the style's, which are {} for a scan without blocks."""
    from convnd_tasks.modalities.volumes.radiomics import concordance

    first, second = (
        {
            key: concordance(features[key], target[key], ranked=True)
            for key in features
            if key in target
        }
        for features in (before, after)
    )
    return Measure(
        f"{name}_ccc_style",
        _mean(second),
        before=_mean(first),
        better="higher",
        against="style",
        parts=second,
        meaning="concordance of blocks' radiomics, ranked, with the style's",
    )


def _mean(parts: dict[str, float]) -> float:
    return sum(parts.values()) / len(parts) if parts else math.nan


def _join(frames: Sequence[Sequence[Measure]]) -> list[Measure]:
    """Average the measures of the frames of a series; their parts are the frames."""
    if len(frames) == 1:
        return list(frames[0])
    by_name: dict[str, list[Measure | None]] = {}
    for number, frame in enumerate(frames):
        for measure in frame:
            by_name.setdefault(measure.name, [None] * len(frames))[number] = measure
    meaning = "number of frames; every other measure is the mean over frames"
    joined = [Measure("frames", len(frames), meaning=meaning)]
    for rows in by_name.values():
        known = [row for row in rows if row is not None]

        def mean(values: list[float | None]) -> float | None:
            numbers = [value for value in values if value is not None and not math.isnan(value)]
            return sum(numbers) / len(numbers) if numbers else None

        value = mean([row.value for row in known])
        joined.append(
            dataclasses.replace(
                known[0],
                value=math.nan if value is None else value,
                before=mean([row.before for row in known]),
                style=mean([row.style for row in known]),
                parts={
                    f"frame {number + 1}": math.nan if row is None else row.value
                    for number, row in enumerate(rows)
                },
            )
        )
    return joined
