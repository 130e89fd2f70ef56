"""Volumes measured in the language of CT: HU, noise texture, radiomics, emphysema."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convnd import io
from convnd.errors import DependencyError, InputFileError
from convnd_tasks.modalities.metrics import Measure

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["measure_all"]

_BLOCK = 24.0  # mm along each side of a block whose radiomics are compared
_EMPHYSEMA = -950.0


def measure_all(content: Grid, result: Grid, styles: Sequence[Grid]) -> list[Measure]:
    """Figures for a volume made of a scan and styles; the first frame of a series.

    Args:
        content: the scan, values in HU, spacing in mm.
        result: of the scan's shape.
        styles: the first volume among them is what noise and radiomics are compared with.

    Raises:
        InputFileError: scan and result are of different shapes.
        DependencyError: scipy is missing.
    """
    try:
        import scipy  # noqa: F401
    except ImportError as error:
        raise DependencyError(
            "evaluate: expected the package scipy, got none; install it: "
            'pip install "convnd-toolkit[volumes]"'
        ) from error
    import numpy as np

    from convnd_tasks.modalities.volumes import noise_spectra

    if content.shape != result.shape:
        raise InputFileError(
            f"evaluate: expected two volumes of one shape, got {content.shape} and "
            f"{result.shape}; give the scan and what was made of it"
        )
    before, spacing = _turned(content)
    after, _ = _turned(result)
    finite = np.isfinite(before) & np.isfinite(after)
    before, after = np.where(finite, before, -1024.0), np.where(finite, after, -1024.0)
    change = (after - before)[finite]
    span = float(np.subtract(*np.percentile(before[finite], [99.5, 0.5]))) or 1.0
    found = [
        Measure(
            name="bias",
            value=float(change.mean()),
            unit="HU",
            against="content",
            meaning="mean of result - scan",
        ),
        Measure(
            name="rmse",
            value=float(np.sqrt((change**2).mean())),
            unit="HU",
            against="content",
            meaning="root mean square of result - scan",
        ),
        Measure(
            name="anatomy_error",
            value=noise_spectra.anatomy_error(after, before, spacing),
            unit="HU",
            better="lower",
            against="content",
            meaning="mean absolute difference after a blur of 2 mm",
        ),
        Measure(
            name="ssim",
            value=noise_spectra.structural_similarity(before, after, span),
            better="higher",
            against="content",
            meaning="structural similarity to the scan",
        ),
        Measure(
            name="edge_sharpness",
            value=noise_spectra.edge_sharpness(after, spacing, before),
            before=noise_spectra.edge_sharpness(before, spacing, before),
            unit="HU/mm",
            meaning="median slope at the scan's strongest edges",
        ),
    ]
    lungs = noise_spectra.lung_mask(before, spacing)
    if lungs is not None:
        found.append(
            Measure(
                name="laa950",
                value=100 * float((after[lungs] < _EMPHYSEMA).mean()),
                before=100 * float((before[lungs] < _EMPHYSEMA).mean()),
                unit="%",
                meaning="share of the lungs below -950 HU",
            )
        )
    volumes = [style for style in styles if style.ndim == 3]
    if volumes:
        found += _against_style(before, after, spacing, *_turned(volumes[0]))
    return found


def _against_style(
    before: Any, after: Any, spacing: tuple[float, ...], style: Any, style_spacing: Any
) -> list[Measure]:
    from convnd_tasks.modalities.volumes.noise import TISSUES, noise_spectrum, spectrum_distance
    from convnd_tasks.modalities.volumes.noise_spectra import concordance, first_order, texture

    found = []
    for tissue in TISSUES:
        values = (math.nan, math.nan)
        try:
            wanted = noise_spectrum(style, style_spacing, tissue=tissue)
            first, second = (
                spectrum_distance(
                    noise_spectrum(each, spacing, tissue=tissue, guide=before), wanted
                )
                for each in (before, after)
            )
            values = (first, second)
        except InputFileError:
            pass  # this tissue does not occur in both
        found.append(
            Measure(
                name=f"noise_distance_{tissue}",
                value=values[1],
                before=values[0],
                better="lower",
                against="style",
                meaning=f"noise power spectrum in {tissue} tissue: share in the wrong place",
            )
        )
    for name, of in (("first_order", first_order), ("texture", texture)):
        wanted_features = _features(style, style_spacing, of)
        kept: list[dict[str, float]] = []
        for each in (before, after):
            features = _features(each, spacing, of)
            kept.append(
                {
                    key: concordance(*_quantiles(features[key], wanted_features[key]))
                    for key in features
                }
            )
        mean = [sum(each.values()) / len(each) for each in kept]
        found.append(
            Measure(
                name=f"{name}_ccc",
                value=mean[1],
                before=mean[0],
                better="higher",
                against="style",
                parts=kept[1],
                meaning="concordance of radiomics over blocks, ranked, with the style's",
            )
        )
    return found


def _features(volume: Any, spacing: Sequence[float], of: Any) -> dict[str, list[float]]:
    """Radiomics of every block of 24 mm that is inside the body, by name."""
    side = [max(1, round(_BLOCK / step)) for step in spacing]
    side = [min(n, extent) for n, extent in zip(side, volume.shape, strict=True)]
    found: dict[str, list[float]] = {}
    for i in range(0, volume.shape[0] - side[0] + 1, side[0]):
        for j in range(0, volume.shape[1] - side[1] + 1, side[1]):
            for k in range(0, volume.shape[2] - side[2] + 1, side[2]):
                part = volume[i : i + side[0], j : j + side[1], k : k + side[2]]
                if (part > -990).mean() < 0.5:
                    continue  # air around the patient
                for name, value in of(part).items():
                    found.setdefault(name, []).append(value)
    return found


def _quantiles(one: list[float], other: list[float]) -> tuple[Any, Any]:
    # Blocks of two patients do not correspond; their distributions do, rank by rank.
    import numpy as np

    places = np.linspace(0.02, 0.98, 49)
    return np.quantile(one, places), np.quantile(other, places)


def _turned(scan: Grid) -> tuple[Any, tuple[float, ...]]:
    """The first frame with axes towards head, front and right, and its spacing."""
    import numpy as np

    order = io.anatomical_axes(scan)
    values = scan.values[0, 0].detach().cpu().numpy().transpose([axis for axis, _ in order])
    values = np.flip(values, tuple(n for n, (_, against) in enumerate(order) if against))
    return values, tuple(scan.spacing[axis] for axis, _ in order)
