"""The file format of benchmark results: one JSON file for each measurement.

A file states what was measured (title, tables), how (command), where (machine, conditions) and when
(date, commit). ``benchmarks/results/`` holds the current files; ``benchmarks.page`` writes
``docs/benchmarks.md`` from them.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsFloat

import torch

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
NOT_STATED = "not stated"

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of one table; the keys of the rows are its columns."""

    rows: Sequence[Row]
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Figures of one run, and everything needed to repeat the run.

    Args:
        title: what was measured.
        tables: the figures.
        section: heading under which the page of figures shows them.
        command: the command line of the run.
        date: day of the run, as YYYY-MM-DD.
        commit: commit of the source tree, followed by ``+changes`` if the tree was not clean.
        machine: processor, threads and version of torch.
        conditions: other work on the machine, threads, number of runs.
        summary: everything a reader must know to understand the tables.
        target: the goal, and whether it is met.
    """

    title: str
    tables: Sequence[Table]
    section: str = "Other"
    command: str = NOT_STATED
    date: str = NOT_STATED
    commit: str = NOT_STATED
    machine: Mapping[str, Any] = field(default_factory=dict)
    conditions: str = ""
    summary: str = ""
    target: str = ""

    @classmethod
    def read(cls, path: Path) -> Measurement:
        """Reads a measurement from a JSON file."""
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**values, "tables": [Table(**table) for table in values["tables"]]})

    def write(self, path: str | Path) -> None:
        """Writes the measurement to a JSON file."""
        text = json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False, default=_plain)
        Path(path).write_text(text + "\n", encoding="utf-8")


def _plain(value: object) -> object:
    """Converts numbers of NumPy and torch to Python's, and everything else to text."""
    return float(value) if isinstance(value, SupportsFloat) else str(value)


def machine() -> dict[str, object]:
    """Processor, threads, bfloat16 support, version of torch and device of this machine."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    capabilities = torch.cpu.get_capabilities()
    return {
        "cpu": model,
        "threads": torch.get_num_threads(),
        "avx512_bf16": bool(capabilities.get("avx512_bf16")),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def commit() -> str:
    """Commit of the source tree, or "not stated" outside a repository."""

    def git(*arguments: str) -> str:
        process = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
        )
        return process.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + "+changes" * bool(
            git("status", "--porcelain", "--untracked-files=no")
        )
    except (OSError, subprocess.CalledProcessError):
        return NOT_STATED


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--json FILE`` to a script."""
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures, machine and commit as JSON"
    )


def write_results(
    path: Path | None, title: str, rows: Sequence[Row] | Sequence[Table], **about: str
) -> None:
    """Writes the results of a script as a measurement of today; does nothing without a path.

    Args:
        path: the JSON file, from ``--json``.
        title: what was measured.
        rows: the rows of one table, or several tables.
        about: further fields of :class:`Measurement`, such as ``summary``.
    """
    if path is None:
        return
    tables = [row for row in rows if isinstance(row, Table)]
    if not tables:
        tables = [Table(rows=[row for row in rows if not isinstance(row, Table)])]
    Measurement(
        title=title,
        tables=tables,
        command=" ".join(["python", *sys.orig_argv[1:]]),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        commit=commit(),
        machine=machine(),
        **about,
    ).write(path)
