"""Tables of text: ``.csv``, ``.tsv`` and ``.txt``, one row for each sample.

The reader detects the encoding, a header with or without a row of units, comments and other lines
before the data, the separator, decimal commas, quotes and empty last columns. Units stand behind
the name (``II (mV)``, ``II [mV]``) or in a row of their own. A column of times gives the sampling
rate: numbers with a unit (``time (ms)``, ``epoch_ms``), clocks (``hh:mm:ss.mmm``) or dates, in one
column or two. An evenly rising first column is a time or an index, whatever its name. Empty cells
and ``nan`` are gaps. A result has the lines, times and words of its input.
"""

from __future__ import annotations

import array
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, overload

from convnd.errors import InputFileError
from convnd.io.reading import translate_errors
from convnd.io.registry import Format
from convnd.io.signals.clocks import format_ticks, is_time_cell
from convnd.io.signals.column import grouping_hint
from convnd.io.signals.columns import Layout, columns_of, table_grid
from convnd.io.signals.headers import RATE, rate_of, split_header
from convnd.io.signals.limits import check_samples
from convnd.io.signals.signal import sampling_rate, signal_of, value_units
from convnd.io.signals.times import decimal_digits

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["FORMATS", "default_header", "default_times", "read_table"]

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"
_START = 2**16
_SEPARATORS = ("\t", ";", "|", ",")
_COMMENTS = ("#", "%", "//")
_LINE_ENDS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]+")
_HEAD = 1000  # lines in which the data must begin
_MOST_COLUMNS = 2**16
_SAMPLE = 50  # lines that tell separator and decimal mark
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class _Text:
    """How a table of text separates and encodes its cells and lines.

    Args:
        separator: between cells; a space is any blank.
        preamble: lines before the data, as they are; the last ones are the header.
        between: further lines without data, each with the number of rows before it.
        trailing: whether rows end in a separator.
        newline: the end of a line.
        encoding: of the characters.
    """

    separator: str
    preamble: tuple[str, ...] = ()
    between: tuple[tuple[int, str], ...] = ()
    trailing: bool = False
    newline: str = "\n"
    encoding: str = "utf-8"


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
        text, encoding = _decode(path)
        lines = text.splitlines()
        separator, decimal = _punctuation(path, lines)
        rows = _Rows(lines, separator)
        widths = [len(cells) for _, cells in rows]
        check_samples(path, sum(widths), max_pixels)
        if max(widths, default=0) > _MOST_COLUMNS:  # each takes 600 bytes, whatever it holds
            raise InputFileError(
                f"read {path}",
                expected=f"at most {_MOST_COLUMNS:,} columns",
                got=f"{max(widths):,}",
                remedy="write one row for each sample",
            )
        table = split_header(path, rows, decimal, blank_separated=separator in " \t")
        layout = _Text(
            separator,
            tuple(lines[: table.lines[0] - 1]),
            _lines_between(lines, table.lines[0] - 1),
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


class _Rows(Sequence[tuple[int, list[str]]]):
    """The lines of a table that are not comments: line number and cells, split on access.

    If all rows were split at once, short cells would take many times the memory of the text.

    Args:
        lines: of the file.
        separator: between cells.
        positions: of the rows in ``lines``; None to find them.
    """

    def __init__(
        self, lines: Sequence[str], separator: str, positions: Sequence[int] | None = None
    ) -> None:
        self._lines, self._separator = lines, separator
        if positions is None:
            positions = array.array(
                "l",
                (
                    index
                    for index, line in enumerate(lines)
                    if not _is_remark(line) and (index >= _SAMPLE or not _named_separator(line))
                ),
            )
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> tuple[int, list[str]]: ...

    @overload
    def __getitem__(self, index: slice) -> _Rows: ...

    def __getitem__(self, index: int | slice) -> tuple[int, list[str]] | _Rows:
        if isinstance(index, slice):
            return _Rows(self._lines, self._separator, self._positions[index])
        position = self._positions[index]
        return position + 1, _cells(self._lines[position], self._separator)


def _decode(path: Path) -> tuple[str, str]:
    """The text of a file, and its encoding."""
    with path.open("rb") as file:
        head = file.read(_START)
    # Bytes of other content would become rows of cells, which take many times as much memory.
    if b"\0" in head and head[:2] not in _UTF16:
        raise InputFileError(
            f"read {path}", expected="text", got="other bytes", remedy="check the file"
        )
    raw = path.read_bytes()
    if raw[:2] in _UTF16:
        return raw.decode("utf-16"), "utf-16"
    try:
        return raw.decode("utf-8-sig"), "utf-8-sig" if raw[:3] == _BOM else "utf-8"
    except UnicodeDecodeError:
        return raw.decode("latin-1"), "latin-1"


def _is_remark(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith(_COMMENTS)


def _named_separator(line: str) -> str:
    """The separator of a first line like ``sep=;``, which Excel writes; or ""."""
    match = re.fullmatch(r"(?i)\W?sep=(.)\W?", line.strip("\n"))
    return match[1] if match else ""


def _punctuation(path: Path, lines: Sequence[str]) -> tuple[str, str]:
    """Separator and decimal mark, judged by the last of the first lines with data."""
    sample = [line for line in lines[: _HEAD + _SAMPLE] if not _is_remark(line)]
    if not sample:
        raise InputFileError(
            f"read {path}", expected="rows of numbers", got="none", remedy="save it again"
        )
    separator = _named_separator(sample[0])
    sample = sample[-_SAMPLE:]
    separator = separator or _separator(sample)
    cells = [cell for line in sample for cell in _cells(line, separator)]
    numbers = [cell for cell in cells if cell[:1].isdigit() or cell[:1] in "+-.,"]
    point = next((c for c in numbers if "." in c and not is_time_cell(c)), "")
    comma = next((cell for cell in numbers if _DECIMAL_COMMA.fullmatch(cell)), "")
    if point and comma and separator != ",":  # one of them separates thousands
        raise InputFileError(
            f"read {path}",
            expected="one decimal mark, a point or a comma",
            got=f"{comma[:40]!r} and {point[:40]!r}",
            remedy=grouping_hint([point, comma]) or "write all numbers in one way",
        )
    return separator, "," if comma and not point else "."


def _separator(sample: Sequence[str]) -> str:
    last = re.sub(r'"[^"]*"', '""', sample[-1])
    for separator in _SEPARATORS[:-1]:
        if separator in last:
            return separator
    words = last.split()
    if len(words) > 1 and all(_DECIMAL_COMMA.fullmatch(w) or w.isdigit() for w in words):
        return " "
    if "," in last:
        # One decimal comma in every row under a header of one name: a single column.
        rows = [line for line in sample[-_SAMPLE:] if _DECIMAL_COMMA.fullmatch(line.strip())]
        is_single = len(sample) > 2 and "," not in sample[0] and len(rows) >= len(sample) - 2
        return ";" if is_single else ","
    return " " if len(words) > 1 else ","


def _cells(line: str, separator: str) -> list[str]:
    if separator == " " and '"' not in line:
        return line.split()
    if '"' in line:
        import csv

        if separator == " ":
            return [cell for cell in next(csv.reader([line], delimiter=" ")) if cell]
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]
    return [cell.strip() for cell in line.split(separator)]


def _with_rate(line: str, grid: Grid) -> str:
    """A line before the data; if it names the sampling rate, with that of the grid."""
    match = RATE.search(line)
    if match is None or rate_of([line]) is None or grid.units != ("s",):
        return line
    rate = sampling_rate(grid) / (1000 if match[2] else 1)
    return f"{line[: match.start(1)]}{rate:.9g}{line[match.end(1) :]}"


def _lines_between(lines: Sequence[str], first: int) -> tuple[tuple[int, str], ...]:
    count, notes = 0, []
    for line in lines[first:]:
        if _is_remark(line):
            notes.append((count, line))
        else:
            count += 1
    return tuple(notes)


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


def _default_layout(grid: Grid, path: Path) -> tuple[Layout, _Text]:
    separator = "," if path.suffix.lower() == ".csv" else "\t"
    header = separator.join(_name_cell(name, separator) for name in default_header(grid))
    layout = Layout(grid.channels, tuple(range(len(grid.channels))))
    return layout, _Text(separator, (header,))


def _name_cell(name: str, separator: str) -> str:
    """Write a name, which another format may hold, as one cell of one line, see RFC 4180."""
    name = _LINE_ENDS.sub(" ", name)
    if separator in name or '"' in name or name.startswith(_COMMENTS):
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
