"""The tables of `scan_boxes`, from its rows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measurement import Table, write_results

_SUMMARY = (
    "spectrum left: distance of the noise spectrum to the truth's, in % of the content's "
    "distance; left beside clean: the same of what other slices add beyond the noise that they "
    "add without the known one; edges: % by which the slope of edges misses the truth, 5 voxels "
    "from the "
    "background; mean: largest change of the mean of a tissue from the scan's, in HU or % "
    "of its value, where sharpness changes 4 voxels away from other tissues, else 2; bone: "
    "the same of bone in CT, in HU; to truth: 2 voxels away from other tissues, from the "
    "truth's, that of bone in %; of truth: how far the known "
    "change itself moves them from the scan's; CNR: contrast-to-noise ratio over that of "
    "the truth; thin: contrast of thin structures over the expected one; largest: change "
    "of a voxel in standard deviations of the noise of its tissue; LAA-950: % of the lungs "
    "in content, truth and result; Dice: mean over Otsu's two and three classes, and that "
    "of the truth, whose noise changes classes too; background, range: voxels that changed "
    "or left the range of the scan."
)
_TARGET = (
    "spectrum left at most 20, edges within 15, mean at most 2 HU or 1 %, bone 2 HU (to "
    "truth 1 %), "
    "thin 0.9 to 1.1, largest at most 6, Dice at least 0.98 or what the noise explains, "
    "background and range 0"
)


def write_tables(
    rows: list[dict[str, Any]], path: Path | None, *, development: str, conditions: str
) -> None:
    """Write the tables of the limits that runs hold, and that of all runs.

    Args:
        rows: the rows of all runs.
        path: the JSON file.
        development: prefixes of the names of boxes that were seen, separated by commas.
        conditions: conditions of the measurement.
    """
    write_results(
        path,
        "The look of scans: known answers and harm",
        [
            *(
                Table(rows=_limits_held(part), caption=f"Runs that hold each limit, {name}")
                for name, part in _by_development(rows, development).items()
                if part
            ),
            Table(rows=[_in_short(row) for row in rows], caption="Every run"),
        ],
        section="Volumes",
        conditions=conditions,
        summary=_SUMMARY,
        target=_TARGET,
    )


def former_rows(paths: list[Path]) -> list[dict[str, Any]]:
    """The rows that earlier runs printed."""
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    return [json.loads(line) for line in lines if line.startswith('{"box"')]


def _by_development(rows: list[dict[str, Any]], prefix: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of boxes that were seen during development, and those of held-out boxes."""
    prefixes = tuple(prefix.split(","))
    seen = [row for row in rows if row["box"].startswith(prefixes)]
    others = [row for row in rows if not row["box"].startswith(prefixes)]
    return {"boxes that were seen": seen, "held-out boxes": others}


def _limits_held(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The number of runs of each style that stay within each limit."""

    def dice(row: Mapping[str, Any], classes: int) -> bool:
        truth = row.get(f"Dice {classes} of truth", 1.0)
        return bool(row[f"Dice {classes}"] >= min(0.98, truth - 0.01))

    limits: dict[str, Callable[[Mapping[str, Any]], bool]] = {
        "spectrum left": lambda row: row["spectrum left"] <= 20,
        "left beside clean": lambda row: row["left beside clean"] <= 20,
        "edges": lambda row: abs(row["edges"]) <= 15,
        "mean": lambda row: row["mean"] <= (2 if "LAA-950" in row else 1),
        "bone": lambda row: row["bone"] <= 2,
        "mean to truth": lambda row: row["mean to truth"] <= (2 if "LAA-950" in row else 1),
        "bone to truth": lambda row: row["bone to truth"] <= 1,
        "thin": lambda row: 0.9 <= row["thin"] <= 1.1,
        "largest": lambda row: row["largest"] <= 6,
        "Dice 2": lambda row: dice(row, 2),
        "Dice 3": lambda row: dice(row, 3),
        "background": lambda row: row["background"] == 0,
        "range": lambda row: row["range"] == 0,
    }
    table = []
    for style in dict.fromkeys(row["style"] for row in rows):
        line = {"style": style}
        for name, holds in limits.items():
            judged = [row for row in rows if row["style"] == style and _is_number(row.get(name))]
            line[name] = f"{sum(map(holds, judged))} of {len(judged)}" if judged else ""
        refused = sum(row["outcome"] != "done" for row in rows if row["style"] == style)
        table.append({**line, "refused": str(refused or "")})
    return table


def _is_number(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _in_short(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row that the table of all runs shows."""
    names = (
        *("box", "style", "strength", "sharpness", "spectrum left", "left by another draw"),
        "left beside clean",
        *("edges", "mean", "bone", "mean to truth", "mean of truth"),
        *("bone to truth", "bone of truth", "CNR", "thin", "largest", "LAA-950"),
        *("Dice 2", "Dice 2 of truth", "Dice 3", "Dice 3 of truth", "background", "range"),
        *("seconds", "commit"),
    )
    short = {name: row.get(name) for name in names}
    short = {
        name: "" if value is None or value != value else value for name, value in short.items()
    }
    if row["outcome"] != "done":
        short["sharpness"] = str(row["outcome"]).partition(";")[0]
    return short
