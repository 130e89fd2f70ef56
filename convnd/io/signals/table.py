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
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from convnd.errors import InputFileError
from convnd.io.reading import translate_errors
from convnd.io.registry import Format
from convnd.io.signals.columns import (
    Column,
    Layout,
    cell_value,
    columns_of,
    name_and_unit,
    table_grid,
)
from convnd.io.signals.signal import check_samples, sampling_rate, signal_of, value_units
from convnd.io.signals.times import SECONDS, decimal_digits, format_time, is_time_cell

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["FORMATS", "default_header", "default_times", "read_table"]

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"
_START = 2**16
_SEPARATORS = ("\t", ";", "|", ",")
_COMMENTS = ("#", "%", "//")
_HEAD = 1000  # lines in which the data must begin
_SAMPLE = 50  # lines that tell separator and decimal mark
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
_UNIT_CELL = re.compile(r"(?i)\W{0,2}[a-zµμ°%#Ωω][a-zµμ°%0-9/^²#: .]{0,30}\W{0,2}")
_RATE = re.compile(
    r"(?i)\b(?:sampl\w*[ _]*(?:rate|freq\w*)|fs|sfreq|frequency)\b"
    r"[^\d\n]{0,12}([\d.]+) *(k?)(?:hz|sps|\b)"
)
_UNITS = {
    *("mv", "uv", "µv", "μv", "v", "nv", "mmhg", "bpm", "%", "c", "°c", "g", "a", "ma", "ua", "µa"),
    *("pa", "kpa", "adu", "nu", "au", "a.u.", "lsb", "raw", "ohm", "kohm", "us", "µs", "m/s^2"),
    *("deg", "rad", "l", "ml", "l/min", "hz", "counts", "count", "sample", "sample #", "#", "-"),
}


@dataclass(frozen=True)
class _Text:
    """How a table of text is punctuated.

    Args:
        separator: between cells; a space is any blank.
        before: lines before the data, as they are; the last ones are the header.
        between: further lines without data, each with the number of rows before it.
        trailing: whether rows end in a separator.
        newline: the end of a line.
        encoding: of the characters.
    """

    separator: str
    before: tuple[str, ...] = ()
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
        first = _first_row(lines, separator, decimal)
        rows = [
            (number, _cells(line, separator))
            for number, line in enumerate(lines[first:], first + 1)
            if not _is_remark(line)
        ]
        if not rows:
            where = " under the header" if any(not _is_remark(line) for line in lines) else ""
            raise InputFileError(
                f"read {path}: expected rows of numbers{where}, got none; save it again"
            )
        check_samples(path, len(rows[0][1]) * len(rows), max_pixels)
        header_rows = [
            _cells(line, separator)
            for line in lines[:first]
            if not _is_remark(line) and not _named_separator(line)
        ]
        trailing = separator != " " and _is_trailing(header_rows, [cells for _, cells in rows])
        width = len(rows[0][1]) - trailing
        header = _header(path, header_rows, width, separator, rows[0][0])
        for number, cells in rows:
            if len(cells) != width + trailing:
                raise InputFileError(
                    f"read {path}: expected {width} columns in every row, got {len(cells)} in line "
                    f"{number}; correct it"
                )
        columns = [
            Column(*(header[k] if header else ("", None)), [cells[k] for _, cells in rows])
            for k in range(width)
        ]
        layout = _Text(
            separator,
            tuple(lines[:first]),
            _lines_between(lines, first),
            trailing,
            "\r\n" if "\r\n" in text else "\n",
            encoding,
        )
        return table_grid(
            path,
            columns,
            [number for number, _ in rows],
            named=bool(header),
            decimal=decimal,
            text=layout,
            rate=_rate_of(lines[:first]),
        )


def _decode(path: Path) -> tuple[str, str]:
    """The text of a file, and its encoding."""
    with path.open("rb") as file:
        head = file.read(_START)
    # Bytes of other content would become rows of cells, which take many times as much memory.
    if b"\0" in head and head[:2] not in _UTF16:
        raise InputFileError(f"read {path}: expected text, got other bytes; check the file")
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
        raise InputFileError(f"read {path}: expected rows of numbers, got none; save it again")
    named = _named_separator(sample[0])
    sample = sample[-_SAMPLE:]
    separator = named or _separator(sample)
    cells = [cell for line in sample for cell in _cells(line, separator)]
    numbers = [cell for cell in cells if cell[:1].isdigit() or cell[:1] in "+-.,"]
    points = any("." in cell and not is_time_cell(cell) for cell in numbers)
    commas = any(_DECIMAL_COMMA.fullmatch(cell) for cell in numbers)
    return separator, "," if commas and not points else "."


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


def _first_row(lines: Sequence[str], separator: str, decimal: str) -> int:
    """Position of the first line of numbers: most of its cells are numbers, times or gaps."""
    candidates = [k for k in range(min(len(lines), _HEAD)) if not _is_remark(lines[k])]
    for position, index in enumerate(candidates):
        if _named_separator(lines[index]):
            continue
        cells = _cells(lines[index], separator)
        if not _is_data(cells, decimal):
            continue
        following = candidates[position + 1 : position + 2]
        below = _cells(lines[following[0]], separator) if following else []
        if below and _counts_columns(cells, below):
            continue  # the header that pandas gives to columns without names
        if position == 0 and below and _words(cells, decimal) > _words(below, decimal):
            continue  # a header in which some names are numbers
        while position and _are_gaps(_cells(lines[candidates[position - 1]], separator), cells):
            position -= 1
        return candidates[position]
    return len(lines)


def _are_gaps(cells: Sequence[str], following: Sequence[str]) -> bool:
    """Whether a line is a row of gaps above another row."""
    return len(cells) == len(following) and _gaps(cells) == len(cells)


def _is_data(cells: Sequence[str], decimal: str) -> bool:
    words, gaps = _words(cells, decimal), _gaps(cells)
    numbers = len(cells) - words - gaps
    return numbers > 0 and numbers >= words


def _words(cells: Sequence[str], decimal: str) -> int:
    """The number of cells that are no numbers, times or gaps."""
    return sum(cell_value(cell, decimal) is None and not is_time_cell(cell) for cell in cells)


def _gaps(cells: Sequence[str]) -> int:
    values = [cell_value(cell) for cell in cells]
    return sum(value is not None and math.isnan(value) for value in values)


def _counts_columns(cells: Sequence[str], following: Sequence[str]) -> bool:
    """Whether cells are 0, 1, 2 …, behind an empty one or above numbers with decimals."""
    named = cells[1:] if cells and cells[0] == "" else cells
    counts = bool(named) and list(named) == [str(index) for index in range(len(named))]
    return counts and (len(named) < len(cells) or all("." in cell for cell in following))


def _is_trailing(header: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> bool:
    """Whether every row ends in a separator with nothing behind it."""
    width = len(rows[0])
    named = bool(header) and len(header[-1]) == width and header[-1][-1] != ""
    return width > 1 and not named and all(cells[-1] == "" for cells in rows)


def _header(
    path: Path, table: Sequence[Sequence[str]], width: int, separator: str, line: int
) -> list[tuple[str, str | None]]:
    """Name and unit of each column; empty if there is no header.

    Args:
        path: the file, for messages.
        table: cells of the lines before the data.
        width: number of columns.
        separator: between cells.
        line: number of the first line of data, for messages.
    """
    if not table:
        return []
    last = _fit(table[-1], width, separator)
    if last is None:
        if len(table[-1]) > 1 or len(table) == 1:
            raise InputFileError(
                f"read {path}: expected {len(table[-1])} columns in every row, got {width} in line "
                f"{line}; correct it"
            )
        return []
    above = _fit(table[-2], width, separator) if len(table) > 1 else None
    if above is not None and _are_units(last):
        units = [cell.strip("'\"()[] ") for cell in last]
        names = [name_and_unit(cell) for cell in above]
        return [(name, unit or own) for (name, own), unit in zip(names, units, strict=True)]
    return [name_and_unit(cell) for cell in last]


def _fit(cells: Sequence[str], width: int, separator: str) -> list[str] | None:
    """The names of this many columns, or None.

    A header may end in a separator where rows do not; R leaves out the name of its row names.
    """
    if len(cells) == width + 1 and cells[-1] == "":
        return list(cells[:-1])
    if len(cells) == width - 1 and separator in " \t":
        return ["", *cells]
    return list(cells) if len(cells) == width else None


def _are_units(cells: Sequence[str]) -> bool:
    """Whether the cells of a row are units."""
    texts = [cell.strip("'\"()[] ").lower() for cell in cells]
    known = sum(
        text in _UNITS or text in SECONDS or re.fullmatch(r"[hmsdyt:./\- ]*", text) is not None
        for text in texts
    )
    plain = all(_UNIT_CELL.fullmatch(cell) or not cell for cell in cells)
    return plain and known >= (len(texts) + 1) // 2


def _rate_of(before: Sequence[str]) -> float | None:
    """The sampling rate that a line before the data names, or None."""
    for line in before:
        match = _RATE.search(line)
        if match and re.fullmatch(r"\d+\.?\d*|\.\d+", match[1]) and float(match[1]) > 0:
            return float(match[1]) * (1000 if match[2] else 1)
    return None


def _with_rate(line: str, grid: Grid) -> str:
    """A line before the data; if it names the sampling rate, with that of the grid."""
    match = _RATE.search(line)
    if match is None or _rate_of([line]) is None or grid.units != ("s",):
        return line
    rate = sampling_rate(grid) / (1000 if match[2] else 1)
    return f"{line[: match.start(1)]}{rate:.9g}{line[match.end(1) :]}"


def _lines_between(lines: Sequence[str], first: int) -> tuple[tuple[int, str], ...]:
    count, between = 0, []
    for line in lines[first:]:
        if _is_remark(line):
            between.append((count, line))
        else:
            count += 1
    return tuple(between)


def _write_table(path: Path, grid: Grid, **_: object) -> None:
    # Provenance goes into a sidecar: in the table it would confuse other readers.
    signal = signal_of(grid)
    known = signal.extra.get("layout") if signal.format == "table" else None
    if isinstance(known, Layout) and known.names == grid.channels and known.text is not None:
        layout, text = known, known.text
    else:
        layout, text = _default_layout(grid, path)
    count = grid.shape[0]
    columns = columns_of(grid, layout, layout.cell)
    if layout.time is None and known is None and grid.units == ("s",):
        columns.insert(0, default_times(grid))
    rows = [
        text.separator.join(_quoted(cell, text.separator) for cell in row)
        + (text.separator if text.trailing else "")
        for row in zip(*columns, strict=True)
    ]
    before = list(text.before)
    if layout.count and count != layout.count:
        before = [_with_rate(line, grid) for line in before]
    else:
        for position, line in reversed(text.between):
            rows.insert(position, line)
    out = io.StringIO(newline="")
    for line in [*before, *rows]:
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
    return [format_time(offset + step * index, "", digits) for index in range(grid.shape[0])]


def _default_layout(grid: Grid, path: Path) -> tuple[Layout, _Text]:
    separator = "," if path.suffix.lower() == ".csv" else "\t"
    header = separator.join(_quoted(name, separator) for name in default_header(grid))
    layout = Layout(grid.channels, tuple(range(len(grid.channels))))
    return layout, _Text(separator, (header,))


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
