"""Figures and tables of the report about a stylised video."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from convnd_tasks.modalities.metrics import finite_or_none
from convnd_tasks.modalities.results import Figure, Table
from convnd_tasks.modalities.video.figures import plot_timeline
from convnd_tasks.modalities.video.result import mean_of

if TYPE_CHECKING:
    from convnd.io import VideoInfo
    from convnd_tasks.modalities.video.result import VideoResult

__all__ = ["describe_result", "draw_figures", "list_measures"]


def draw_figures(result: VideoResult) -> list[Figure]:
    """Make the figures: frames, their middle column over time, and measures of every frame.

    Args:
        result: a written result; its previews are collected while it is written.
    """
    return [
        Figure(
            "sheet",
            "Frames from the whole video: the input above, the result below.",
            result.previews.sheet,
        ),
        Figure(
            "slit",
            "The middle column of pixels of every frame, side by side: the input above, the "
            "result below. Time runs to the right. Even motion is a slanting line; flicker is "
            "upright stripes.",
            result.previews.slit_scan,
        ),
        Figure(
            "timeline",
            "For every frame: the terms of the loss; the warping error E_warp, which is the "
            "mean squared difference to the frame before, moved along the optical flow; and "
            "the seconds of work. A dotted line is a new scene.",
            partial(plot_timeline, result.records),
        ),
    ]


def list_measures(info: VideoInfo, result: VideoResult) -> list[Table]:
    """Make the tables: means over frames, and properties of the video.

    Args:
        info: properties of the input.
        result: the result.
    """
    records = result.records
    measures = [
        ("E_warp of the result", finite_or_none(result.e_warp)),
        ("E_warp of the input", finite_or_none(result.input_e_warp)),
        ("frames", len(records)),
        ("scenes", result.scenes),
        ("steps per frame", mean_of(records, "steps")),
        *(
            (f"seconds per frame, {key}", mean_of(records, key))
            for key in ("features", "flow", "codec")
        ),
        ("seconds to encode", result.encoding_seconds),
    ]
    video = [
        ("size of the input", f"{info.size[1]} x {info.size[0]}"),
        ("size of the result", f"{result.size[1]} x {result.size[0]}"),
        ("frames per second", "not known" if info.rate is None else str(info.rate)),
        ("time base", f"{info.time_base} s"),
        ("pixel aspect", str(info.aspect)),
        ("sound", ", ".join(info.audio) or "none"),
        ("damage", result.damage or "none"),
    ]
    return [
        Table("Frames (E_warp: Lai et al., 2018)", ("measure", "value"), measures),
        Table("The video", ("property", "value"), video),
    ]


def describe_result(result: VideoResult) -> tuple[str, dict[str, Any]]:
    """Describe a result, see `Modality.describe`.

    Args:
        result: the result.
    """
    count, new_count = len(result.records), result.new_frames
    text = f"{result.size[1]}x{result.size[0]}, {count} frame{'' if count == 1 else 's'}"
    text += f", {result.scenes} scenes" if result.scenes > 1 else ""
    if not math.isnan(result.e_warp):
        text += f", E_warp {result.e_warp:.3g} (input {result.input_e_warp:.3g})"
    text += f", {result.seconds / new_count:.1f} s per frame" if new_count else ""
    return text, {
        "shape": list(result.size),
        "frames": count,
        "frames_kept_before": count - new_count,
        "scenes": result.scenes,
        "steps": result.total("steps"),
        "rejected_steps": result.total("rejected_steps"),
        "e_warp": result.e_warp,
        "input_e_warp": result.input_e_warp,
    }
