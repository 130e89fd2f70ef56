"""Equal jobs at the same time: how much more processor time does each take than alone?

Every job is a process of the command line. The figure is the processor time of all jobs over that
of as many jobs alone. The rows compare the threads of the command line (they sleep while they wait;
one for every core, or one for every free core with ``CONVND_SHARE_CORES=1``) with the threads that
torch starts by default (they spin; one for every core).

    python -m benchmarks.performance.neighbours --json benchmarks/results/neighbours.json
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping

from benchmarks.measurement import add_json_option, write_results

_SPINNING = {"OMP_NUM_THREADS": str(os.cpu_count()), "GOMP_SPINCOUNT": "300000"}
"""The defaults of GNU's OpenMP library, which torch has on Linux."""

_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "convnd": {},
    "convnd, CONVND_SHARE_CORES=1": {"CONVND_SHARE_CORES": "1"},
    "one thread a core, asleep while waiting": {"OMP_NUM_THREADS": str(os.cpu_count())},
    "torch's defaults": _SPINNING,
}


def run_jobs(count: int, words: list[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Run equal jobs at the same time; returns their processor time, and the time of the slowest.

    Args:
        count: number of jobs.
        words: the words after ``convnd`` on the command line.
        environment: variables added to the environment of this process.
    """
    own = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("OMP_", "GOMP_", "KMP_", "MKL_"))
    }
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        jobs = [
            subprocess.Popen(
                [sys.executable, "-m", "convnd", *words, "-q", "-o", f"{folder}/{number}.png"],
                env={**own, **environment},
                stdout=subprocess.DEVNULL,
            )
            for number in range(count)
        ]
        seconds = 0.0
        for job in jobs:
            _, status, usage = os.wait4(job.pid, 0)
            job.returncode = os.waitstatus_to_exitcode(status)
            if job.returncode:
                raise RuntimeError(f"a job ended with code {job.returncode}")
            seconds += usage.ru_utime + usage.ru_stime
        return seconds, time.perf_counter() - start


def main() -> None:
    """Measure every setting with every number of jobs, in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--backbone", default="vgg19")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--settings", nargs="+", choices=_SETTINGS, default=list(_SETTINGS))
    add_json_option(parser)
    args = parser.parse_args()
    words = ["stylize", "town", "waves", "--dim=2", f"--size={args.size}", "--scales=1"]
    words += [f"--steps={args.steps}", f"--backbone={args.backbone}"]
    figures: dict[tuple[str, int], list[tuple[float, float]]] = {}
    loads = []
    for _ in range(args.repeats):
        for name in args.settings:
            environment = _SETTINGS[name]
            for count in args.jobs:
                loads.append(os.getloadavg()[0])
                figures.setdefault((name, count), []).append(run_jobs(count, words, environment))
                print(name, count, figures[name, count][-1], flush=True)
    rows = []
    for (name, count), measured in figures.items():
        processor = [seconds for seconds, _ in measured]
        single = [seconds for seconds, _ in figures[name, args.jobs[0]]]
        ratios = [all_ / (count * one) for all_, one in zip(processor, single, strict=True)]
        rows.append(
            {
                "threads": name,
                "jobs at once": count,
                "processor s, each": round(statistics.median(processor) / count, 2),
                "over single ones": round(statistics.median(ratios), 3),
                "wall s": round(statistics.median(wall for _, wall in measured), 1),
            }
        )
    write_results(
        args.json,
        "Equal jobs at once",
        rows,
        section="Speed",
        conditions=f"load {min(loads):.0f} to {max(loads):.0f} before the jobs",
        target="Four jobs at the same time take at most 1.15 times the processor time of four "
        "single jobs.",
    )


if __name__ == "__main__":
    main()
