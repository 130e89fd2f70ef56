"""Throughput of the patch search against the bare forward pass of the same layers.

The search sends small inputs through the network in batches. The forward pass is timed with one
input at a time and with the same batches. Times are processor times of all threads; they include
decoding in the background, and no other programs.

    python -m benchmarks.performance.patch_search --dim 2 --json patch_search.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from functools import partial

import torch
from convnd_tasks import samples
from convnd_tasks.inspect import Input, find_patches, load_network
from convnd_tasks.inspect.reading import iter_batches, prepare_input

from benchmarks.common import alternate, median_ratio
from benchmarks.measurement import add_json_option, write_results
from convnd import Grid

SIZES = {1: 5000, 2: 256, 3: 40}


def _identity(grid: Grid) -> Grid:
    return grid


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dim", type=int, default=2)
    parser.add_argument(
        "--size", type=int, help=f"samples of the longest axis; default by --dim {SIZES}"
    )
    parser.add_argument("--inputs", type=int, default=32)
    parser.add_argument("--layer", default="relu3_1")
    parser.add_argument("--repeats", type=int, default=5)
    add_json_option(parser)
    args = parser.parse_args()
    args.size = args.size or SIZES.get(args.dim, 16)
    names = samples.styles(args.dim)
    grids = [
        samples.style(
            names[i % len(names)], spatial_dims=args.dim, size=args.size, seed=i // len(names)
        )
        for i in range(args.inputs)
    ]
    channels = 3 if args.dim == 2 else 1
    network = load_network("compact", [args.layer], spatial_dims=args.dim, in_channels=channels)
    if args.dim == 1:  # each lead is a field of its own
        grids = [Grid(values=grid.values[:, :1]) for grid in grids]
    inputs = [Input(f"{i:05d}", partial(_identity, grid)) for i, grid in enumerate(grids)]

    batches = [
        batch.values
        for batch in iter_batches(inputs, lambda item: prepare_input(item, network, 0, False), 0)
        if batch.values is not None
    ]

    def bare() -> None:
        with torch.inference_mode():
            for grid in grids:
                network(grid.values, [args.layer])

    def batched() -> None:
        with torch.inference_mode():
            for values in batches:
                network(values, [args.layer])

    def search() -> None:
        find_patches(network, inputs, {args.layer: []})

    seconds = alternate(
        {"bare": bare, "batched": batched, "search": search}, args.repeats, time.process_time
    )
    row = {
        "inputs": f"{args.inputs} of {args.size} samples along {args.dim} axes",
        "layer": args.layer,
        "batches": len(batches),
        **{
            f"{name}: inputs per second": args.inputs / statistics.median(times)
            for name, times in seconds.items()
        },
        "search to bare": median_ratio(seconds["bare"], seconds["search"]),
        "search to bare in the same batches": median_ratio(seconds["batched"], seconds["search"]),
    }
    print(json.dumps(row, indent=1))
    write_results(args.json, "The patch search against the bare forward pass", [row])


if __name__ == "__main__":
    main()
