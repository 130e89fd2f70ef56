"""Flicker of videos at equal style energy, and the time of a frame by activity.

The script stylises the video along its motion. Then it stylises each frame alone, up to the step at
which its style energy is closest to that of the same frame along the motion; this may need many
more steps. E_warp (Lai et al., 2018) is measured on lossless frames, along the flow of the input.
Style and content energies are also measured in the feature space of the original VGG-19, which made
neither result.

    python -m benchmarks.performance.video_flicker --clip clip.mp4 --frames 6 --json flicker.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from convnd_tasks.modalities.video.flow import estimate_flow, warping_error
from convnd_tasks.modalities.video.frame_cache import FrameCache, quantize
from convnd_tasks.modalities.video.frame_optimizer import FrameOptimizer
from convnd_tasks.modalities.video.frames import FrameStylizer
from convnd_tasks.modalities.video.input import (
    FrameRange,
    StylizedFrame,
    VideoSource,
    working_size,
)
from convnd_tasks.modalities.video.options import VideoOptions
from convnd_tasks.modalities.video.result import mean_of
from convnd_tasks.modalities.video.second_pass import run_second_pass
from convnd_tasks.samples.video import SampleVideo
from torch import Tensor

from benchmarks.common import Judge, picture
from benchmarks.measurement import Table, add_json_option, write_results
from convnd import io
from convnd.transfer.problem import TransferProblem
from convnd.transfer.progress import Progress
from convnd.transfer.style_transfer import StyleTransfer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", help="video file (default: the built-in video)")
    parser.add_argument("--style", default="waves", help="picture file or sample")
    parser.add_argument("--start", type=Fraction, default=Fraction(0), help="of the video, in s")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--steps", type=int, default=VideoOptions.steps)
    parser.add_argument("--most", type=int, default=600, help="most steps of a frame alone")
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--backbone", default=VideoOptions.backbone)
    add_json_option(parser)
    args = parser.parse_args()
    clip: io.Video
    if args.clip is None:
        clip = SampleVideo((args.frames, 3 * args.size // 8 * 2, args.size))
    else:
        clip = io.open_video(args.clip)
    frame_time = 1 / (clip.info.rate or Fraction(25))
    end = args.start + frame_time * (args.frames - Fraction(1, 2))
    source = VideoSource(
        video=clip,
        size=working_size(clip, args.size),
        frame_range=FrameRange(start=args.start, end=end),
    )
    style = picture(args.style, 512, role="style")
    options = VideoOptions(
        backbone=args.backbone, size=args.size, steps=args.steps, passes=args.passes
    )
    optimizer = FrameOptimizer(options, [style])
    stylizer = FrameStylizer(options, optimizer)
    with tempfile.TemporaryDirectory() as folder:
        cache = FrameCache(Path(folder) / "clip")
        cache.open(options, [], resume=False)
        start, work = time.perf_counter(), time.process_time()
        frames = _finished(stylizer.run(source, cache))
        if args.passes > 1:
            frames = _finished(run_second_pass(optimizer, cache, len(frames)))[::-1]
        seconds, work = time.perf_counter() - start, time.process_time() - work
        start = time.perf_counter()
        io.write_video(
            Path(folder) / "clip.mp4",
            dataclasses.replace(clip.info, audio=()),
            (io.VideoFrame(frame.record["pts"], frame.values) for frame in frames),
        )
        encoding = (time.perf_counter() - start) / len(frames)
    single = StyleTransfer(
        dataclasses.replace(options, steps=args.most), spatial_dims=2, in_channels=3
    )
    independent = [_stylize_frame(single, optimizer.styles, frame) for frame in frames]
    records = [frame.record for frame in frames]
    contents = [frame.content for frame in frames]
    steps = [record["steps"] for record in records]
    result: dict[str, Any] = {
        "options": {
            **{name: value for name, value in vars(args).items() if name != "json"},
            "start": float(args.start),
            "frames": len(frames),
            "size": list(contents[0].shape[2:]),
        },
        "flow": {
            **_figures(contents, [frame.values for frame in frames], style),
            "style_of_own_backbone": statistics.mean(map(_style, records)) / options.style_weight,
            "steps_of_first": steps[0],
            "steps_of_later": statistics.mean(steps[1:] or steps),
        },
        "independent": {
            **_figures(contents, [values for values, _, _ in independent], style),
            "style_of_own_backbone": statistics.mean(energy for _, energy, _ in independent)
            / options.style_weight,
            "steps": statistics.mean(steps for _, _, steps in independent),
        },
        "input_e_warp": mean_of(records, "input_e_warp"),
        "seconds_per_frame": seconds / len(frames),
        "processor_seconds_per_frame": work / len(frames),
        "seconds_of_later_frames": _shares(records[1:] or records, encoding),
    }
    result["independent_to_flow"] = {
        key: value / result["flow"][key]
        for key, value in result["independent"].items()
        if key in result["flow"]
    }
    print(json.dumps(result, indent=1))
    groups = {name: value for name, value in result.items() if isinstance(value, dict)}
    groups["input and time"] = {n: value for n, value in result.items() if n not in groups}
    tables = [Table(rows=[value], caption=name) for name, value in groups.items()]
    write_results(args.json, "Flicker at equal style energy", tables)


def _finished(items: Iterable[Progress | StylizedFrame]) -> list[StylizedFrame]:
    return [item for item in items if isinstance(item, StylizedFrame)]


def _stylize_frame(
    transfer: StyleTransfer, styles: Sequence[Tensor], frame: StylizedFrame
) -> tuple[Tensor, float, int]:
    """One frame stylised alone, at the style energy closest to that of the frame in the video."""
    target = _style(frame.record)
    nearest: tuple[Tensor, float, int] | None = None
    for progress in transfer.run(TransferProblem(frame.content, styles)):
        if progress.phase < progress.phases:
            continue
        reached = progress.parts["style"]
        if nearest is None or abs(reached - target) < abs(nearest[1] - target):
            nearest = quantize(progress.values), reached, progress.step
        if reached <= target:
            break
    assert nearest is not None
    return nearest


def _figures(
    contents: Sequence[Tensor], results: Sequence[Tensor], style: Tensor
) -> dict[str, float]:
    errors = [
        warping_error(results[t], results[t + 1], estimate_flow(contents[t], contents[t + 1]))
        for t in range(len(results) - 1)
    ]
    size = max(contents[0].shape[2:])
    style_picture = picture_at(style, size)
    judged = [
        Judge(content, style_picture)(values)
        for content, values in list(zip(contents, results, strict=True))[
            :: max(1, len(results) // 3)
        ]
    ]
    return {
        "e_warp": statistics.mean(errors) if errors else float("nan"),
        "style_of_vgg19": statistics.mean(energy for energy, _ in judged),
        "content_of_vgg19": statistics.mean(energy for _, energy in judged),
    }


def picture_at(style: Tensor, size: int) -> Tensor:
    """The style picture, resized so that its longest side equals that of the frames."""
    from convnd.nn import resize_nd

    ratio = size / max(style.shape[2:])
    extent = [max(16, round(length * ratio)) for length in style.shape[2:]]
    return resize_nd(style, extent, mode="linear", antialias=True)


def _style(record: Mapping[str, Any]) -> float:
    return float(record["parts"]["style"])


def _shares(records: Sequence[Mapping[str, Any]], encoding: float) -> dict[str, float]:
    """Seconds of a frame by activity; flow and decoding run at the same time as the features."""
    seconds = {key: mean_of(records, key) for key in ("features", "flow")}
    seconds |= {"decoding": mean_of(records, "codec"), "encoding": encoding}
    total = sum(seconds.values())
    return {**seconds, **{f"share_{key}": value / total for key, value in seconds.items()}}


if __name__ == "__main__":
    main()
