"""Kill a job at random moments (SIGKILL); it must continue to the same bytes.

python -m benchmarks.performance.kill_and_resume --kills 30
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measurement import add_json_option, write_results

COMMAND = (
    sys.executable, "-m", "convnd", "stylize", "--dim", "1", "a.npy", "b.npy", "--size", "0",
    "--backbone", "compact", "--precision", "float32", "--scales", "2",
    "--checkpoint-every", "1", "--resume", "-o",
)  # fmt: skip


def main() -> None:
    """Kills jobs ``--kills`` times, and compares each finished job with an undisturbed one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--steps", default="400", help="steps of a job; it must outlast all kills")
    parser.add_argument("--seed", type=int, default=0)
    add_json_option(parser)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(args.seed)
        for letter in "ab":
            np.save(folder / f"{letter}.npy", rng.normal(size=2000).astype(np.float32))

        def start(output: str) -> subprocess.Popen[bytes]:
            command = [*COMMAND, output, "--steps", args.steps]
            return subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)

        start_time = time.monotonic()
        if start("whole.npy").wait():
            sys.exit("the job fails undisturbed")
        longest = time.monotonic() - start_time
        killed = jobs = 0
        while killed < args.kills or (folder / "out.npy.checkpoint").exists():
            work = start("out.npy")
            if killed < args.kills:
                # From the start of Python to well into the steps.
                time.sleep(chance.random() * longest * 0.3)
                work.kill()
            code = work.wait()
            if code == -signal.SIGKILL:
                killed += 1
            elif code:
                sys.exit(f"after {killed} kills the job ended with {code}")
            result = folder / "out.npy"
            if result.exists() and not (folder / "out.npy.checkpoint").exists():
                jobs += 1
                if result.read_bytes() != (folder / "whole.npy").read_bytes():
                    sys.exit(f"after {killed} kills other bytes")
                result.unlink()
        print(f"{killed} kills, {jobs} jobs done in spite of them, all with the same bytes")
    row = {"kills": killed, "jobs finished with the same bytes": jobs}
    write_results(args.json, "SIGKILL at random moments", [row])


if __name__ == "__main__":
    main()
