"""Flicker of clips at equal style energy, and seconds per frame with their shares.

The clip is stylised with motion; then each frame by itself, stopped as soon as its style energy is
that which the frame has with motion. E_warp (Lai et al., 2018) is of the lossless frames, along the
flow of the input. Style and content energies are those of the original VGG-19 as well, which made
neither.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from common import Judge, machine, picture
from convnd_tasks.flow import motion, warping_error
from convnd_tasks.samples.clips import FilmClip
from convnd_tasks.video_input import Part
from convnd_tasks.video_job import mean_of
from convnd_tasks.video_keeping import FrameStore, rounded
from convnd_tasks.video_options import VideoOptions
from convnd_tasks.videos import Finished, VideoTransfer
from torch import Tensor

from convnd import io


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", help="a file; left out: the built-in film")
    parser.add_argument("--style", default="waves", help="a file or the name of a sample")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--steps", type=int, default=VideoOptions.steps)
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--backbone", default=VideoOptions.backbone)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    clip: io.Clip
    if args.clip is None:
        clip = FilmClip((args.frames, 3 * args.size // 8 * 2, args.size))
    else:
        clip = io.open_clip(args.clip)
    frame = 1 / (clip.info.rate or Fraction(25))
    part = Part(end=frame * (args.frames - Fraction(1, 2)))
    style = picture(args.style, 512, role="style")
    options = VideoOptions(
        backbone=args.backbone, size=args.size, steps=args.steps, passes=args.passes
    )
    transfer = VideoTransfer(options, [style])
    with tempfile.TemporaryDirectory() as folder:
        store = FrameStore(Path(folder) / "clip")
        store.open("benchmark", resume=False)
        began = time.perf_counter()
        done = list(transfer.run(clip, store, part))
        if args.passes > 1:
            done = list(transfer.run_back(store, len(done)))[::-1]
        seconds = time.perf_counter() - began
    alone = [_alone(transfer, each, options.style_weight) for each in done]
    records = [each.record for each in done]
    contents = [each.content for each in done]
    steps = [record["steps"] for record in records]
    result = {
        "machine": machine(),
        "options": {**vars(args), "json": None, "frames": len(done)},
        "flow": {
            **_figures(contents, [each.values for each in done], style),
            "style_of_own_backbone": statistics.mean(map(_style, records)) / options.style_weight,
            "steps_of_first": steps[0],
            "steps_of_later": statistics.mean(steps[1:] or steps),
        },
        "independent": {
            **_figures(contents, [values for values, _, _ in alone], style),
            "style_of_own_backbone": statistics.mean(energy for _, energy, _ in alone),
            "steps": statistics.mean(steps for _, _, steps in alone),
        },
        "input_e_warp": mean_of(records, "input_e_warp"),
        "seconds_per_frame": seconds / len(done),
        "seconds_of_later_frames": _shares(records[1:] or records),
    }
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))


def _alone(
    transfer: VideoTransfer, done: Finished, style_weight: float
) -> tuple[Tensor, float, int]:
    """A frame by itself, with the style energy of the frame that motion has made."""
    wanted = _style(done.record)
    for progress in transfer.transfer.run(done.content, transfer.styles):
        values, reached, steps = progress.values, progress.parts["style"], progress.step
        if progress.scale == progress.scales and reached <= wanted:
            break
    return rounded(values), reached / style_weight, steps


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


def _shares(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds of a frame by what they went into; flow and codec run beside the features."""
    found = {key: mean_of(records, key) for key in ("features", "flow", "codec")}
    total = sum(found.values())
    return {**found, **{f"share_{key}": value / total for key, value in found.items()}}


if __name__ == "__main__":
    main()
