"""Measures of a scan and its result: differences, tissues, noise, edges, anatomy and radiomics.

The same serves for a result and a reference, such as the same patient with another kernel.
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
    from convnd_tasks.modalities.volumes.look import Scan
    from convnd_tasks.modalities.volumes.look_metrics import Look

__all__ = ["measure_all"]

_EMPHYSEMA = -950.0  # HU
_RANGE = (0.5, 99.5)  # percentiles of the scan between which values are the range of PSNR and SSIM
_LEVELS = 64  # grey levels of radiomics in that range, where values have no unit


def measure_all(content: Grid, result: Grid, styles: Sequence[Grid]) -> list[Measure]:
    """Measure a result against its scan and its style.

    Of a series, every frame is measured; a measure is the mean over frames, and its parts are the
    frames.

    Args:
        content: the scan, spacing in mm.
        result: has the scan's shape.
        styles: volumes are in the scan's unit, or without a unit as the scan; noise, edges and
            radiomics are compared with the first volume among them.

    Raises:
        InputFileError: scan and result are of different shapes or units, lie in different places
            or share no voxel; or the style is in another unit.
        DependencyError: scipy is missing.
    """
    from convnd_tasks.modalities.volumes.look import Scan
    from convnd_tasks.modalities.volumes.look_metrics import Look
    from convnd_tasks.modalities.volumes.options import VolumeOptions
    from convnd_tasks.modalities.volumes.units import StyleUnits

    import_optional("scipy", "evaluate", extra="volumes")
    check_same_voxels(content, result)
    volumes = [style for style in styles if style.ndim == 3][:1]
    units = StyleUnits(content, volumes, VolumeOptions())
    unit = value_unit(content) or units.unit
    scans = [Scan.of(values, spacing) for values, spacing in units.canonical_styles()]
    axes = Orientation(content)
    resolution = max(min(spacing) for spacing in (axes.spacing, *(s.spacing for s in scans)))
    looks = [Look.of(scan, unit, resolution) for scan in scans]
    origin = canonical_origin(content)
    frames = []
    for frame in range(content.values.shape[1]):
        before, after = (
            axes.to_canonical(grid.values[:, frame : frame + 1])[0, 0] for grid in (content, result)
        )
        frames.append(
            _measure_frame(Scan.of(before, axes.spacing), after, looks, unit, resolution, origin)
        )
    factors = [
        Measure("style_factor", factor, meaning="the style's values are multiplied by it first")
        for factor in units.factors
        if factor != 1
    ]
    return [_placement(content, result), *factors, *_join(frames)]


def _measure_frame(
    scan: Scan, after: Tensor, styles: Sequence[Look], unit: str, resolution: float, origin: Any
) -> list[Measure]:
    import torch

    from convnd_tasks.modalities.volumes import look_metrics

    compared = scan.valid & torch.isfinite(after)
    if not bool(compared.any()):
        raise InputFileError(
            "evaluate",
            expected="voxels that neither are padding nor miss a value",
            got="none",
            remedy="give a scan and a result with values",
        )
    padding = ~scan.valid & torch.isfinite(after)
    changed = float((after != scan.values)[padding].float().mean()) if padding.any() else None
    result = torch.where(compared, after, scan.values)
    before = look_metrics.Look.of(scan, unit, resolution)
    noise = before.noise_of_result(result)
    labels = before.tissues()
    span = _span(scan)
    body = (labels.labels > 0).numpy()
    return [
        *_differences(scan, result, compared, unit, span),
        *_padding(changed),
        *look_metrics.tissues(before, labels, result, noise, unit),
        *look_metrics.noises(before, noise, styles, unit),
        *look_metrics.edges(before, result, styles),
        *look_metrics.anatomy(before, result, noise, styles, unit),
        *(_emphysema(scan, result) if unit == HOUNSFIELD else []),
        *_radiomics(
            scan, result, body, styles, 25.0 if unit == HOUNSFIELD else span / _LEVELS, origin
        ),
    ]


def _placement(content: Grid, result: Grid) -> Measure:
    """How far corresponding voxels are apart; far ones were refused."""
    shift = largest_shift(content, result)
    return Measure(
        "placement",
        math.nan if shift is None else shift,
        unit="mm",
        against="content",
        meaning="largest distance between the places of a voxel in both files"
        if shift is not None
        else "a file does not say where its voxels are; they are taken for the same",
    )


def _span(scan: Scan) -> float:
    import numpy as np

    values = scan.values[scan.valid].numpy()
    low, high = np.percentile(values, _RANGE)
    return float(high - low) or float(values.max() - values.min()) or 1.0


def _differences(
    scan: Scan, result: Tensor, compared: Tensor, unit: str, span: float
) -> list[Measure]:
    """What changed from the scan to the result, in the unit of their values."""
    import numpy as np

    from convnd_tasks.modalities.volumes import similarity

    before, after = scan.values.numpy(), result.numpy()
    change = (after - before)[compared.numpy()].astype(np.float64)
    value_range = f"{span:.4g}{unit and ' ' + unit}, the range of 99 % of the scan's values"
    rows = (
        (
            "compared",
            100 * float(compared.float().mean()),
            "%",
            "voxels neither padding nor missing",
        ),
        ("bias", float(change.mean()), unit, "mean of result - scan"),
        (
            "rmse",
            float(np.sqrt(np.square(change).mean())),
            unit,
            "root mean square of result - scan",
        ),
        (
            "largest_difference",
            float(np.abs(change).max()),
            unit,
            "largest magnitude of result - scan",
        ),
        (
            "psnr",
            similarity.peak_signal_to_noise(change, span),
            "dB",
            f"peak signal-to-noise ratio; peak {value_range}",
        ),
        (
            "ssim",
            similarity.structural_similarity(before, after, span, compared.numpy()),
            "",
            f"structural similarity to the scan; range {value_range}",
        ),
        (
            "anatomy_error",
            similarity.anatomy_error(after, before, scan.spacing),
            unit,
            "mean absolute difference after a blur of 2 mm",
        ),
    )
    better = {"psnr": "higher", "ssim": "higher", "anatomy_error": "lower"}
    return [
        Measure(
            name, value, unit=unit, better=better.get(name, ""), against="content", meaning=meaning
        )
        for name, value, unit, meaning in rows
    ]


def _padding(changed: float | None) -> list[Measure]:
    if changed is None:
        return []
    meaning = "share of a constant background whose values changed"
    return [
        Measure("changed_background", 100 * changed, unit="%", against="content", meaning=meaning)
    ]


def _emphysema(scan: Scan, result: Tensor) -> list[Measure]:
    """The share of dark lung (Gevenois et al., 1996); nothing where the scan shows no lungs."""
    from convnd_tasks.modalities.volumes.similarity import lung_mask

    before, after = scan.values.numpy(), result.numpy()
    lungs = lung_mask(before, scan.spacing)
    if lungs is None:
        return []
    return [
        Measure(
            "laa950",
            100 * float((after[lungs] < _EMPHYSEMA).mean()),
            before=100 * float((before[lungs] < _EMPHYSEMA).mean()),
            unit="%",
            meaning="share of the lungs below -950 HU",
        )
    ]


def _radiomics(
    scan: Scan, result: Tensor, body: Any, styles: Sequence[Look], bin_width: float, origin: Any
) -> list[Measure]:
    """Concordance of the radiomics of blocks with those of the scan and of the style."""
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
        for other, places in others:
            target = places.features(other.values.numpy(), function, bin_width)
            first, second = (
                {key: concordance(features[key], target[key], ranked=True) for key in features}
                if target
                else {}
                for features in (before, after)
            )
            measures.append(
                Measure(
                    f"{name}_ccc_style",
                    _mean(second),
                    before=_mean(first),
                    better="higher",
                    against="style",
                    parts=second,
                    meaning="concordance of blocks' radiomics, ranked, with the style's",
                )
            )
    return measures


def _mean(parts: dict[str, float]) -> float:
    return sum(parts.values()) / len(parts) if parts else math.nan


def _join(frames: Sequence[Sequence[Measure]]) -> list[Measure]:
    """The measures of a series: means over frames, and the frames as parts."""
    if len(frames) == 1:
        return list(frames[0])
    by_name: dict[str, list[Measure | None]] = {}
    for number, frame in enumerate(frames):
        for measure in frame:
            by_name.setdefault(measure.name, [None] * len(frames))[number] = measure
    meaning = "every figure is the mean over frames, and its parts are the frames"
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
