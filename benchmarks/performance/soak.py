"""Many small jobs of all tasks in one process: memory and open files must not grow.

python -m benchmarks.performance.soak --jobs 200
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

import convnd.io
from benchmarks.measurement import add_json_option, write_results
from convnd import cli
from convnd.errors import ConvndError
from convnd.grid import Grid

# Each command writes into `out`, or prints; the last commands fail.
JOBS = {
    "picture": "stylize a.png waves --size 48 FAST out/a.png",
    "picture in tiles": "stylize a.png waves --size 64 --tile 32 FAST out/b.png",
    "signal": "stylize a.csv a.csv --rate 100 --report out/s.html FAST out/a.csv",
    "array": "stylize a.npy a.npy --dim 3 --size 18 FAST out/b.npy",
    "volume": "stylize-volume a.nii --style a.nii FAST out/v.nii.gz",
    "clip": "stylize-video frames waves --size 64 --frame-steps 1 FAST out/a.mp4",
    "patches": "patches a.png --layer relu2_1 --units 0-1 -q -o out/patches",
    "rerun": "rerun out/a.png -q -o out/again.png",
    "evaluate": "evaluate a.csv out/a.csv --style a.csv --rate 100",
    "evaluate a clip": "evaluate out/a.mp4 out/a.mp4",
    "trace": "trace 14x14x14x1 conv:5:16 conv:5:32",
    "listings": "backbones compact",
    "weights": "weights verify compact",
    "a damaged picture": "stylize cut.png waves FAST out/no.png",
    "a damaged volume": "stylize-volume cut.nii FAST out/no.nii",
    "numbers that go wrong": "stylize a.png waves --size 48 --optimizer gradient-descent "
    "--learning-rate 1e12 FAST out/no.png",
}
FAST = "--backbone compact --steps 2 -q -o"


def main() -> None:
    """Run the jobs in turn and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--jobs", type=int, default=200)
    add_json_option(parser)
    args = parser.parse_args()
    process, names = psutil.Process(), list(JOBS)
    folder_before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_inputs()
        start = time.monotonic()
        # After each turn of all kinds: number of jobs, resident MiB, open files, threads.
        rows: list[tuple[int, float, int, int]] = []
        for number in range(args.jobs):
            name = names[number % len(names)]
            if name == names[0]:
                shutil.rmtree("out", ignore_errors=True)
                Path("out").mkdir()
            error = run(JOBS[name].replace("FAST", FAST).split())
            if bool(error) != name.startswith(("a damaged", "numbers")):
                sys.exit(f"job {number}, {name}: {error or 'did not fail'}")
            if name == names[-1] or number == args.jobs - 1:
                gc.collect()
                resident = process.memory_info().rss / 2**20
                rows.append((number + 1, resident, process.num_fds(), process.num_threads()))
                print("{:4} jobs {:8.1f} MiB {:4} files {:3} threads".format(*rows[-1]), flush=True)
        seconds = time.monotonic() - start
        os.chdir(folder_before)
    # The first turns load libraries and fill caches.
    settled = rows[min(2, len(rows) - 1) :]
    growth = (settled[-1][1] - settled[0][1]) / max(1, settled[-1][0] - settled[0][0])
    files = settled[-1][2] - settled[0][2]
    print(
        f"{args.jobs} jobs in {seconds:.0f} s; {growth * 1024:+.1f} KiB and {files:+} files a job"
    )
    columns = ("jobs", "resident MiB", "open files", "threads")
    table = [dict(zip(columns, row, strict=True)) for row in rows]
    write_results(args.json, "Many jobs in one process", table)
    if files > 0:
        sys.exit("open files grow")


def run(command: list[str]) -> str:
    """Runs a command without its output; returns its error message, or an empty text."""
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        try:
            code = cli.app()(command, standalone_mode=False)
        except ConvndError as error:
            return str(error)
    return nowhere.getvalue() if code else ""


def make_inputs() -> None:
    """Writes the inputs of all jobs to the working folder."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (64, 64, 3), np.uint8)
    Path("frames").mkdir()
    for number, name in enumerate(("a.png", "frames/1.png", "frames/2.png")):
        Image.fromarray(np.roll(pixels, number, 1)).save(name)
    scan = rng.normal(size=(18, 18, 18)).astype(np.float32)
    grid = Grid(values=torch.from_numpy(scan)[None, None], spacing=(1.0,) * 3, units=("mm",) * 3)
    convnd.io.write("a.nii", grid)
    convnd.io.write("a.npy", grid)
    Path("a.csv").write_text("I (mV)\n" + "\n".join(f"{value:.6g}" for value in scan.flat))
    for name in ("a.png", "a.nii"):
        data = Path(name).read_bytes()
        Path(f"cut{Path(name).suffix}").write_bytes(data[: len(data) // 2])


if __name__ == "__main__":
    main()
