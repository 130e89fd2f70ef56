"""Which networks, sizes and numbers of steps give an equally good picture in the least time?

A schedule is a list of phases: a network, the size as a number of halvings, and steps. The script
stylises each pair of pictures with each schedule. It appends one line of JSON for each result to a
file: processor seconds, and the energies of `convnd evaluate` with VGG-19. Results that are already
in the file are not computed again. The pairs of `CHOOSING` serve to search for a schedule, those
of `JUDGING` to decide between the few best.

    python -m benchmarks.experiments.schedules run results.jsonl --pairs choosing --size 256
    python -m benchmarks.experiments.schedules table results.jsonl --pairs judging --json FILE
    python -m benchmarks.experiments.schedules sheet results.jsonl sheet.png
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import re
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from convnd_tasks.modalities.images.codec import color_moments, match_colors
from convnd_tasks.modalities.images.metrics import measure_all
from convnd_tasks.modalities.images.options import ImageOptions
from torch import Tensor

from benchmarks.common import picture
from benchmarks.measurement import add_json_option, write_results
from convnd import Grid, io
from convnd.losses import Objective
from convnd.optimize import Evaluation, Smoothing, evaluate_whole, refine
from convnd.optimize.minimizer import Minimizer
from convnd.transfer.style_transfer import StyleTransfer

CHOOSING = (
    ("astronaut.png", "ihc.png"),
    ("coffee.png", "hubble_deep_field.jpg"),
    ("china.jpg", "waves"),
    ("chelsea.png", "gravel.png"),
    ("motorcycle_left.png", "weave"),
    ("landscape", "flower.jpg"),
    ("town", "waves"),
    ("coffee.png", "marble"),
)
JUDGING = (
    ("camera.png", "brick.png"),
    ("landscape", "ink"),
    ("town", "flower.jpg"),
    ("rocket.jpg", "hubble_deep_field.jpg"),
    ("astronaut.png", "marble"),
    ("coffee.png", "retina.jpg"),
    ("motorcycle_right.png", "cells"),
    ("china.jpg", "grass.png"),
    ("flower.jpg", "dots"),
    ("chelsea.png", "ihc.png"),
    ("bodies", "weave"),
    ("cell.png", "china.jpg"),
)
PAIRS = {"choosing": CHOOSING, "judging": JUDGING}
REFERENCE = "v 2:30 1:30 0:40"

NETWORKS = {"v": "vgg19", "c": "compact"}


class Phase(NamedTuple):
    """Steps with one network at one size."""

    network: str
    halvings: int
    steps: int
    style_weight: float = ImageOptions.style_weight


def phases(schedule: str) -> Iterator[Phase]:
    """The phases of a schedule such as ``c 2:20 1:20 0:30 v 0:20``.

    A word ``w20`` sets the style weight of the phases after it.

    >>> list(phases("c 1:20 0:30 w20 v 0:10"))[-1]
    Phase(network='vgg19', halvings=0, steps=10, style_weight=20.0)
    """
    network, weight = "", ImageOptions.style_weight
    for word in schedule.split():
        if word in NETWORKS:
            network = NETWORKS[word]
        elif word.startswith("w"):
            weight = float(word[1:])
        elif word not in ("+", "!", "s", "m"):
            halvings, steps = map(int, word.split(":"))
            yield Phase(network, halvings, steps, weight)


@functools.cache
def transfer(network: str, style_weight: float) -> StyleTransfer:
    """A style transfer with this network."""
    options = ImageOptions(backbone=network, style_weight=style_weight)
    return StyleTransfer(options, spatial_dims=2, in_channels=3)


def find(name: str) -> str:
    """The path of a picture in scikit-image or scikit-learn, or the name of a sample."""
    if "." not in name or Path(name).exists():
        return name
    import skimage
    import sklearn.datasets

    folders = [
        Path(skimage.__file__).parent / "data",
        Path(sklearn.datasets.__file__).parent / "images",
    ]
    return str(next(folder / name for folder in folders if (folder / name).exists()))


def stylize(schedule: str, content: Tensor, style: Tensor) -> tuple[Tensor, list[list[float]]]:
    """The picture that a schedule makes, and the losses of its phases.

    Marks in a schedule: ``+`` keeps the memory of L-BFGS for the next phase, ``!`` keeps values
    within ``[0, 1]``, ``s`` preconditions L-BFGS (see `Smoothing`), and ``m`` starts from the
    content in the style's colours.
    """
    carry = "+" in schedule
    extent = tuple(content.shape[2:])
    origin = match_colors(content, color_moments(style)) if "m" in schedule.split() else content
    values, before, memory = origin, origin, None
    losses: list[list[float]] = []
    before_count = values.numel()
    for number, phase in enumerate(phases(schedule)):
        engine = transfer(phase.network, phase.style_weight)
        size = [round(length / 2**phase.halvings) for length in extent]
        here = engine.resizer.resize(content, size)
        start = here if origin is content else engine.resizer.resize(origin, size)
        if number == 0:
            values = start
        elif start.shape != values.shape:
            values = refine(values, size, (before, start))
        objective = engine.objective(here, [engine.resizer.style_at(style, size)], [1.0, 1.0])
        evaluate = evaluate_inside if "!" in schedule else evaluate_whole
        precondition = Smoothing(size) if "s" in schedule.split() else None
        minimizer = Minimizer(objective, values, evaluate=evaluate, precondition=precondition)
        losses.append([minimizer.advance().loss])
        if carry and memory:
            minimizer._optimizer.inherit(memory, values.numel() / before_count)
        for _ in range(phase.steps):
            losses[-1].append(minimizer.advance().loss)
        memory, before_count = dict(minimizer._optimizer.state), values.numel()
        values, before = minimizer.finish().values, start
    return values, losses


def evaluate_inside(objective: Objective, x: Tensor) -> Evaluation:
    """The objective of the values clamped to the range of a picture.

    Outside the range, no gradient leads further away from it.
    """
    evaluation = evaluate_whole(objective, x.clamp(0, 1))
    outwards = ((x < 0) & (evaluation.gradient > 0)) | ((x > 1) & (evaluation.gradient < 0))
    return dataclasses.replace(
        evaluation, gradient=evaluation.gradient.masked_fill(outwards, 0.0).contiguous()
    )


def read(path: Path) -> list[dict[str, Any]]:
    """The results so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def image_path(path: Path, row: dict[str, Any]) -> Path:
    """The path of a result's picture."""
    name = re.sub(
        r"[^A-Za-z0-9+]+",
        "-",
        f"{Path(row['content']).stem} {Path(row['style']).stem} {row['size']} {row['schedule']}",
    )
    return path.parent / f"{path.stem}-pictures" / f"{name}.png"


def run(args: argparse.Namespace) -> None:
    """Make the results that are missing."""
    done = {
        (row["content"], row["style"], row["size"], row["schedule"]) for row in read(args.results)
    }
    pairs = [*(tuple(pair.split("=")) for pair in args.pair), *PAIRS.get(args.pairs, ())][
        : args.limit
    ]
    for schedule in args.schedules:
        for names in pairs:
            if (*names, args.size, schedule) in done:
                continue
            content = picture(find(names[0]), args.size, role="content")[:, :3].expand(1, 3, -1, -1)
            # At the size of its file, up to twice the result: the engine resizes it to each size.
            style = picture(find(names[1]), args.size, role="style")[:, :3].expand(1, 3, -1, -1)
            for phase in phases(schedule):
                transfer(phase.network, phase.style_weight)  # loading does not count
            start = time.process_time()
            result, losses = stylize(schedule, content, style)
            seconds = time.process_time() - start
            grids = [
                Grid(values=values.clamp(0, 1), channels=("R", "G", "B"))
                for values in (content, result, style)
            ]
            measures = {m.name: m.value for m in measure_all(grids[0], grids[1], [grids[2]])}
            row = {
                "content": names[0],
                "style": names[1],
                "size": args.size,
                "schedule": schedule,
                "seconds": round(seconds, 2),
                "style_energy": measures["style_energy"],
                "content_energy": measures["content_energy"],
                "losses": [[float(f"{loss:.5g}") for loss in phase] for phase in losses],
            }
            path = image_path(args.results, row)
            path.parent.mkdir(exist_ok=True)
            io.write(path, grids[1], overwrite=True)
            with args.results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(
                schedule,
                *names,
                row["seconds"],
                row["style_energy"],
                row["content_energy"],
                flush=True,
            )


def table(args: argparse.Namespace) -> None:
    """Ratios to the reference for each schedule: median and worst."""
    rows = [r for r in read(args.results) if r["size"] == args.size]
    if args.pairs in PAIRS:
        rows = [r for r in rows if (r["content"], r["style"]) in PAIRS[args.pairs]]
    by = {(r["schedule"], r["content"], r["style"]): r for r in rows}
    lines = []
    for schedule in dict.fromkeys(r["schedule"] for r in rows):
        ratios: dict[str, list[float]] = {"style": [], "content": [], "seconds": []}
        for name, content, style in by:
            reference = by.get((REFERENCE, content, style))
            if name == schedule and reference is not None:
                row = by[name, content, style]
                for kind, key in (
                    ("style", "style_energy"),
                    ("content", "content_energy"),
                    ("seconds", "seconds"),
                ):
                    ratios[kind].append(row[key] / reference[key])
        if ratios["style"]:
            line: dict[str, Any] = {"schedule": schedule, "pairs": len(ratios["style"])}
            for kind, values in ratios.items():
                line[kind] = round(statistics.median(values), 3)
                line[f"{kind}, worst"] = round(max(values), 3)
            lines.append(line)
    for line in sorted(lines, key=lambda line: -float(line["seconds"])):
        print(
            "  ".join(f"{value!s:>8}" for key, value in line.items() if key != "schedule"),
            line["schedule"],
        )
    write_results(
        args.json,
        "Schedules of networks",
        lines,
        section="Pictures",
        summary=f"Ratios to {REFERENCE}, median and worst of the pairs for {args.pairs}: style and "
        "content energy by convnd evaluate, processor seconds. v is VGG-19, c compact; 2:30 is 30 "
        "steps at a quarter of the size; w is the style weight, + keeps what L-BFGS has learnt, ! "
        "cuts colours.",
        target="No energy more than 3 % above the reference.",
        conditions="256 px, one thread, bfloat16; other programs ran on the machine.",
    )


def sheet(args: argparse.Namespace) -> None:
    """Pictures side by side: a row for each pair, a column for each schedule."""
    rows = [r for r in read(args.results) if r["size"] == args.size]
    pairs = (
        PAIRS[args.pairs]
        if args.pairs in PAIRS
        else tuple(dict.fromkeys((r["content"], r["style"]) for r in rows))
    )
    lines = []
    for pair in pairs:
        line = []
        for schedule in args.schedules:
            row = next(
                r for r in rows if (r["content"], r["style"]) == pair and r["schedule"] == schedule
            )
            values = io.read(image_path(args.results, row)).values
            line.append(
                torch.nn.functional.pad(
                    values,
                    (0, 4 + args.size - values.shape[3], 0, 4 + args.size - values.shape[2]),
                    value=1.0,
                )
            )
        lines.append(torch.cat(line, 3))
    io.write(args.out, Grid(values=torch.cat(lines, 2), channels=("R", "G", "B")), overwrite=True)


def main() -> None:
    """Run, print a table, or draw a sheet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=("run", "table", "sheet"))
    parser.add_argument("results", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument(
        "--pairs", default="choosing", help="set of pairs: choosing, judging or none"
    )
    parser.add_argument("--pair", action="append", default=[], help="CONTENT=STYLE, two files")
    parser.add_argument("--limit", type=int, help="largest number of pairs")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--schedule", action="append", dest="schedules")
    add_json_option(parser)
    args = parser.parse_args()
    args.schedules = args.schedules or [REFERENCE]
    {"run": run, "table": table, "sheet": sheet}[args.command](args)


if __name__ == "__main__":
    main()
