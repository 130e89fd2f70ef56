"""Memory and time of an evaluation against the size of its input, whole and in tiles.

Every row runs in a process of its own: an objective with content, style and smoothness on noise.
A row shows the best of ``--repeats`` evaluations: wall time and processor time (user and system)
per position of the input.

    python -m benchmarks.performance.scaling --sizes 512 1024 --tile 512 off --json scaling.json

``--processes 1 2 4`` repeats each row with 1, 2 and 4 processes of one thread each, which share the
work; peak memory is then that of the largest process.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from convnd_tasks.runtime.plots import encode, new_figure

from benchmarks.common import peak_mib
from benchmarks.measurement import add_json_option, write_results
from convnd.malloc import tune_malloc
from convnd.optimize import (
    Evaluator,
    ProcessGroup,
    ShardedEvaluation,
    ShardedField,
    TiledEvaluation,
    evaluate_whole,
)
from convnd.optimize.evaluation import targets, tiled
from convnd.transfer.memory import MemoryBudget
from convnd.transfer.memory_model import MemoryModel
from convnd.transfer.options import TransferOptions
from convnd.transfer.style_transfer import StyleTransfer

SCRIPT = "benchmarks.performance.scaling"


def measure(args: argparse.Namespace, size: int, tile: str) -> dict[str, object]:
    """Measures one row of the table."""
    options = TransferOptions(
        backbone=args.backbone,
        precision=args.precision,
        optimizer=args.optimizer,
        tv_weight=0.1,
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
    group = ProcessGroup.current()
    shards = ShardedField(extent, group) if group.size > 1 else None
    transfer.resolve_layers(extent)
    options = transfer.options
    location = (content.device, tuple(content.shape[2:]))
    model = MemoryModel(
        options, transfer.backbone, transfer.device, group=group, content_location=location
    )
    budget = MemoryBudget(model)
    resident = psutil.Process().memory_info().rss
    plan = budget.plan(extent)
    tiler = plan.tiler
    if args.only:
        for module, name in (
            (tiled, "forward_pass"),
            (tiled, "backward_pass"),
            (targets, "tile_features"),
        ):
            setattr(module, name, _first(getattr(module, name), args.only))
    objective = transfer.objective(
        content,
        [style],
        [1.0] * args.dim,
        tiler=tiler,
        keep=tiler is None or plan.keep_content,
        shards=shards,
    )
    evaluate: Evaluator = evaluate_whole if tiler is None else TiledEvaluation(tiler)
    iterate = content
    if shards is not None and tiler is not None:
        evaluate = ShardedEvaluation(tiler, shards)
        iterate = shards.local_part(content)
    seconds, work = [], []
    for _ in range(args.repeats):
        start, start_work = time.perf_counter(), time.process_time()
        if args.step:
            steps = transfer.optimize(
                objective, iterate, evaluate=evaluate, steps=1, offload=plan.offload()
            )
            for step in steps:
                print(f"step {step.index}, {peak_mib():.0f} MiB at most", file=sys.stderr)
        else:
            evaluate(objective, iterate)
        seconds.append(time.perf_counter() - start)
        work.append(time.process_time() - start_work)
    row: dict[str, object] = {
        "size": size,
        "tile": tile,
        "seconds": round(min(seconds), 3),
        "us_per_position": round(min(seconds) / math.prod(extent) * 1e6, 4),
        "cpu_us_per_position": round(min(work) / math.prod(extent) * 1e6, 4),
        "peak_mib": group.all_reduce_max(round(peak_mib())),
        "processes": group.size,
        "threads": torch.get_num_threads(),
    }
    estimate = plan.estimate()
    # The plan includes the optimiser's state, which is not allocated here.
    planned = round((resident + estimate.total) / 2**20)
    row |= {"tiles": estimate.tiles, "work": round(estimate.work, 2), "planned_mib": planned}
    return row


def _first(run_pass: Callable[..., Any], count: int) -> Callable[..., Any]:
    """Limits a pass to the first ``count`` tiles."""
    return lambda objective, x, tiles, *rest, **options: run_pass(
        objective, x, [*tiles][:count], *rest, **options
    )


def plot(rows: Sequence[dict[str, Any]], path: str) -> None:
    """Draws processor time and memory against size, one line for each way of tiling."""
    figure, (panels,) = new_figure(9, 3.5, columns=2)
    kinds = {"cpu_us_per_position": "µs of processor per position", "peak_mib": "peak MiB"}
    for axes, (key, label) in zip(panels, kinds.items(), strict=True):
        for kind in dict.fromkeys((row["tile"], row["processes"]) for row in rows):
            chosen = [row for row in rows if (row["tile"], row["processes"]) == kind]
            name = f"tile {kind[0]}, {kind[1]} process{'es' * (kind[1] > 1)}"
            axes.loglog(*zip(*[(row["size"], row[key]) for row in chosen], strict=True), "o-")
            axes.lines[-1].set_label(name)
        axes.set(xlabel="samples along an axis", ylabel=label)
        axes.legend()
    Path(path).write_bytes(encode(figure))


def main() -> None:
    """Measure, print a line for each row, and write JSON when asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--dim", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--tile", nargs="+", default=["auto"], help="auto, off or extents")
    parser.add_argument("--memory", default="auto")
    parser.add_argument("--backbone", default="vgg19")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--processes", type=int, nargs="+", default=[1])
    parser.add_argument("--optimizer", default="adam", help="optimiser; reserve its memory")
    parser.add_argument(
        "--step", action="store_true", help="two evaluations with a step between them"
    )
    parser.add_argument("--only", type=int, help="evaluate only this many tiles")
    add_json_option(parser)
    parser.add_argument("--plot", help="draw a PNG; needs matplotlib")
    parser.add_argument("--row", nargs=2, metavar=("SIZE", "TILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        tune_malloc()  # as the command line does
        if "RANK" in os.environ:
            ProcessGroup.join()
        row = measure(args, int(args.row[0]), args.row[1])
        if ProcessGroup.current().rank == 0:
            print(json.dumps(row))
        if ProcessGroup.current().size > 1:
            ProcessGroup.shutdown()
        return
    rows = []
    for size, tile, count in itertools.product(args.sizes, args.tile, args.processes):
        launcher = [sys.executable]
        if args.processes != [1]:  # of one thread each, one process as well
            launcher += ["-m", "torch.distributed.run", f"--nproc-per-node={count}"]
        command = [*launcher, "-m", SCRIPT, *sys.argv[1:], "--row", str(size), tile]
        environment = {**os.environ, **({"OMP_NUM_THREADS": "1"} if len(launcher) > 1 else {})}
        process = subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment
        )
        rows.append(json.loads(process.stdout))
        print(json.dumps(rows[-1]), flush=True)
    write_results(args.json, "Time and memory against size", rows)
    if args.plot:
        plot(rows, args.plot)


if __name__ == "__main__":
    main()
