"""Accuracy of the remaining time that a run shows: the estimate after each step against the truth.

The clock is the processor time of this process, so that other programs do not count. The estimates
from the tenth step on count, while at least a tenth of the whole time remains.

    python -m benchmarks.performance.time_left --json benchmarks/results/time_left.json
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from typing import Any

from convnd_tasks.runtime.time_left import TimeLeft

import convnd
from benchmarks.measurement import add_json_option, write_results
from convnd.transfer.progress import Progress

_TASKS: Mapping[str, Mapping[str, Any]] = {
    "picture, 256 px": {"content": "town", "style": "waves", "dim": 2, "size": 256},
    "picture, 256 px, VGG-19": {
        "content": "town",
        "style": "waves",
        "dim": 2,
        "size": 256,
        "backbone": "vgg19",
        "steps": 40,
    },
    "signal, 12 leads": {"content": "ecg", "style": "arrhythmia", "dim": 1},
    "array, three axes": {"content": "bodies", "style": "weave", "dim": 3, "size": 32},
}

_FIRST = 10
_SMALLEST_REST = 0.1


def errors_of_estimates(task: Mapping[str, Any]) -> tuple[list[float], float]:
    """Run a task; returns the relative errors of the remaining time, and the processor time."""
    left = TimeLeft()
    estimates: list[tuple[int, float, float | None]] = []

    def note(progress: Progress) -> None:
        now = time.process_time()
        left.update(progress, now)
        estimates.append((progress.step, now, left.seconds(now)))

    start = time.process_time()
    convnd.stylize(**task, on_progress=note)
    end = estimates[-1][1]
    errors = [
        seconds / (end - now) - 1
        for step, now, seconds in estimates
        if step >= _FIRST and seconds is not None and end - now >= _SMALLEST_REST * (end - start)
    ]
    return errors, end - start


def main() -> None:
    """Run every task once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", nargs="+", choices=_TASKS, default=list(_TASKS))
    add_json_option(parser)
    args = parser.parse_args()
    rows = []
    for name in args.tasks:
        errors, seconds = errors_of_estimates(_TASKS[name])
        rows.append(
            {
                "task": name,
                "processor s": round(seconds, 1),
                "lowest error, %": round(100 * min(errors)),
                "median error, %": round(100 * statistics.median(errors)),
                "highest error, %": round(100 * max(errors)),
            }
        )
        print(rows[-1], flush=True)
    write_results(
        args.json,
        "The time left",
        rows,
        section="Speed",
        summary="Errors of the displayed remaining time from the tenth step on, while at least a "
        "tenth of the whole time remains.",
        target="Within 20 % from the tenth step on.",
    )


if __name__ == "__main__":
    main()
