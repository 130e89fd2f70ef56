"""Everything once on a GPU: equal to the CPU? And how long does a step take, in how much memory?

Parts, in order of importance; a failure becomes a row with its error, and the rest goes on. The
JSON is written again after every row.

- **layers**: outputs and gradients of layers over 1 to 5 axes in float64, on both devices.
- **tasks**: every task on both devices from one seed. Losses of the first steps, gradients and
  measures are compared. Rounding decides the tolerance, see `TOLERANCES`.
- **steps**: a step is loss and gradient of the default objective. It is timed for pictures, volumes
  and signals in float32 and bfloat16, against the loop of neural-style-pt in plain torch.

    python -m benchmarks.performance.gpu --minutes 8 --json gpu.json
    python -m benchmarks.performance.gpu --device cpu --tiny --json cpu.json
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.measurement import Row, Table, add_json_option, write_results
from benchmarks.performance import gpu_steps, gpu_tasks
from convnd.backbones import choose_device
from convnd.malloc import tune_malloc

PARTS = {"layers": 0.2, "tasks": 0.6, "steps": 1.0}
"""The parts, each with the share of the time after which none of its rows is started."""

TOLERANCES = {
    "layers": 1e-10,
    "first": 5e-4,
    "later": 2e-2,
    "bfloat16": 5e-2,
}
"""Largest relative differences of two devices.

A sum of K products in a format with the unit roundoff u differs by about sqrt(K) u between two
orders of summation. float64 has u = 1e-16, and K is at most 500 in the layers. In float32, u is
6e-8 and K at most 4608, which gives 4e-6 for a convolution of VGG-19 and 5e-5 for 13 of them; a
loss adds differences of such features, which are 10 times as far apart in relation. Each step of an
optimiser multiplies the differences again, so later steps are held to less. bfloat16 has u = 4e-3.
"""


@dataclass
class Report:
    """The rows so far; writes them to a file after each.

    Args:
        path: the JSON, or None.
        budget: seconds after which no further row is started.
    """

    path: Path | None
    budget: float
    started: float = field(default_factory=time.monotonic)
    tables: dict[str, list[Row]] = field(default_factory=dict)
    failures: int = 0

    def spent(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def run(self, part: str, name: str, measure: Callable[[], Row]) -> None:
        """Add the row of a measurement, or that of its error; does nothing after the budget."""
        rows = self.tables.setdefault(part, [])
        if self.spent() > self.budget * PARTS[part]:
            rows.append({"": name, "result": "no time"})
            print(f"{self.spent():6.1f} s  {part}: {name}: no time", flush=True)
            return
        try:
            row = dict(measure())
        except Exception as error:
            row = {"result": error_line(error)}
        if row.get("result", "equal") != "equal":
            self.failures += 1
        rows.append({"": name, **row})
        shown = ", ".join(f"{key} {value}" for key, value in row.items())
        print(f"{self.spent():6.1f} s  {part}: {name}: {shown}", flush=True)
        self.write()

    def write(self) -> None:
        """Write all rows."""
        write_results(
            self.path,
            "One GPU: every task against the CPU, and the time of a step",
            [Table(rows=columns(rows), caption=part) for part, rows in self.tables.items()],
            section="GPU",
            conditions=f"TF32 off in float32; {self.failures} rows differ or failed",
        )


def columns(rows: list[Row]) -> list[Row]:
    """The rows of a table with all columns of the table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name, "") for name in names} for row in rows]


def error_line(error: Exception) -> str:
    """Class and message of an error, and the place in this project that it came from."""
    place, trace = "", error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if "convnd" in file.parts or "convnd_tasks" in file.parts or "benchmarks" in file.parts:
            place = f" ({file.name}:{trace.tb_lineno})"
        trace = trace.tb_next
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}{place}"


def compare(task: gpu_tasks.Task, device: str, reference: str, part: str, name: str) -> Row:
    """Run a task on both devices, and compare its numbers."""
    seconds, results = {}, {}
    for place in dict.fromkeys((device, reference)):
        start = time.perf_counter()
        results[place] = task(place)
        seconds[place] = time.perf_counter() - start
    ours, theirs = results[device], results[reference]
    if len(ours) != len(theirs) or not ours:
        return {"result": f"{len(ours)} numbers, and {len(theirs)} on the {reference}"}
    differences = relative_differences(ours, theirs, of_all=part == "layers")
    kind = "bfloat16" if "automatic" in name else "first"
    allowed = [TOLERANCES["layers" if part == "layers" else kind]] * len(ours)
    if part == "tasks":
        allowed[1:] = [max(allowed[0], TOLERANCES["later"])] * (len(ours) - 1)
    is_equal = all(one <= most for one, most in zip(differences, allowed, strict=True))
    return {
        "first": f"{differences[0]:.1e}",
        "largest": f"{max(differences):.1e}",
        "seconds": f"{seconds[device]:.2f}",
        "seconds, CPU": f"{seconds[reference]:.2f}",
        "result": "equal" if is_equal else "differs",
    }


def relative_differences(ours: list[float], theirs: list[float], *, of_all: bool) -> list[float]:
    """Differences in relation to each number, or to the largest of all; NaN becomes infinity."""
    largest = max(abs(one) for one in theirs)
    scales = [largest if of_all else max(abs(one), 1e-6 * largest) for one in theirs]
    return [
        abs(a - b) / max(scale, 1e-30) if math.isfinite(a - b) else math.inf
        for a, b, scale in zip(ours, theirs, scales, strict=True)
    ]


def measurements(args: argparse.Namespace) -> Iterator[tuple[str, str, Callable[[], Row]]]:
    """Yield part, name and function of every row."""

    def comparison(part: str, name: str, task: gpu_tasks.Task) -> Callable[[], Row]:
        return lambda: compare(task, args.device, "cpu", part, name)

    if "layers" in args.parts:
        for name, task in gpu_tasks.layers().items():
            yield "layers", name, comparison("layers", name, task)
    if "tasks" in args.parts:
        for name, task in gpu_tasks.tasks(48 if args.tiny else 96).items():
            yield "tasks", name, comparison("tasks", name, task)
    if "steps" in args.parts:
        for name, measure in gpu_steps.steps(choose_device(args.device), tiny=args.tiny).items():
            yield "steps", name, measure


def main() -> int:
    """Measure, print each row, and write JSON when asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0, help="no row starts later")
    parser.add_argument("--parts", nargs="+", default=[*PARTS], choices=PARTS)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--tiny", action="store_true", help="smallest sizes, for a test")
    add_json_option(parser)
    args = parser.parse_args()
    # cuBLAS reads it once; the row "deterministic" would set it too late.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    tune_malloc()
    report = Report(args.json, 60 * args.minutes)
    device: Any = choose_device(args.device)
    about = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    versions = f"torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}"
    print(f"{about}, {versions}, {torch.get_num_threads()} threads")
    for part, name, measure in measurements(args):
        if args.only in name:
            report.run(part, name, measure)
    report.write()
    print(f"{report.failures} rows differ or failed")
    return 0


if __name__ == "__main__":
    main()
