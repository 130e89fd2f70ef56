"""Features, forward and backward, against the bare convolutions of the same layers, in each rank.

- Bare: the convolutions with ReLU and max-pooling in plain torch, in the same precision and memory
  layout, with frozen weights, and the gradient of the input.
- convnd: `convnd.backbones.load` with the default layers of a transfer; features of style layers
  are taken before their projection.

The gradients of the features are dense, like those of a Gram matrix. Both run in float32 with
direct convolutions, so that faster ones do not hide the overhead; ``--precision auto`` times the
default. The candidates take turns in one process.

``--step`` times a whole step of a default transfer instead: features, Gram matrices, losses, the
gradient, and L-BFGS. Then both the transfer and the bare convolutions read a volume as planes
across its three axes. ``--clock process`` counts the seconds of all threads together.

    python -m benchmarks.performance.features --repeats 7 --json features.json
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common import (
    CONTENT_LAYER,
    STYLE_LAYERS,
    alternate,
    draw_ratios,
    median_ratio,
)
from benchmarks.measurement import add_json_option, machine, write_results
from convnd.backbones import BACKBONES, Precision, choose_precision, load
from convnd.optimize import minimize
from convnd.transfer.options import TransferOptions
from convnd.transfer.style_transfer import StyleTransfer

EXTENTS = {1: 50_000, 2: 512, 3: 64}
"""Samples along each axis, by rank, unless ``--extent`` says otherwise."""

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
LAYERS = [*STYLE_LAYERS, CONTENT_LAYER]


def bare(backbone: str, x: Tensor, precision: Precision) -> Callable[[], None]:
    """The convolutions alone, in plain torch, with random weights."""
    rank = x.ndim - 2
    plan = BACKBONES[backbone].plan.truncate(LAYERS)
    generator = torch.Generator().manual_seed(0)
    convolutions: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for name, parts in plan.parts(x.shape[1]).items():
        convolutions[name] = []
        for part in parts:
            shape = (part.channels, part.inputs, *[part.kernel] * rank)
            weight = torch.randn(shape, generator=generator) * (2 / math.prod(shape[1:])) ** 0.5
            offset = torch.zeros(part.channels, dtype=precision.dtype)
            convolutions[name].append((precision.layout(weight.to(precision.dtype)), offset))

    def run() -> None:
        leaf = x.clone().requires_grad_()
        h = precision.layout(leaf.to(precision.dtype))
        for name, several in convolutions.items():
            if name.endswith("_1") and name != "conv1_1":
                h = _POOL[rank](h, 2)
            for weight, bias in several:
                h = _CONV[rank](h, weight, bias, padding=weight.shape[2] // 2)
            h = F.relu(h)
        if not seeds:
            seeds.append(torch.ones_like(h))
        torch.autograd.grad(h, leaf, seeds[0])

    seeds: list[Tensor] = []
    return run


def convnd_features(backbone: str, x: Tensor, precision: Precision) -> Callable[[], None]:
    """All features that a transfer asks for, and the gradient of their sum."""
    net = load(backbone, spatial_dims=x.ndim - 2, in_channels=x.shape[1], layers=LAYERS)
    precision.apply(net)

    def run() -> None:
        leaf = x.clone().requires_grad_()
        features = net(precision.layout(leaf), LAYERS, raw=STYLE_LAYERS)
        if not seeds:
            seeds.update({name: torch.ones_like(values) for name, values in features.items()})
        torch.autograd.grad(list(features.values()), leaf, [seeds[name] for name in features])

    seeds: dict[str, Tensor] = {}
    return run


def step(backbone: str, x: Tensor, precision: str) -> Callable[[], None]:
    """A step of the default objective, without statistics of the values themselves."""
    rank = x.ndim - 2
    options = TransferOptions(backbone=backbone, precision=precision)
    transfer = StyleTransfer(options, spatial_dims=rank, in_channels=x.shape[1])
    steps = minimize(
        transfer.objective(x, [x.flip(2)], [1.0] * rank), torch.rand_like(x), steps=10**9
    )

    def run() -> None:
        next(steps)

    return run


def bare_planes(backbone: str, x: Tensor, precision: Precision) -> Callable[[], None]:
    """The convolutions of a network for pictures, on the slices across all three axes of a cube."""
    run = bare(backbone, x[0].transpose(0, 1).contiguous(), precision)

    def thrice() -> None:
        for _ in range(3):
            run()

    return thrice


def measure(backbone: str, rank: int, extent: int, args: argparse.Namespace) -> dict[str, Any]:
    """One row: medians, and the median of the ratios turn by turn."""
    x = torch.rand(1, 3 if rank == 2 else 1, *[extent] * rank)
    precision = choose_precision(torch.device("cpu"), args.precision)
    if args.step:
        basis = bare_planes if rank == 3 else bare
        candidates = {
            "bare": basis(backbone, x, precision),
            "ours": step(backbone, x, args.precision),
        }
    else:
        candidates = {
            "bare": bare(backbone, x, precision),
            "ours": convnd_features(backbone, x, precision),
        }
    clocks = {"wall": time.perf_counter, "process": time.process_time}
    seconds = alternate(candidates, args.repeats, clocks[args.clock])
    return {
        "backbone": backbone,
        "rank": rank,
        "size": list(x.shape[2:]),
        "bare_s": round(statistics.median(seconds["bare"]), 4),
        "ours_s": round(statistics.median(seconds["ours"]), 4),
        "of_bare": round(median_ratio(seconds["ours"], seconds["bare"]), 3),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, and write JSON when asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--backbones", nargs="+", default=["compact", "vgg19"])
    parser.add_argument("--ranks", nargs="+", type=int, default=list(EXTENTS), choices=EXTENTS)
    parser.add_argument("--extent", type=int, help="samples along each axis")
    parser.add_argument("--precision", default="float32", help="float32, bfloat16 or auto")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--step", action="store_true", help="time whole steps of a transfer")
    parser.add_argument("--clock", default="wall", choices=["wall", "process"])
    add_json_option(parser)
    parser.add_argument("--plot", help="draw the ratios into this PNG")
    args = parser.parse_args(arguments)
    precision = choose_precision(torch.device("cpu"), args.precision)
    about = {**machine(), "precision": str(precision), "repeats": args.repeats}
    print(json.dumps(about))
    print(f"{'':10} {'size':>12} {'bare s':>8} {'ours s':>8} {'/bare':>6}")
    rows = []
    for rank in args.ranks:
        for backbone in args.backbones:
            extent = args.extent or EXTENTS[rank]
            row = measure(backbone, rank, extent, args)
            rows.append(row)
            size = "x".join([str(extent)] * rank)
            print(
                f"{backbone:10} {size:>12} {row['bare_s']:8.3f} {row['ours_s']:8.3f} "
                f"{row['of_bare']:6.2f}"
            )
    what = "Whole steps" if args.step else "Features"
    conditions = f"{precision}, median of {args.repeats}, {args.clock} time"
    write_results(args.json, f"{what} against bare convolutions", rows, conditions=conditions)
    if args.plot:
        ratios = {
            f"{row['backbone']} {'x'.join(map(str, row['size']))}": {"to bare": row["of_bare"]}
            for row in rows
        }
        draw_ratios(ratios, args.plot, target=1.2 if args.step else 1.25)


if __name__ == "__main__":
    main()
