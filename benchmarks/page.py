"""Writes ``docs/benchmarks.md``, the page of current figures, from ``benchmarks/results/*.json``.

Other pages show the tables of single files between the lines ``<!-- results: FILE.json … -->`` and
``<!-- end of results -->``, with a link in the place of long tables.

python -m benchmarks.page            # write the page
python -m benchmarks.page --check    # exit with 1 if the page differs from the files
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measurement import NOT_STATED, RESULTS, ROOT, Measurement, Table

PAGE = ROOT / "docs" / "benchmarks.md"
SECTIONS = (
    "Speed",
    "Size, memory and processes",
    "GPU",
    "Pictures",
    "Video",
    "Signals",
    "Volumes",
    "Inspection",
    "Robustness",
    "Other projects' tests",
)
MOST_ROWS = 40
"""Rows of a table above which other pages link to the page of all figures."""

HEAD = """\
# Benchmarks

`python -m benchmarks.page` generates this page from the files in `benchmarks/results/`. Do not edit
it.

Each table shows the latest figures of one measurement, on the machine that its line names. Ratios
are taken turn by turn, so that other work on the machine changes them little; seconds are valid
only for the machine of the measurement. If a run did not record its machine or its commit, the page
says "not stated". The [notes](notes/index.md) describe what was tried and rejected.

The scripts are in three folders: `benchmarks/performance` measures a release,
`benchmarks/experiments` compares choices for a default and searches for faults, and
`benchmarks/training` trains the weights in the package. Every script runs from the root of the
repository as `python -m benchmarks.FOLDER.NAME`; `--help` lists its options, and `--json FILE`
writes its figures in the format of `benchmarks/results/`.
"""
TAIL = """\
## Not measured yet

- A CPU with AMX, and a GPU for games or laptops.
- bfloat16 against float32 with VGG-19.
- 512³ and 10⁸ samples over whole jobs in all their tiles.
"""


def cell(value: Any) -> str:
    """One value as the text of a table cell."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value).replace("|", "\\|")


def table_lines(table: Table) -> list[str]:
    """A table as lines of Markdown."""
    columns = list(dict.fromkeys(name for row in table.rows for name in row))
    lines = [f"{table.caption}:", ""] if table.caption else []
    cells = [columns, ["---"] * len(columns)]
    cells += [[cell(row.get(name)) for name in columns] for row in table.rows]
    lines += ["| " + " | ".join(row) + " |" for row in cells]
    return [*lines, ""]


def measurement_lines(measurement: Measurement, most_rows: int | None = None) -> list[str]:
    """A measurement as lines of Markdown.

    Args:
        measurement: the measurement.
        most_rows: number of rows of a table above which a link takes its place; None for any.
    """
    machine = dict(measurement.machine)
    processor = str(machine.pop("cpu", NOT_STATED))
    details = [f"{name} {value}" for name, value in machine.items()]
    place = ", ".join([processor, *details, *filter(None, [measurement.conditions])])
    lines = [f"### {measurement.title}", ""]
    if measurement.summary:
        lines += [measurement.summary, ""]
    for table in measurement.tables:
        if most_rows is None or len(table.rows) <= most_rows:
            lines += table_lines(table)
        else:
            link = f"[{len(table.rows)} rows](../benchmarks.md#{_anchor(measurement.title)})"
            lines += [f"{table.caption}: {link}.", ""]
    if measurement.target:
        lines += [f"**Target.** {measurement.target}", ""]
    lines += [
        f"Command: `{measurement.command}`  ",
        f"Machine: {place}. Date: {measurement.date}. Commit: {measurement.commit}.",
        "",
    ]
    return lines


def _anchor(title: str) -> str:
    """The anchor of a heading, as MkDocs makes it."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def page(measurements: Sequence[Measurement]) -> str:
    """The whole page."""
    sections = [*SECTIONS, *{m.section for m in measurements if m.section not in SECTIONS}]
    lines = [HEAD]
    for section in sections:
        chosen = [measurement for measurement in measurements if measurement.section == section]
        if chosen:
            lines += [f"## {section}", ""]
        for measurement in chosen:
            lines += measurement_lines(measurement)
    return "\n".join([*lines, TAIL])


def filled(text: str) -> str:
    """Inserts the tables of the files that a page names; skips files that do not exist."""

    def tables(match: re.Match[str]) -> str:
        lines = [match[1], ""]
        for name in match[2].split():
            if (RESULTS / name).exists():
                lines += measurement_lines(Measurement.read(RESULTS / name), MOST_ROWS)
        return "\n".join([*lines, match[3]])

    pattern = r"(<!-- results: ([\w. ]+) -->)\n.*?(<!-- end of results -->)"
    return re.sub(pattern, tables, text, flags=re.DOTALL)


def pages() -> dict[Path, str]:
    """The text of every page that shows results."""
    measured = {PAGE: page([Measurement.read(path) for path in sorted(RESULTS.glob("*.json"))])}
    for path in sorted((ROOT / "docs" / "guide").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if "<!-- results: " in text:
            measured[path] = filled(text)
    return measured


def main() -> None:
    """Writes the pages, or compares them with the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    args = parser.parse_args()
    old = []
    for path, text in pages().items():
        if not args.check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            old.append(str(path.relative_to(ROOT)))
    names = ", ".join(str(path.relative_to(ROOT)) for path in pages())
    if old:
        sys.exit(f"{', '.join(old)} out of date; run: python -m benchmarks.page")
    print(f"{names} {'up to date' if args.check else 'written'}")


if __name__ == "__main__":
    main()
