"""Headers of tables: where the numbers begin, and what the columns are called."""

from __future__ import annotations

import array
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from convnd.errors import InputFileError
from convnd.io.signals.clocks import is_time_cell
from convnd.io.signals.column import Column, cell_value, grouping_hint, name_and_unit
from convnd.io.signals.time_names import SECONDS

__all__ = ["RATE", "Table", "rate_of", "split_header"]

_HEAD = 1000  # rows in which the data must begin
_SAMPLE = 50  # last rows, which tell the number of columns
_UNIT_CELL = re.compile(r"(?i)\W{0,2}[a-zµμ°%#Ωω][a-zµμ°%0-9/^²#: .]{0,30}\W{0,2}")
_UNITS = {
    *("mv", "uv", "µv", "μv", "v", "nv", "mmhg", "bpm", "%", "c", "°c", "g", "a", "ma", "ua", "µa"),
    *("pa", "kpa", "adu", "nu", "au", "a.u.", "lsb", "raw", "ohm", "kohm", "us", "µs", "m/s^2"),
    *("deg", "rad", "l", "ml", "l/min", "hz", "counts", "count", "sample", "sample #", "#", "-"),
}

RATE = re.compile(
    r"(?i)\b(?:sampl\w*[ _]*(?:rate|freq\w*)|fs|sfreq|frequency)\b"
    r"[^\d\n]{0,12}([\d.]+) *(k?)(?:hz|sps|\b)"
)
"""A sampling rate in words before a table: its number, and "k" for kilohertz."""


class Table(NamedTuple):
    """The rows of numbers of a table, and what its header says about them.

    Args:
        columns: cells of the rows of numbers, by column.
        lines: number of each row in the file.
        named: whether the columns have names.
        trailing: whether each row ended in a separator.
    """

    columns: list[Column]
    lines: Sequence[int]
    named: bool
    trailing: bool


def split_header(
    path: Path,
    rows: Sequence[tuple[int, Sequence[str]]],
    decimal: str = ".",
    *,
    blank_separated: bool = False,
) -> Table:
    """Separate the header of a table, which has names and units, from its rows of numbers.

    Args:
        path: the file, for messages.
        rows: line number and cells of each row, without comments.
        decimal: decimal mark.
        blank_separated: whether blanks stand between cells.

    Raises:
        InputFileError: there are no numbers, or rows of different length.
    """
    first = _first_row(rows, decimal)
    body = rows[first:]
    if not body:
        where = " under the header" if rows else ""
        raise InputFileError(
            f"read {path}",
            expected=f"rows of numbers{where}",
            got="none",
            remedy=grouping_hint(cell for _, cells in rows[-2:] for cell in cells)
            or "save it again",
        )
    # A line of other width that is no neighbour, or a key with a value, holds no names.
    names: list[Sequence[str]] = []
    row_number, width = body[0][0], len(body[0][1])
    for number, cells in reversed(list(rows[:first])):
        is_neighbour = number == row_number - 1 or len(cells) == width
        if not is_neighbour or cells[0].endswith(("=", ":")):
            break
        names.insert(0, cells)
        row_number = number
    trailing = _is_trailing(names, body)
    width = len(body[0][1]) - trailing
    header = _header(path, names, width, blank_separated, body[0][0])
    columns: list[list[str]] = [[] for _ in range(width)]
    lines = array.array("l")
    for number, cells in body:
        if len(cells) != width + trailing:
            raise InputFileError(
                f"read {path}",
                expected=f"{width} columns in every row",
                got=f"{len(cells)} in line {number}",
                remedy="correct it",
            )
        lines.append(number)
        for column, cell in zip(columns, cells, strict=False):
            column.append(cell)
    described = [
        Column(*(header[k] if header else ("", None)), column) for k, column in enumerate(columns)
    ]
    return Table(described, lines, bool(header), trailing)


def _first_row(table: Sequence[tuple[int, Sequence[str]]], decimal: str) -> int:
    """Position of the first row of numbers: most of its cells are numbers, times or gaps."""
    rows = [cells for _, cells in table[:_HEAD]]
    widths = Counter(len(cells) for _, cells in table[-_SAMPLE:])
    usual = max(widths, key=lambda width: (widths[width], width), default=0)
    for position, cells in enumerate(rows):
        if not _is_data(cells, decimal) or abs(len(cells) - usual) > 1:
            continue
        if len(cells) != usual and _words(cells, decimal):
            continue  # a line before the table
        next_row = rows[position + 1] if position + 1 < len(rows) else []
        if next_row and _counts_columns(cells, next_row):
            continue  # the header that pandas gives to columns without names
        if position == 0 and next_row and _words(cells, decimal) > _words(next_row, decimal):
            continue  # a header in which some names are numbers
        while position and _are_gaps(rows[position - 1], cells):
            position -= 1
        return position
    return len(table)


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
    names = cells[1:] if cells and cells[0] == "" else cells
    counts = bool(names) and list(names) == [str(index) for index in range(len(names))]
    return counts and (len(names) < len(cells) or all("." in cell for cell in following))


def _is_trailing(
    header: Sequence[Sequence[str]], rows: Sequence[tuple[int, Sequence[str]]]
) -> bool:
    """Whether every row ends in a separator with nothing behind it."""
    width = len(rows[0][1])
    has_last_name = bool(header) and len(header[-1]) == width and header[-1][-1] != ""
    return width > 1 and not has_last_name and all(cells[-1] == "" for _, cells in rows)


def _header(
    path: Path, table: Sequence[Sequence[str]], width: int, blank_separated: bool, line: int
) -> list[tuple[str, str | None]]:
    """Return name and unit of each column; an empty list without a header.

    Args:
        path: the file, for messages.
        table: cells of the lines before the data.
        width: number of columns.
        blank_separated: whether blanks stand between cells.
        line: number of the first line of data, for messages.
    """
    if not table:
        return []
    last = _fit(table[-1], width, blank_separated)
    if last is None:
        if len(table[-1]) > 1 or len(table) == 1:
            raise InputFileError(
                f"read {path}",
                expected=f"{len(table[-1])} columns in every row",
                got=f"{width} in line {line}",
                remedy="correct it",
            )
        return []
    row_above = _fit(table[-2], width, blank_separated) if len(table) > 1 else None
    if row_above is not None and _are_units(last):
        units = [cell.strip("'\"()[] ") for cell in last]
        names = [name_and_unit(cell) for cell in row_above]
        return [
            (name, unit or unit_of_name)
            for (name, unit_of_name), unit in zip(names, units, strict=True)
        ]
    return [name_and_unit(cell) for cell in last]


def _fit(cells: Sequence[str], width: int, blank_separated: bool) -> list[str] | None:
    """Return the names of ``width`` columns; None if the cells do not fit.

    A header may end in a separator where rows do not; R leaves out the name of its row names.
    """
    if len(cells) == width + 1 and cells[-1] == "":
        return list(cells[:-1])
    if len(cells) == width - 1 and blank_separated:
        return ["", *cells]
    return list(cells) if len(cells) == width else None


def _are_units(cells: Sequence[str]) -> bool:
    """Whether the cells of a row are units."""
    texts = [cell.strip("'\"()[] ").lower() for cell in cells]
    unit_count = sum(
        text in _UNITS or text in SECONDS or re.fullmatch(r"[hmsdyt:./\- ]*", text) is not None
        for text in texts
    )
    plain = all(_UNIT_CELL.fullmatch(cell) or not cell for cell in cells)
    return plain and unit_count >= (len(texts) + 1) // 2


def rate_of(preamble: Sequence[str]) -> float | None:
    """The sampling rate that a line before the data names, or None."""
    for line in preamble:
        match = RATE.search(line)
        if match and re.fullmatch(r"\d+\.?\d*|\.\d+", match[1]) and float(match[1]) > 0:
            return float(match[1]) * (1000 if match[2] else 1)
    return None
