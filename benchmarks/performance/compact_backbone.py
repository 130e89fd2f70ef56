"""Quality of a smaller backbone: its pictures against those of VGG-19, judged by VGG-19.

The script stylises every pair with VGG-19 and the default weights. It then searches the content
weight at which the other backbone's result has the same content energy in the feature space of
VGG-19, and compares the remaining style energies.

    python -m benchmarks.performance.compact_backbone --size 256 --steps 150 --out pictures/
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import time
from pathlib import Path

import torch

from benchmarks.common import Judge, picture
from benchmarks.measurement import Table, add_json_option, write_results
from convnd import Grid, io
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.style_transfer import StyleTransfer

PAIRS = (
    ("town", "waves"),
    ("landscape", "waves"),
    ("town", "cells"),
    ("landscape", "marble"),
    ("town", "ink"),
    ("landscape", "dots"),
)


def stylize(
    options: TransferOptions, content: torch.Tensor, style: torch.Tensor
) -> tuple[torch.Tensor, float]:
    """The result and the seconds of one step at the finest size."""
    transfer = StyleTransfer(options, spatial_dims=2, in_channels=3)
    seconds = []
    previous = time.perf_counter()
    progress = None
    for progress in transfer.run(TransferProblem(content, [style])):
        now = time.perf_counter()
        if progress.phase == progress.phases:
            seconds.append(now - previous)
        previous = now
    assert progress is not None
    return progress.values, statistics.median(seconds)


def match_content(
    options: TransferOptions,
    content: torch.Tensor,
    style: torch.Tensor,
    judge: Judge,
    target: float,
    tries: int,
) -> tuple[torch.Tensor, float, float, float, float]:
    """Result, style energy, content energy, weight and seconds at content energy ``target``."""
    low, high = math.log(options.content_weight / 8), math.log(options.content_weight * 8)
    best = None
    for _ in range(tries):
        weight = math.exp((low + high) / 2)
        result, seconds = stylize(
            dataclasses.replace(options, content_weight=weight), content, style
        )
        style_energy, content_energy = judge(result)
        if best is None or abs(content_energy - target) < abs(best[2] - target):
            best = (result, style_energy, content_energy, weight, seconds)
        if abs(content_energy / target - 1) < 0.02:
            break
        # More weight on the content leaves less of its energy.
        low, high = (low, math.log(weight)) if content_energy < target else (math.log(weight), high)
    assert best is not None
    return best


def main() -> None:
    """Stylise all pairs, print the table, and keep pictures and figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--backbone", default="compact")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--pair", nargs=2, action="append", help="files instead of built-in pairs")
    parser.add_argument("--out", type=Path, help="folder for the pictures")
    add_json_option(parser)
    args = parser.parse_args()
    options = TransferOptions(size=args.size, steps=args.steps)
    pairs: list[str] = []
    rows: list[dict[str, float]] = []
    for names in args.pair or PAIRS:
        content = picture(names[0], args.size, role="content")
        style = picture(names[1], args.size, role="style")
        judge = Judge(content, style)
        reference, seconds = stylize(options, content, style)
        style_energy, content_energy = judge(reference)
        result, other_left, other_kept, weight, other_seconds = match_content(
            dataclasses.replace(options, backbone=args.backbone),
            content,
            style,
            judge,
            content_energy,
            args.tries,
        )
        start_left, _ = judge(content)
        pairs.append(" x ".join(Path(name).stem for name in names))
        rows.append(
            {
                "style_of_content": start_left,
                "vgg19_style": style_energy,
                "vgg19_content": content_energy,
                f"{args.backbone}_style": other_left,
                f"{args.backbone}_content": other_kept,
                "content_mismatch": other_kept / content_energy - 1,
                "content_weight": weight,
                "style_ratio": other_left / style_energy,
                "time_ratio": seconds / other_seconds,
            }
        )
        print(pairs[-1], json.dumps({k: round(v, 4) for k, v in rows[-1].items()}), flush=True)
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            row = torch.cat([content, reference.clamp(0, 1), result.clamp(0, 1)], 3)
            name = "_".join(Path(name).stem for name in names)
            io.write(
                args.out / f"{name}.png", Grid(values=row, channels=("R", "G", "B")), overwrite=True
            )
    summary = {
        "style_ratio_median": statistics.median(row["style_ratio"] for row in rows),
        "style_ratio_worst": max(row["style_ratio"] for row in rows),
        "time_ratio_median": statistics.median(row["time_ratio"] for row in rows),
    }
    print(json.dumps({name: round(value, 3) for name, value in summary.items()}))
    named_rows = [{"pair": pair, **row} for pair, row in zip(pairs, rows, strict=True)]
    title = f"{args.backbone} against VGG-19 at equal content"
    write_results(
        args.json, title, [Table(rows=named_rows), Table(rows=[summary], caption="All pairs")]
    )


if __name__ == "__main__":
    main()
