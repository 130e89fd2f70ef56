"""Wall time and processor time of whole demo commands, from the start to the end of the program.

``convnd stylize --dim N`` without files takes the built-in samples. ``--picture CONTENT STYLE``
adds a picture at its default size of 512. With ``--avx2`` every command also runs with AVX2 as the
highest instruction set and in float32, as on most desktops and laptops.

    python -m benchmarks.performance.demos --avx2 --json benchmarks/results/demo.json
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.measurement import add_json_option, write_results

_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


def run_command(words: list[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Run ``convnd`` with these words; returns wall time, and processor time with children."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "convnd", *words],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with code {process.returncode}")
    return seconds, usage.ru_utime + usage.ru_stime


def main() -> None:
    """Run every command once for each instruction set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--dims", type=int, nargs="+", default=[2, 1, 3])
    parser.add_argument("--picture", nargs=2, metavar=("CONTENT", "STYLE"))
    parser.add_argument("--avx2", action="store_true", help="also limited to AVX2")
    add_json_option(parser)
    args = parser.parse_args()
    commands = {f"--dim {dim}": ["stylize", "--dim", str(dim)] for dim in args.dims}
    if args.picture:
        files = [str(p.resolve()) if p.exists() else str(p) for p in map(Path, args.picture)]
        commands["a picture of 512 px"] = ["stylize", *files, "--dim", "2", "-o", "result.png"]
    rows = []
    load = os.getloadavg()[0]
    for name, words in commands.items():
        row: dict[str, object] = {"command": name}
        for machine, environment in (("", {}), (", AVX2", _AVX2))[: 1 + args.avx2]:
            seconds, processor = run_command(words, environment)
            row |= {f"s{machine}": round(seconds, 1), f"processor s{machine}": round(processor, 1)}
        print(row, flush=True)
        rows.append(row)
    write_results(
        args.json,
        "The demos",
        rows,
        section="Speed",
        conditions=f"load {load:.1f} before",
        summary="From the start to the end of the program. The demos are a picture of 320x213 "
        "pixels, 12 leads of 10 s, and a CT scan of 96x96x64 voxels.",
        target="On two cores limited to AVX2 at most 20 s (--dim 2), 10 s (--dim 1) and 15 s "
        "(--dim 3).",
    )


if __name__ == "__main__":
    main()
