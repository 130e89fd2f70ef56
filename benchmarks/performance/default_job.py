r"""Processor time of the default job until its picture is as good as that of an older version.

The older version runs its own default job once (its ``convnd stylize CONTENT STYLE``), and
``convnd evaluate`` gives the energies of its result in the features of the original VGG-19. This
script runs the default job of ``convnd stylize`` in its own process, start and imports included,
and measures the picture after every step of the last phase, as `convnd evaluate` does. It prints
the processor time until both energies are at most those of the older version; measuring does not
count.

    python -m benchmarks.performance.default_job town.png waves.png \
        --style-energy 0.0157 --content-energy 0.827 --before-s 163.9
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convnd_tasks.modalities.images.metrics import measure_all

from benchmarks.measurement import add_json_option, write_results
from convnd import Grid, io
from convnd.__main__ import main as run_command
from convnd.transfer.progress import Progress
from convnd.transfer.style_transfer import StyleTransfer

Row = dict[str, float]


def run_job(content: Path, style: Path) -> tuple[list[Row], float]:
    """The steps of the last phase with their energies, and the processor time of the whole job."""
    contents, styles = io.read(content), [io.read(style)]
    rows: list[Row] = []
    measuring = 0.0
    run = StyleTransfer.run

    def measured_run(self: StyleTransfer, *args: Any, **options: Any) -> Iterator[Progress]:
        nonlocal measuring
        for progress in run(self, *args, **options):
            if progress.phase == progress.phases:
                start = time.process_time()
                picture = Grid(values=(255 * progress.values.clamp(0, 1)).round() / 255)
                values = {m.name: m.value for m in measure_all(contents, picture, styles)}
                rows.append(
                    {
                        "step": progress.step,
                        "processor s": round(start - measuring, 1),
                        "style energy": values["style_energy"],
                        "content energy": values["content_energy"],
                    }
                )
                print(rows[-1], flush=True)
                measuring += time.process_time() - start
            yield progress

    StyleTransfer.run = measured_run  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["convnd", "stylize", str(content), str(style), "-q", "-o", f"{folder}/r.png"]
        try:
            run_command()
        except SystemExit as error:
            if error.code:
                raise
    return rows, time.process_time() - measuring


def main() -> None:
    """Run the job, and compare it with the older version."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("content", type=Path)
    parser.add_argument("style", type=Path)
    parser.add_argument("--style-energy", type=float, required=True)
    parser.add_argument("--content-energy", type=float, required=True)
    parser.add_argument("--before-s", type=float, required=True)
    add_json_option(parser)
    args = parser.parse_args()
    load = os.getloadavg()[0]
    rows, seconds = run_job(args.content, args.style)
    reached = [
        row
        for row in rows
        if row["style energy"] <= args.style_energy and row["content energy"] <= args.content_energy
    ]
    table: list[dict[str, object]] = [
        {
            "": "the older version",
            "processor s": args.before_s,
            "style energy": args.style_energy,
            "content energy": args.content_energy,
        }
    ]
    for name, row in (("as good", reached[0] if reached else {}), ("end", rows[-1])):
        if row:
            spent = seconds if name == "end" else row["processor s"]
            ratio = round(spent / args.before_s, 3)
            table.append({"": name, **row, "processor s": round(spent, 1), "of the older": ratio})
    for line in table:
        print(line)
    write_results(
        args.json,
        "The default job, to the energies of an older version",
        table,
        section="Pictures",
        conditions=f"load {load:.0f} before",
        target="at most 0.3 of the older version.",
    )


if __name__ == "__main__":
    main()
