"""Flicker of clips at equal style energy, and seconds per frame with their shares.

The clip is stylised with motion; then each frame by itself, until its style energy is nearest to
that which the frame has with motion, for which it may take many more steps. E_warp (Lai et al.,
2018) is of the lossless frames, along the flow of the input. Style and content energies are those
of the original VGG-19 as well, which made neither.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from convnd_tasks.modalities.video.flow import motion, warping_error
from convnd_tasks.modalities.video.frames import Finished, VideoTransfer
from convnd_tasks.modalities.video.input import Part
from convnd_tasks.modalities.video.job import mean_of
from convnd_tasks.modalities.video.keeping import FrameStore, rounded
from convnd_tasks.modalities.video.options import VideoOptions
from convnd_tasks.samples.video import SampleVideo
from torch import Tensor

from benchmarks.common import Judge, picture
from benchmarks.measurement import Table, add_json_option, write_results
from convnd import io
from convnd.transfer.style_transfer import StyleTransfer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", help="a file; left out: the built-in film")
    parser.add_argument("--style", default="waves", help="a file or the name of a sample")
    parser.add_argument("--start", type=Fraction, default=Fraction(0), help="seconds")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--steps", type=int, default=VideoOptions.steps)
    parser.add_argument("--most", type=int, default=600, help="steps of an independent frame")
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--backbone", default=VideoOptions.backbone)
    add_json_option(parser)
    args = parser.parse_args()
    clip: io.Video
    if args.clip is None:
        clip = SampleVideo((args.frames, 3 * args.size // 8 * 2, args.size))
    else:
        clip = io.open_video(args.clip)
    frame = 1 / (clip.info.rate or Fraction(25))
    part = Part(start=args.start, end=args.start + frame * (args.frames - Fraction(1, 2)))
    style = picture(args.style, 512, role="style")
    options = VideoOptions(
        backbone=args.backbone, size=args.size, steps=args.steps, passes=args.passes
    )
    transfer = VideoTransfer(options, [style])
    with tempfile.TemporaryDirectory() as folder:
        store = FrameStore(Path(folder) / "clip")
        store.open("benchmark", resume=False)
        began, worked = time.perf_counter(), time.process_time()
        done = list(transfer.run(clip, store, part))
        if args.passes > 1:
            done = list(transfer.run_back(store, len(done)))[::-1]
        seconds, worked = time.perf_counter() - began, time.process_time() - worked
        began = time.perf_counter()
        io.write_video(
            Path(folder) / "clip.mp4",
            dataclasses.replace(clip.info, audio=()),
            (io.VideoFrame(each.record["pts"], each.values) for each in done),
        )
        encoding = (time.perf_counter() - began) / len(done)
    single = StyleTransfer(
        dataclasses.replace(options, steps=args.most), spatial_dims=2, in_channels=3
    )
    alone = [_alone(single, transfer.styles, each) for each in done]
    records = [each.record for each in done]
    contents = [each.content for each in done]
    steps = [record["steps"] for record in records]
    result: dict[str, Any] = {
        "options": {
            **{name: value for name, value in vars(args).items() if name != "json"},
            "start": float(args.start),
            "frames": len(done),
            "size": list(contents[0].shape[2:]),
        },
        "flow": {
            **_figures(contents, [each.values for each in done], style),
            "style_of_own_backbone": statistics.mean(map(_style, records)) / options.style_weight,
            "steps_of_first": steps[0],
            "steps_of_later": statistics.mean(steps[1:] or steps),
        },
        "independent": {
            **_figures(contents, [values for values, _, _ in alone], style),
            "style_of_own_backbone": statistics.mean(energy for _, energy, _ in alone)
            / options.style_weight,
            "steps": statistics.mean(steps for _, _, steps in alone),
        },
        "input_e_warp": mean_of(records, "input_e_warp"),
        "seconds_per_frame": seconds / len(done),
        "processor_seconds_per_frame": worked / len(done),
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


def _alone(
    transfer: StyleTransfer, styles: Sequence[Tensor], done: Finished
) -> tuple[Tensor, float, int]:
    """A frame by itself, with the style energy nearest to that of the frame made with motion."""
    wanted = _style(done.record)
    nearest: tuple[Tensor, float, int] | None = None
    for progress in transfer.run(done.content, styles):
        if progress.scale < progress.scales:
            continue
        reached = progress.parts["style"]
        if nearest is None or abs(reached - wanted) < abs(nearest[1] - wanted):
            nearest = rounded(progress.values), reached, progress.step
        if reached <= wanted:
            break
    assert nearest is not None
    return nearest


def _figures(
    contents: Sequence[Tensor], results: Sequence[Tensor], style: Tensor
) -> dict[str, float]:
    errors = [
        warping_error(results[t], results[t + 1], motion(contents[t], contents[t + 1]))
        for t in range(len(results) - 1)
    ]
    size = max(contents[0].shape[2:])
    seen = picture_at(style, size)
    judged = [
        Judge(content, seen)(values)
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
    """A style with its longest side as long as that of the frames."""
    from convnd.nn import resize_nd

    ratio = size / max(style.shape[2:])
    extent = [max(16, round(each * ratio)) for each in style.shape[2:]]
    return resize_nd(style, extent, mode="linear", antialias=True)


def _style(record: Mapping[str, Any]) -> float:
    return float(record["parts"]["style"])


def _shares(records: Sequence[Mapping[str, Any]], encoding: float) -> dict[str, float]:
    """Seconds of a frame by what they went into; flow and decoding run beside the features."""
    found = {key: mean_of(records, key) for key in ("features", "flow")}
    found |= {"decoding": mean_of(records, "codec"), "encoding": encoding}
    total = sum(found.values())
    return {**found, **{f"share_{key}": value / total for key, value in found.items()}}


if __name__ == "__main__":
    main()
