"""Cost of a command without its steps: processor time over that of importing torch alone.

Every command runs with zero steps on small inputs. The remaining work is start, imports, loading of
the network, reading and writing. Child processes that decode files count too. ``--source FOLDER``
measures another checkout in the same turns.

    python -m benchmarks.performance.start_up --json benchmarks/results/start_up.json
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from convnd_tasks import samples

from benchmarks.measurement import ROOT, add_json_option, write_results
from convnd import io

_BARE = "import torch"
_COMMANDS: Mapping[str, str] = {
    "--help": "--help",
    "stylize --dim 2, no files": "stylize --dim 2 --steps 0 --size 32 -o RESULT.png",
    "stylize, two pictures": "stylize photo.jpg painting.png --steps 0 --size 32 -o RESULT.png",
    "stylize --dim 1, two files": "stylize a.csv b.csv --dim 1 --rate 250 --steps 0 -o RESULT.csv",
    "stylize-volume, two scans": "stylize-volume a.nii --style b.nii --no-figures -o RESULT.nii",
    "evaluate": "evaluate photo.jpg again.png --style painting.png",
}


def processor_seconds(words: list[str], folder: Path, source: Path) -> float:
    """Run Python with these words; return the processor time of the process and its children."""
    environment = {**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{source / 'tasks'}"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as installed packages, which have bytecode
    environment["OMP_NUM_THREADS"] = "1"
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with code {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def write_inputs(folder: Path) -> None:
    """Write the inputs of the commands into a folder."""
    town = samples.content(spatial_dims=2, size=96)
    waves = samples.style("waves", spatial_dims=2, size=96)
    io.write(folder / "photo.jpg", town)
    io.write(folder / "again.png", town)
    io.write(folder / "painting.png", waves)
    for name, values in (("a", town), ("b", waves)):
        signal = values.values[0, 0].flatten()[None, :256]
        rows = "\n".join(f"{value:.4f}" for value in signal[0].tolist())
        (folder / f"{name}.csv").write_text(f"I\n{rows}\n")
    scan = samples.content(spatial_dims=3, size=24)
    io.write(folder / "a.nii", scan)
    io.write(folder / "b.nii", scan)


def main() -> None:
    """Measure every command and the bare import in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--source", type=Path, help="another checkout to measure as well")
    parser.add_argument(
        "--commands",
        nargs="+",
        choices=_COMMANDS,
        default=list(_COMMANDS),
        help="measure only these commands",
    )
    add_json_option(parser)
    args = parser.parse_args()
    sources = {"": ROOT} if args.source is None else {"before": args.source.resolve(), "": ROOT}
    seconds: dict[tuple[str, str], list[float]] = {}
    results = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder)
        for turn in range(args.repeats + 1):  # the first turn writes bytecode
            bare = processor_seconds(["-c", _BARE], folder, ROOT)
            if turn:
                seconds.setdefault((_BARE, ""), []).append(bare)
            for command in args.commands:
                for label, source in sources.items():
                    results += 1
                    words = _COMMANDS[command].replace("RESULT", f"r{results}").split()
                    spent = processor_seconds(["-m", "convnd", *words], folder, source)
                    if turn:
                        own = spent if command == "--help" else spent - bare
                        seconds.setdefault((command, label), []).append(own)
    rows = []
    for command in (_BARE, *args.commands):
        row: dict[str, object] = {"command": command}
        for label in sources:
            if (command, label) in seconds:
                median = statistics.median(seconds[command, label])
                row[f"{label or 'now'}, s" if args.source else "s"] = round(median, 2)
        print(row, flush=True)
        rows.append(row)
    write_results(
        args.json,
        "Starting and ending a command",
        rows,
        section="Speed",
        conditions="one thread, median of the processor time of whole processes",
        summary="Commands take no step. The import of torch is taken off, except in the first two "
        "rows. The bytecode of the package exists, as after an installation.",
        target="at most 1.5 s over the bare import of torch.",
    )


if __name__ == "__main__":
    main()
