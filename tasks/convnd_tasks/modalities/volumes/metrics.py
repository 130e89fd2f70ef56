"""Measures of volumes: change in the unit of the scan, noise texture, radiomics, emphysema."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.reading import import_optional
from convnd_tasks.modalities.metrics import Measure
from convnd_tasks.modalities.volumes.geometry import (
    HOUNSFIELD,
    placement_difference,
    value_unit,
)
from convnd_tasks.modalities.volumes.orientation import canonical_array

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["measure_all"]

_BLOCK = 24.0  # mm along each side of a block whose radiomics are compared
_EMPHYSEMA = -950.0  # HU
_AIR = -1024.0  # HU, in place of values that are not finite


def measure_all(content: Grid, result: Grid, styles: Sequence[Grid]) -> list[Measure]:
    """Measure a result against its scan and its style; of a series the first frame.

    Args:
        content: the scan, spacing in mm.
        result: has the scan's shape.
        styles: noise and radiomics are compared with the first volume among them.

    Raises:
        InputFileError: scan and result are of different shapes, or lie in different places.
        DependencyError: scipy is missing.
    """
    import numpy as np

    import_optional("scipy", "evaluate", extra="volumes")

    if content.shape != result.shape:
        raise InputFileError(
            f"evaluate: expected two volumes of one shape, got {content.shape} and "
            f"{result.shape}; give the scan and what was made of it"
        )
    difference = placement_difference(content, result)
    if difference:
        raise InputFileError(
            f"evaluate: expected two volumes of the same voxels, got {difference}; resample one "
            "of them onto the other"
        )
    unit = value_unit(content)
    before, spacing = canonical_array(content)
    after, _ = canonical_array(result)
    finite = np.isfinite(before) & np.isfinite(after)
    before, after = np.where(finite, before, _AIR), np.where(finite, after, _AIR)
    measures = [
        *_against_content(before, after, finite, spacing, unit),
        *(_emphysema(before, after, spacing) if unit == HOUNSFIELD else []),
    ]
    volumes = [style for style in styles if style.ndim == 3]
    if volumes:
        style, style_spacing = canonical_array(volumes[0])
        measures += _noise_distances(before, after, spacing, style, style_spacing)
        measures += _radiomics(before, after, spacing, style, style_spacing)
    return measures


def _against_content(
    before: Any, after: Any, finite: Any, spacing: Sequence[float], unit: str
) -> list[Measure]:
    """What changed from the scan to the result, in the unit of their values."""
    import numpy as np

    from convnd_tasks.modalities.volumes import noise_spectra

    change = (after - before)[finite]
    span = float(np.subtract(*np.percentile(before[finite], [99.5, 0.5]))) or 1.0
    return [
        Measure(
            "bias",
            float(change.mean()),
            unit=unit,
            against="content",
            meaning="mean of result - scan",
        ),
        Measure(
            "rmse",
            float(np.sqrt((change**2).mean())),
            unit=unit,
            against="content",
            meaning="root mean square of result - scan",
        ),
        Measure(
            "anatomy_error",
            noise_spectra.anatomy_error(after, before, spacing),
            unit=unit,
            better="lower",
            against="content",
            meaning="mean absolute difference after a blur of 2 mm",
        ),
        Measure(
            "ssim",
            noise_spectra.structural_similarity(before, after, span),
            better="higher",
            against="content",
            meaning="structural similarity to the scan",
        ),
        Measure(
            "edge_sharpness",
            noise_spectra.edge_sharpness(after, spacing, before),
            before=noise_spectra.edge_sharpness(before, spacing, before),
            unit=f"{unit or 1}/mm",
            meaning="median slope at the scan's strongest edges",
        ),
    ]


def _emphysema(before: Any, after: Any, spacing: Sequence[float]) -> list[Measure]:
    """The share of dark lung; nothing where the scan shows no lungs."""
    from convnd_tasks.modalities.volumes.noise_spectra import lung_mask

    lungs = lung_mask(before, spacing)
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


def _noise_distances(
    before: Any, after: Any, spacing: Sequence[float], style: Any, style_spacing: Sequence[float]
) -> list[Measure]:
    """How far the noise power spectrum of each tissue is from the style's."""
    from convnd_tasks.modalities.volumes.noise import TISSUES, noise_spectrum, spectrum_distance

    measures = []
    for tissue in TISSUES:
        distances = (math.nan, math.nan)
        try:
            target = noise_spectrum(style, style_spacing, tissue=tissue)
            first, second = (
                spectrum_distance(
                    noise_spectrum(volume, spacing, tissue=tissue, guide=before), target
                )
                for volume in (before, after)
            )
            distances = (first, second)
        except InputFileError:
            pass  # the scan or the style has too little of this tissue
        measures.append(
            Measure(
                f"noise_distance_{tissue}",
                distances[1],
                before=distances[0],
                better="lower",
                against="style",
                meaning=f"noise power spectrum in {tissue} tissue: share in the wrong place",
            )
        )
    return measures


def _radiomics(
    before: Any, after: Any, spacing: Sequence[float], style: Any, style_spacing: Sequence[float]
) -> list[Measure]:
    """Concordance of the radiomics of blocks with the style's."""
    from convnd_tasks.modalities.volumes.noise_spectra import concordance, first_order, texture

    measures = []
    for name, function in (("first_order", first_order), ("texture", texture)):
        target = _block_features(style, style_spacing, function)
        parts: list[dict[str, float]] = []
        for volume in (before, after):
            features = _block_features(volume, spacing, function)
            parts.append(
                {
                    key: concordance(*_quantiles(features[key], target[key]))
                    for key in features
                    if key in target  # a volume without a block inside a body has no features
                }
            )
        means = [sum(part.values()) / len(part) if part else math.nan for part in parts]
        measures.append(
            Measure(
                f"{name}_ccc",
                means[1],
                before=means[0],
                better="higher",
                against="style",
                parts=parts[1],
                meaning="concordance of radiomics over blocks, ranked, with the style's",
            )
        )
    return measures


def _block_features(
    volume: Any, spacing: Sequence[float], function: Callable[[Any], Mapping[str, float]]
) -> dict[str, list[float]]:
    """Radiomics of every block of 24 mm inside the body, by name."""
    side = [max(1, round(_BLOCK / step)) for step in spacing]
    side = [min(length, extent) for length, extent in zip(side, volume.shape, strict=True)]
    starts = [
        range(0, extent - length + 1, length)
        for length, extent in zip(side, volume.shape, strict=True)
    ]
    features: dict[str, list[float]] = {}
    for start in itertools.product(*starts):
        corners = zip(start, side, strict=True)
        block = volume[tuple(slice(first, first + length) for first, length in corners)]
        if (block > -990).mean() < 0.5:
            continue  # air around the patient
        for name, value in function(block).items():
            features.setdefault(name, []).append(value)
    return features


def _quantiles(one: list[float], other: list[float]) -> tuple[Any, Any]:
    # Blocks of two patients do not correspond; their distributions do, rank by rank.
    import numpy as np

    shares = np.linspace(0.02, 0.98, 49)
    return np.quantile(one, shares), np.quantile(other, shares)
