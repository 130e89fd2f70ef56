"""Seconds of one pass of the network that takes any style, without the start of the program.

The network reads the style, reads the content and decodes, with the memory allocator of the command
line. Each number of threads is measured in a process of its own, one after the other. The seconds
are medians; processor seconds count all threads.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.performance.one_pass --json FILE
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import statistics
import time
from typing import Any

import torch

from benchmarks.common import picture
from benchmarks.experiments.schedules import find
from benchmarks.measurement import add_json_option, machine, write_results
from convnd.backbones.weights import load_state
from convnd.feedforward import ArbitraryStyleNet, StylePart
from convnd.malloc import tune_malloc
from convnd.nn import interpolate_nd
from convnd.optimize import Tiler

CONTENT, STYLE = "astronaut.png", "coffee.png"


def measure(size: int, threads: int, repeats: int) -> dict[str, Any]:
    """Seconds of a pass with a number of threads."""
    tune_malloc()
    torch.set_num_threads(threads)
    content, style = (
        interpolate_nd(picture(find(name), size, role=role)[:, :3], size=(size, size))
        for name, role in ((CONTENT, "content"), (STYLE, "style"))
    )
    network, tiler = ArbitraryStyleNet(load_state("instant")), Tiler()
    seconds: dict[str, list[float]] = {"style, s": [], "pass, s": [], "processor s": []}
    for _ in range(repeats + 1):
        start, before = time.perf_counter(), time.process_time()
        targets = network.read_styles([style], [1.0], tiler)
        seconds["style, s"].append(time.perf_counter() - start)
        network.stylize(content, [StylePart(targets)], tiler)
        seconds["pass, s"].append(time.perf_counter() - start)
        seconds["processor s"].append(time.process_time() - before)
    medians = {name: round(statistics.median(values[1:]), 3) for name, values in seconds.items()}
    return {"size": f"{size}x{size}", "threads": threads, **medians}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512, help="pixels along each side")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers to measure")
    parser.add_argument("--repeats", type=int, default=9, help="passes after the first")
    add_json_option(parser)
    arguments = parser.parse_args()
    print(json.dumps(machine()))
    rows = []
    for threads in arguments.threads:
        run = functools.partial(measure, arguments.size, threads, arguments.repeats)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(run))
        print(json.dumps(rows[-1]), flush=True)
    write_results(
        arguments.json,
        "One pass of the network that takes any style",
        rows,
        section="Pictures",
        summary="A style and a content of the same size, features of both included.",
        target="512 x 512 in 0.4 s on two cores",
    )


if __name__ == "__main__":
    main()
