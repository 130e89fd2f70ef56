"""Time of decoding files in a child process (first file, further files) and without one.

    python -m benchmarks.performance.picture_process                # small files of every kind
    python -m benchmarks.performance.picture_process photo.jpg a.h5

Seconds are medians of wall time, and of processor time of this process and its children. The first
file starts a child; further files go to the waiting child. Both use `convnd.io.read` in an
interpreter that has already imported NumPy and torch.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.measurement import add_json_option, write_results
from benchmarks.performance.decoder_process import processor_time
from convnd import io
from convnd.io.worker import client

SMALL = ("a.png", "a.jpg", "a.avif", "a.flac", "a.mat", "a.h5", "a.parquet", "a.xlsx")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--turns", type=int, default=9, help="repeats of each measurement")
    add_json_option(parser)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for path in args.files or small_files(Path(folder)):
            first = median(lambda path=path: read_first(path), args.turns)  # type: ignore[misc]
            many = median(lambda path=path: read_first(path, 21), 3)  # type: ignore[misc]
            further = [(seconds - start) / 20 for seconds, start in zip(many, first, strict=True)]
            # Wall times are only printed, not stored, since other programs change them.
            row = {"file": path.name, "first, s": first[1], "further, s": further[1]}
            rows.append(row)
            print(
                f"{path.name:10} first {1000 * first[0]:.0f} ms wall, {1000 * first[1]:.0f} ms "
                f"processor; further {1000 * further[0]:.1f} and {1000 * further[1]:.1f} ms"
            )
    write_results(args.json, "Processor time of decoding one file in a child process", rows)


def small_files(folder: Path) -> list[Path]:
    """Write a small file of every kind."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))
    from malformed import WHOLE

    for name in SMALL:
        WHOLE[name](folder / name, np.random.default_rng(0))
    return [folder / name for name in SMALL]


def read_first(path: Path, count: int = 1) -> None:
    """Read a file ``count`` times with a new child, and end the child so that its time counts."""
    client._close_all()
    for _ in range(count):
        io.read(path)
    client._close_all()


def median(work: Callable[[], None], turns: int) -> tuple[float, float]:
    """Median wall seconds and processor seconds."""
    walls, spent = [], []
    work()
    for _ in range(turns):
        start = time.perf_counter()
        spent.append(processor_time(work))
        walls.append(time.perf_counter() - start)
    return statistics.median(walls), statistics.median(spent)


if __name__ == "__main__":
    main()
