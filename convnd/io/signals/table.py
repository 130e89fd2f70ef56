"""Tables of text: ``.csv``, ``.tsv`` and ``.txt``, one row for each sample.

The reader detects the encoding, a header with or without a row of units, comments and other lines
before the data, the separator, decimal commas, quotes and empty last columns. Units stand behind
the name (``II (mV)``, ``II [mV]``) or in a row of their own. A column of times gives the sampling
rate: numbers with a unit (``time (ms)``, ``epoch_ms``), clocks (``hh:mm:ss.mmm``) or dates, in one
column or two. An evenly rising first column is a time or an index, whatever its name. Empty cells
and ``nan`` are gaps. A result has the lines, times and words of its input.
"""

from __future__ import annotations

import io
import math
import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from convnd.io.reading import check_limit, translate_errors
from convnd.io.registry import Format
from convnd.io.signals.clocks import format_ticks
from convnd.io.signals.columns import Layout, columns_of, table_grid
from convnd.io.signals.delimited_text import (
    COMMENTS,
    Rows,
    TextLayout,
    decode_text,
    find_punctuation,
    lines_between,
)
from convnd.io.signals.headers import RATE, rate_of, split_header
from convnd.io.signals.limits import check_samples
from convnd.io.signals.signal import sampling_rate, signal_of, value_units
from convnd.io.signals.times import decimal_digits

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["FORMATS", "default_header", "default_times", "read_table"]

_LINE_ENDS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]+")
_MOST_COLUMNS = 2**16


def read_table(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read a table of samples.

    Args:
        path: an existing file in UTF-8, UTF-16 or Latin-1.
        max_pixels: largest number of samples over all channels.

    Returns:
        Values ``(1, C, T)``; spacing in seconds when there is a time column, else in samples.

    Raises:
        InputFileError: rows of different length, text among numbers, times that do not step
            evenly, a unit of time that is not known, nothing but gaps, or too large.
    """
    with translate_errors(path, "a table of numbers"):
        text, encoding = decode_text(path)
        lines = text.splitlines()
        separator, decimal = find_punctuation(path, lines)
        rows = Rows(lines, separator)
        widths = [len(cells) for _, cells in rows]
        check_samples(path, sum(widths), max_pixels)
        columns = max(widths, default=0)  # each takes 600 bytes, whatever it holds
        check_limit(path, columns, _MOST_COLUMNS, "columns", "write one row for each sample")
        table = split_header(path, rows, decimal, blank_separated=separator in " \t")
        layout = TextLayout(
            separator,
            tuple(lines[: table.lines[0] - 1]),
            lines_between(lines, table.lines[0] - 1),
            table.trailing,
            "\r\n" if "\r\n" in text else "\n",
            encoding,
        )
        return table_grid(
            path,
            table.columns,
            table.lines,
            named=table.named,
            decimal=decimal,
            text=layout,
            rate=rate_of(layout.preamble),
        )


def _with_rate(line: str, grid: Grid) -> str:
    """A line before the data; if it names the sampling rate, with that of the grid."""
    match = RATE.search(line)
    if match is None or rate_of([line]) is None or grid.units != ("s",):
        return line
    rate = sampling_rate(grid) / (1000 if match[2] else 1)
    return f"{line[: match.start(1)]}{rate:.9g}{line[match.end(1) :]}"


def _write_table(path: Path, grid: Grid, **_: object) -> None:
    # Provenance goes into a sidecar: in the table it would confuse other readers.
    signal = signal_of(grid)
    source_layout = signal.extra.get("layout") if signal.format == "table" else None
    if (
        isinstance(source_layout, Layout)
        and source_layout.names == grid.channels
        and source_layout.text is not None
    ):
        layout, text = source_layout, source_layout.text
    else:
        layout, text = _default_layout(grid, path)
    count = grid.shape[0]
    columns = columns_of(grid, layout, layout.cell)
    if layout.time is None and source_layout is None and grid.units == ("s",):
        columns.insert(0, default_times(grid))
    rows = [
        text.separator.join(_quoted(cell, text.separator) for cell in row)
        + (text.separator if text.trailing else "")
        for row in zip(*columns, strict=True)
    ]
    preamble = list(text.preamble)
    if layout.count and count != layout.count:
        preamble = [_with_rate(line, grid) for line in preamble]
    else:
        for position, line in reversed(text.between):
            rows.insert(position, line)
    out = io.StringIO(newline="")
    for line in [*preamble, *rows]:
        out.write(line + text.newline)
    path.write_bytes(out.getvalue().encode(text.encoding, "replace"))


def default_header(grid: Grid) -> list[str]:
    """Names of columns for a recording that was no table: a time, and each lead with its unit."""
    names = [
        f"{name} ({unit})" if unit else name
        for name, unit in zip(grid.channels, value_units(grid), strict=True)
    ]
    return ["time (s)", *names] if grid.units == ("s",) else names


def default_times(grid: Grid) -> list[str]:
    """Seconds of each sample, as text."""
    step = 1 / Fraction(sampling_rate(grid)).limit_denominator(10**9)
    offset = Fraction(str(signal_of(grid).offset))
    digits = max(decimal_digits(step), decimal_digits(offset) if offset > 0 else 0)
    # Whole numbers over one denominator take a tenth of the time that fractions do.
    divisor = math.lcm(step.denominator, offset.denominator)
    start, increment = (int(time * divisor) * 10**digits for time in (offset, step))
    return [
        format_ticks(_round_ratio(start + increment * index, divisor), digits)
        for index in range(grid.shape[0])
    ]


def _round_ratio(numerator: int, divisor: int) -> int:
    """The whole number nearest to a ratio, of two the even one, as `round` of a fraction."""
    whole, rest = divmod(numerator, divisor)
    return whole + (2 * rest > divisor or (2 * rest == divisor and whole % 2 == 1))


def _default_layout(grid: Grid, path: Path) -> tuple[Layout, TextLayout]:
    separator = "," if path.suffix.lower() == ".csv" else "\t"
    header = separator.join(_name_cell(name, separator) for name in default_header(grid))
    layout = Layout(grid.channels, tuple(range(len(grid.channels))))
    return layout, TextLayout(separator, (header,))


def _name_cell(name: str, separator: str) -> str:
    """Write a name, which another format may hold, as one cell of one line, see RFC 4180."""
    name = _LINE_ENDS.sub(" ", name)
    if separator in name or '"' in name or name.startswith(COMMENTS):
        return '"' + name.replace('"', '""') + '"'
    return name


def _quoted(cell: str, separator: str) -> str:
    if separator in cell and cell[:1] != '"':
        return '"' + cell.replace('"', '""') + '"'
    return cell


FORMATS = (
    Format(
        name="table",
        suffixes=(".csv", ".tsv", ".txt"),
        spatial_dims=1,
        read=read_table,
        write=_write_table,
        unsupported_metadata=(
            "start time",
            "annotations",
            "gain and baseline",
            "leads of other rates",
        ),
    ),
)
