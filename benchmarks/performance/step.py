"""One step of style transfer against the bare network: time and peak memory.

- Baseline: conv1_1 … conv5_1 of VGG-19 with ReLU and max-pooling, forward and backward to the
  input, float32, contiguous, frozen weights, plain torch. It is the common measure for other
  projects.
- Roofline: the same convolutions in the precision and memory layout of convnd.
- vgg19, compact: features, Gram matrices, both losses, gradient, one L-BFGS update.
- With "torch": the same without the kernels in C.

Candidates take turns in one process, with the memory allocator of the command line. The peak
memory of each is measured in a process of its own.
``--clock process`` counts the processor time of all threads together. Two or more
threads wait as in the command line only if the environment says so.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.performance.step --size 512 --repeats 7
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common import alternate, draw_ratios, median_ratio, peak_mib, picture
from benchmarks.measurement import add_json_option, machine, write_results
from convnd.backbones import BACKBONES, Precision, load
from convnd.backbones.kernels import native, native_gram, native_pool
from convnd.malloc import keep_large_blocks, tune_malloc
from convnd.optimize import minimize
from convnd.transfer.options import TransferOptions
from convnd.transfer.style_transfer import StyleTransfer

SCRIPT = "benchmarks.performance.step"
WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512)


def bare(size: int, precision: Precision) -> Callable[[], None]:
    """The convolutions alone, in plain torch."""
    torch.manual_seed(0)
    weights: list[tuple[Tensor, Tensor] | None] = []
    channels = 3
    for width in WIDTHS:
        if width == 0:
            weights.append(None)
            continue
        weight = torch.randn(width, channels, 3, 3) * (2 / (9 * channels)) ** 0.5
        weights.append(
            (precision.layout(weight.to(precision.dtype)), torch.zeros(width).to(precision.dtype))
        )
        channels = width
    x = torch.rand(1, 3, size, size)

    def run() -> None:
        leaf = x.clone().requires_grad_()
        h = precision.layout(leaf.to(precision.dtype))
        for layer in weights:
            h = F.max_pool2d(h, 2) if layer is None else F.relu(F.conv2d(h, *layer, padding=1))
        torch.autograd.grad(h.sum(), leaf)

    return run


def convnd_step(size: int, backbone: str) -> Callable[[], None]:
    """One step of the default objective of ``convnd stylize``."""
    options = TransferOptions(backbone=backbone)
    transfer = StyleTransfer(options, spatial_dims=2, in_channels=3)
    content = picture("town", size, role="content")
    content = torch.nn.functional.interpolate(content, (size, size), mode="bilinear")
    objective = transfer.objective(content, [picture("waves", size, role="style")], [1.0, 1.0])
    steps = minimize(objective, content, steps=10**9)

    def run() -> None:
        next(steps)

    return run


def on_torch(run: Callable[[], None]) -> Callable[[], None]:
    """The same run without the kernels compiled from C."""

    def run_on_torch() -> None:
        with (
            mock.patch.object(native, "is_available", return_value=False),
            mock.patch.object(native_pool, "is_available", return_value=False),
            mock.patch.object(native_gram, "is_available", return_value=False),
        ):
            run()

    return run_on_torch


def candidates(size: int) -> dict[str, Callable[[], Callable[[], None]]]:
    """Name and factory of everything that is timed."""
    precision = StyleTransfer(
        TransferOptions(backbone="compact"), spatial_dims=2, in_channels=3
    ).precision
    return {
        "baseline": lambda: bare(size, Precision(torch.float32, channels_last=False)),
        "roofline": lambda: bare(size, precision),
        "vgg19": lambda: convnd_step(size, "vgg19"),
        "vgg19, torch": lambda: on_torch(convnd_step(size, "vgg19")),
        "compact": lambda: convnd_step(size, "compact"),
        "compact, torch": lambda: on_torch(convnd_step(size, "compact")),
    }


def main() -> None:
    """Measure, print a table, and write JSON when asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--clock", default="wall", choices=["wall", "process"])
    parser.add_argument("--no-memory", action="store_true", help="skip the peak memory")
    add_json_option(parser)
    parser.add_argument("--plot", help="draw the ratios into this PNG")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    tune_malloc()
    keep_large_blocks(True)
    if args.memory_of:
        load("vgg19", layers=["relu1_1"])  # fill the cache before the measurement
        run = candidates(args.size)[args.memory_of]()
        is_step = args.memory_of.split(",")[0] in BACKBONES
        for _ in range(22 if is_step else 2):  # fills the optimiser's memory
            run()
        print(peak_mib())
        return
    runs = {name: make() for name, make in candidates(args.size).items()}
    clocks = {"wall": time.perf_counter, "process": time.process_time}
    seconds = alternate(runs, args.repeats, clocks[args.clock])
    rows = {}
    for name in runs:
        rows[name] = {
            "median_s": round(statistics.median(seconds[name]), 4),
            "min_s": round(min(seconds[name]), 4),
            "of_baseline": round(median_ratio(seconds[name], seconds["baseline"]), 3),
            "of_roofline": round(median_ratio(seconds[name], seconds["roofline"]), 3),
        }
        if not args.no_memory:
            command = [sys.executable, "-m", SCRIPT, "--size", str(args.size), "--memory-of", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows[name]["peak_mib"] = round(float(done.stdout))
    print(json.dumps(machine()))
    print(f"{'':14} {'median s':>9} {'/baseline':>9} {'/roofline':>9} {'peak MiB':>9}")
    for name, row in rows.items():
        print(
            f"{name:14} {row['median_s']:9.3f} {row['of_baseline']:9.2f} "
            f"{row['of_roofline']:9.2f} {row.get('peak_mib', ''):>9}"
        )
    write_results(
        args.json,
        f"One step at {args.size}²",
        [{"": name, **row} for name, row in rows.items()],
        section="Speed",
        conditions=f"median of {args.repeats}, {args.clock} time",
    )
    if args.plot:
        kinds = {"to the baseline": "of_baseline", "to the roofline": "of_roofline"}
        ratios = {
            name: {kind: float(row[key]) for kind, key in kinds.items()}
            for name, row in rows.items()
        }
        draw_ratios(ratios, args.plot, target=0.45)


if __name__ == "__main__":
    main()
