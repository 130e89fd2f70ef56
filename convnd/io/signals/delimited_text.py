"""The lines and cells of a table of text: encoding, separator, decimal mark, comments."""

from __future__ import annotations

import array
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from convnd.errors import InputFileError
from convnd.io.signals.clocks import is_time_cell
from convnd.io.signals.column import grouping_hint

__all__ = ["COMMENTS", "Rows", "TextLayout", "decode_text", "find_punctuation", "lines_between"]

COMMENTS = ("#", "%", "//")
"""Starts of lines that are no rows."""

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"
_START = 2**16
_SEPARATORS = ("\t", ";", "|", ",")
_HEAD = 1000  # lines in which the data must begin
_SAMPLE = 50  # lines that tell separator and decimal mark
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class TextLayout:
    """How a table of text separates and encodes its cells and lines.

    Args:
        separator: separator between cells; a space is any blank.
        preamble: lines before the data, as they are; the last ones are the header.
        between: further lines without data, each with the number of rows before it.
        trailing: whether rows end in a separator.
        newline: the end of a line.
        encoding: encoding of the characters.
    """

    separator: str
    preamble: tuple[str, ...] = ()
    between: tuple[tuple[int, str], ...] = ()
    trailing: bool = False
    newline: str = "\n"
    encoding: str = "utf-8"


class Rows(Sequence[tuple[int, list[str]]]):
    """The lines of a table that are not comments: line number and cells, split on access.

    If all rows were split at once, short cells would take many times the memory of the text.

    Args:
        lines: lines of the file.
        separator: separator between cells.
        positions: indices of the rows in ``lines``; None finds them.
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
    def __getitem__(self, index: slice) -> Rows: ...

    def __getitem__(self, index: int | slice) -> tuple[int, list[str]] | Rows:
        if isinstance(index, slice):
            return Rows(self._lines, self._separator, self._positions[index])
        position = self._positions[index]
        return position + 1, _cells(self._lines[position], self._separator)


def decode_text(path: Path) -> tuple[str, str]:
    """Return the text of a file, and its encoding.

    Raises:
        InputFileError: the file holds other bytes than text.
    """
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


def find_punctuation(path: Path, lines: Sequence[str]) -> tuple[str, str]:
    """Find separator and decimal mark, from the last of the first lines with data.

    Raises:
        InputFileError: there is no line with data, or numbers have two decimal marks.
    """
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


def lines_between(lines: Sequence[str], first: int) -> tuple[tuple[int, str], ...]:
    """List the lines without data, each with the number of rows before it.

    Args:
        lines: lines of the file.
        first: index of the first line to look at.
    """
    count, notes = 0, []
    for line in lines[first:]:
        if _is_remark(line):
            notes.append((count, line))
        else:
            count += 1
    return tuple(notes)


def _is_remark(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith(COMMENTS)


def _named_separator(line: str) -> str:
    """The separator of a first line like ``sep=;``, which Excel writes; or ""."""
    match = re.fullmatch(r"(?i)\W?sep=(.)\W?", line.strip("\n"))
    return match[1] if match else ""


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
