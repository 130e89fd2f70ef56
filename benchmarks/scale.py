"""Memory and time of an evaluation against the size of its input, whole and in tiles.

Every row is a process of its own: an objective with content, style and smoothness on noise, and
one evaluation after a warm-up that fills caches. Time is per position of the input.

    python benchmarks/scale.py --dim 2 --sizes 512 1024 2048 --tile 512 off --json scale.json
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time

import torch
from common import machine, peak_mib
from convnd_tasks.memory import Budget
from convnd_tasks.options import StyleOptions
from convnd_tasks.style_transfer import StyleTransfer

from convnd.optimize import TiledEvaluation, evaluate_whole


def measure(args: argparse.Namespace, size: int, tile: str) -> dict[str, object]:
    """One row."""
    options = StyleOptions(
        backbone=args.backbone,
        precision=args.precision,
        optimizer="adam",
        smoothness=0.1,
        size=0,
        tile=tile,
        memory=args.memory,
    )
    channels = 3 if args.dim == 2 else 1
    transfer = StyleTransfer(options, spatial_dims=args.dim, in_channels=channels)
    generator = torch.Generator().manual_seed(0)
    extent = (size,) * args.dim
    content = torch.rand((1, channels, *extent), generator=generator)
    style = torch.rand((1, channels, *[min(size, 256)] * args.dim), generator=generator)
    budget = Budget(options, transfer.backbone, transfer.device, 1)
    tiler = budget.tiler(extent)
    objective = transfer.objective(
        content,
        [style],
        [1.0] * args.dim,
        tiler=tiler,
        keep=tiler is None or budget.keeps_content(extent),
    )
    evaluate = evaluate_whole if tiler is None else TiledEvaluation(tiler)
    seconds = []
    for _ in range(args.repeats):
        began = time.perf_counter()
        evaluate(objective, content)
        seconds.append(time.perf_counter() - began)
    row: dict[str, object] = {
        "size": size,
        "tile": tile,
        "seconds": round(min(seconds), 3),
        "us_per_position": round(min(seconds) / math.prod(extent) * 1e6, 4),
        "peak_mib": round(peak_mib()),
    }
    if tiler is not None:
        tiling = tiler.tiling(transfer.backbone, options.layers, extent)
        row |= {"tiles": len(tiling), "own": tiling.tile, "excess": round(tiling.excess, 2)}
    return row


def main() -> None:
    """Measure, print a line for each row, and write JSON when asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--dim", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--tile", nargs="+", default=["auto"], help="auto, off or numbers")
    parser.add_argument("--memory", default="auto")
    parser.add_argument("--backbone", default="vgg19")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json")
    parser.add_argument("--row", nargs=2, metavar=("SIZE", "TILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        print(json.dumps(measure(args, int(args.row[0]), args.row[1])))
        return
    rows = []
    for size in args.sizes:
        for tile in args.tile:
            command = [sys.executable, *sys.argv, "--row", str(size), tile]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append(json.loads(done.stdout))
            print(json.dumps(rows[-1]), flush=True)
    if args.json:
        with open(args.json, "w") as file:  # noqa: PTH123
            json.dump({"machine": machine(), "options": vars(args), "rows": rows}, file, indent=2)


if __name__ == "__main__":
    main()
