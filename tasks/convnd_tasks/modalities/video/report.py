"""The report of a stylised clip: one HTML file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convnd_tasks.modalities.video.figures import course
from convnd_tasks.modalities.video.job import mean_of
from convnd_tasks.pipeline.report import Report

if TYPE_CHECKING:
    from convnd.io import VideoInfo
    from convnd_tasks.modalities.video.job import VideoOutcome
    from convnd_tasks.modalities.video.options import VideoOptions

__all__ = ["write"]


def write(
    path: Path,
    info: VideoInfo,
    outcome: VideoOutcome,
    options: VideoOptions,
    *,
    names: Sequence[str],
    overwrite: bool,
) -> None:
    """Write pictures, measures, the clip's facts and the options of one run.

    Args:
        path: the report.
        info: of the clip.
        outcome: of the run.
        options: of the run.
        names: of clip and styles.
        overwrite: replace an existing report.

    Raises:
        OutputExistsError: it exists and ``overwrite`` is false.
        OutputFileError: it cannot be written there.
    """
    report = Report(
        f"{Path(names[0]).name}, stylised", lead=f"In the style of {', '.join(names[1:])}."
    )
    report.section("Pictures")
    report.figure(outcome.gallery.sheet(), "Frames of the input, and of the result below.")
    report.figure(
        outcome.gallery.slit_scan(),
        "The middle column of every frame, side by side: input above, result below. What moves "
        "evenly is a slanting line; flicker would stand upright.",
    )
    report.section("Frame by frame")
    report.figure(
        course(outcome.records, "svg"),
        "Loss by term, warping error against the frame before, and seconds. Dotted: a new scene.",
    )
    report.section(
        "Measures",
        "E_warp after Lai et al. (2018): mean squared difference between a frame and the next one "
        "warped back along the flow of the input, over pixels whose flow can be relied on.",
    )
    records = outcome.records
    rows: list[list[object]] = [
        ["E_warp of the result", _known(mean_of(records, "e_warp"))],
        ["E_warp of the input", _known(mean_of(records, "input_e_warp"))],
        ["frames", len(records)],
        ["scenes", outcome.scenes],
        ["steps per frame", mean_of(records, "steps")],
        *(
            [f"seconds per frame, {key}", mean_of(records, key)]
            for key in ("features", "flow", "codec")
        ),
        ["seconds to encode", outcome.encoding],
    ]
    report.table(["measure", "value"], rows)
    report.section("The clip", outcome.damage)
    report.table(
        ["", "value"],
        [
            ["size of the input", f"{info.size[1]} x {info.size[0]}"],
            ["size of the result", f"{outcome.size[1]} x {outcome.size[0]}"],
            ["frames per second", "not known" if info.rate is None else str(info.rate)],
            ["time base", f"{info.time_base} s"],
            ["pixel aspect", str(info.aspect)],
            ["sound", ", ".join(info.audio) or "none"],
        ],
    )
    report.section("How it was made")
    report.table(["option", "value"], [list(pair) for pair in options.record().items()])
    report.write(path, overwrite=overwrite)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
