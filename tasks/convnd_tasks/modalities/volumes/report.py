"""The report of a stylised volume: one HTML file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convnd_tasks.modalities.volumes.metrics import measure_all
from convnd_tasks.pipeline.report import Report

if TYPE_CHECKING:
    from convnd.grid import Grid
    from convnd_tasks.modalities.volumes.options import VolumeOptions
    from convnd_tasks.modalities.volumes.scan import VolumeResult

__all__ = ["write"]


def write(
    path: Path,
    content: Grid,
    styles: Sequence[Grid],
    grid: Grid,
    result: VolumeResult,
    options: VolumeOptions,
    *,
    scan: str,
    style_names: Sequence[str],
    figure: bytes,
    overwrite: bool,
) -> None:
    """Write pictures, measures, geometry and options of one run.

    Args:
        path: the report.
        content: the scan.
        styles: what it was given.
        grid: the result as it was written.
        result: what the run has to say.
        options: of the run.
        scan: name of the scan.
        style_names: names of the styles.
        figure: the montage as PNG.
        overwrite: replace an existing report.

    Raises:
        OutputExistsError: it exists and ``overwrite`` is false.
        OutputFileError: it cannot be written there.
    """
    report = Report(
        f"{Path(scan).name}, stylised", lead=f"In the style of {', '.join(style_names)}."
    )
    report.section("Pictures")
    report.figure(figure, "Middle axial, coronal and sagittal slice; the loss at every step.")
    report.section("Measures", "Result against scan and style; definitions: convnd evaluate.")
    rows = [
        [
            each.name,
            each.value if math.isfinite(each.value) else None,
            each.before if each.before is not None and math.isfinite(each.before) else None,
            each.unit,
            each.meaning,
        ]
        for each in measure_all(content, grid, styles)
    ]
    report.table(["measure", "result", "scan", "unit", "what it is"], rows)
    report.section("Geometry")
    report.table(
        ["", "extent", "spacing"],
        [
            [
                name,
                " x ".join(map(str, each.shape)),
                " x ".join(f"{step:g}" for step in each.spacing) + f" {each.units[0]}",
            ]
            for name, each in (("scan", content), *zip(style_names, styles, strict=True))
        ],
    )
    report.section("How it was made", "\n\n".join(result.remarks))
    report.table(["option", "value"], [list(pair) for pair in options.record().items()])
    report.write(path, overwrite=overwrite)
