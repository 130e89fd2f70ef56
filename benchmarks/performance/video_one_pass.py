"""Videos in one pass of a network: frames a second, E_warp and memory.

Each clip is stylised by ``--instant``, by a trained network if one is given, and optimised along
the flow. Times are of the whole command, from its start to the written file; and without its start
and the loading of the network, as the difference to a run of the first quarter. E_warp is that of
``convnd evaluate`` on lossless results. Memory is the peak of the command, for all frames and for
the first quarter.

    python -m benchmarks.performance.video_one_pass --network style.safetensors --json FILE
    python -m benchmarks.performance.video_one_pass --clip clip.mp4 --seconds 2 --optimise
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from convnd_tasks.samples.video import SampleVideo

from benchmarks.measurement import add_json_option, write_results
from convnd import io

RATE = 25


def command(*words: object) -> tuple[dict[str, Any], float, float]:
    """The JSON that a command prints, its seconds, and its processor seconds."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    arguments = [sys.executable, "-m", "convnd", *map(str, words), "--json"]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    work = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return json.loads(done.stdout), seconds, work


def measure(clip: Path, words: list[str], args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Figures of one way for one clip."""
    frame_range = ["--to", args.seconds]
    out = folder / "result.mkv"
    fixed = ["--size", args.size, "--crf", "0", "--no-figures", "--overwrite", "-o", out]
    quarter, first, first_work = command(
        "stylize-video", clip, *words, "--to", args.seconds / 4, *fixed
    )
    whole, seconds, work = command("stylize-video", clip, *words, *frame_range, *fixed)
    (result,) = whole["results"]
    measures, _, _ = command("evaluate", clip, out, *frame_range)
    e_warp = measures["measures"]["e_warp"]["value"]
    more = result["frames"] - quarter["results"][0]["frames"]
    return {
        "size": "x".join(map(str, reversed(result["shape"]))),
        "frames": result["frames"],
        "frames a second, whole command": round(result["frames"] / seconds, 1),
        "frames a second": round(more / (seconds - first), 1),
        "processor seconds a frame": round((work - first_work) / more, 3),
        "E_warp": float(f"{e_warp:.3g}"),
        "MiB, a quarter of the frames": round(quarter["peak_memory"] / 2**20),
        "MiB": round(whole["peak_memory"] / 2**20),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clip", type=Path, help="video file (default: the built-in one, 320x240)")
    parser.add_argument("--style", default="waves", help="picture file or sample")
    parser.add_argument("--network", type=Path, help="file of convnd train")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--seconds", type=float, default=4.0, help="of the clip")
    parser.add_argument("--optimise", action="store_true", help="also along the flow")
    add_json_option(parser)
    args = parser.parse_args()
    ways = {
        "instant": [args.style, "--instant"],
        "instant, independent frames": [args.style, "--instant", "--mode", "independent"],
    }
    if args.network:
        ways["trained network"] = [str(args.network)]
        ways["trained network, independent frames"] = [
            *(str(args.network), "--mode", "independent"),
        ]
    if args.optimise:
        ways["optimised along the flow"] = [args.style]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        clip = args.clip
        if clip is None:
            clip = Path(name) / "built-in.mp4"
            video = SampleVideo((int(RATE * args.seconds), 240, 320))
            io.write_video(clip, video.info, video.frames())
        for way, words in ways.items():
            rows.append({"clip": clip.name, "way": way, **measure(clip, words, args, Path(name))})
            print(*rows[-1].values(), sep="  ", flush=True)
    write_results(args.json, "Videos in one pass", rows, section="Video")


if __name__ == "__main__":
    main()
