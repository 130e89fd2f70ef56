"""Tables of text: ``.csv`` and ``.tsv``, one row for each sample.

The reader detects a header, the separator (comma, semicolon, tab, space), decimal commas and a time
column. Units stand behind the name in the header: ``II (mV)`` or ``II [mV]``. A column named time,
t, seconds or similar gives the sampling rate, with its unit in brackets: ``time (ms)``. Empty cells
and ``nan`` are gaps.
"""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.reading import translate_errors
from convnd.io.registry import Format
from convnd.io.signals.signal import Signal, check_samples, signal_grid, signal_of, value_units

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["FORMATS", "read_table"]

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_START = 2**16
_SEPARATORS = ("\t", ";", ",")
_TIME = {"t", "time", "times", "seconds", "second", "sec", "timestamp", "datetime", "date"}
_SECONDS = {"": 1.0, "s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
_GAPS = {"", "nan", "na", "null", "none", "-"}
_BRACKETS = re.compile(r"[\(\)\[\]]")
_UNEVEN = 0.01  # of a step: the largest distance of a time from a regular grid


@dataclass(frozen=True)
class _Layout:
    separator: str
    decimal: str
    header: tuple[str, ...]  # as it stands; empty: none
    time: int | None
    per_second: float = 1.0  # units of the time column to seconds
    first: float = 0.0
    dates: bool = False
    newline: str = "\n"


def read_table(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read a table of samples.

    Args:
        path: an existing file, UTF-8 (or Latin-1).
        max_pixels: largest number of samples over all channels.

    Returns:
        Values ``(1, C, T)``; spacing in seconds when there is a time column, else in samples.

    Raises:
        InputFileError: rows of different length, text among numbers, times that do not step
            evenly, nothing but gaps, or too large.
    """
    import numpy as np

    with translate_errors(path, "a table of numbers"):
        text = _decode(path)
        lines = [
            (number, line)
            for number, line in enumerate(text.splitlines(), 1)
            if line.strip() and not line.startswith("#")
        ]
        if not lines:
            raise InputFileError(f"read {path}: expected rows of numbers, got none; save it again")
        separator, decimal = _punctuation(lines)
        header, rows = _header_and_rows(path, lines, separator, decimal)
        width = len(rows[0][1])
        check_samples(path, width * len(rows), max_pixels)
        names = [_name_and_unit(cell) for cell in header]
        time = _time_column(names, rows, decimal)
        newline = "\r\n" if "\r\n" in text else "\n"
        rate, start, layout = None, None, _Layout(separator, decimal, header, time, newline=newline)
        if time is not None:
            column = [(number, cells[time]) for number, cells in rows]
            rate, start, layout = _times(path, column, names, layout)
        columns = [index for index in range(width) if index != time]
        if not columns:
            raise InputFileError(
                f"read {path}: expected a column of values beside the time, got none; add one"
            )
        samples = np.array(
            [[_number(path, line, cells[i], decimal) for line, cells in rows] for i in columns],
            np.float64,
        )
        if len(rows) < 2:
            raise InputFileError(
                f"read {path}: expected at least two samples, got one; use a longer recording"
            )
        signal = Signal(
            units=tuple(names[i][1] or "" for i in columns) if header else (),
            start=start,
            extra={"layout": layout},
            format="table",
        )
        labels = [names[i][0] if header else str(k) for k, i in enumerate(columns)]
        return signal_grid(path, samples, rate, labels, signal)


def _decode(path: Path) -> str:
    """Return the text of a file in UTF-8, UTF-16 or Latin-1."""
    with path.open("rb") as file:
        head = file.read(_START)
    # Bytes of other content would become rows of cells, which take many times as much memory.
    if b"\0" in head and head[:2] not in _UTF16:
        raise InputFileError(f"read {path}: expected text, got other bytes; check the file")
    raw = path.read_bytes()
    if raw[:2] in _UTF16:
        return raw.decode("utf-16")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _header_and_rows(
    path: Path, lines: Sequence[tuple[int, str]], separator: str, decimal: str
) -> tuple[tuple[str, ...], list[tuple[int, list[str]]]]:
    """Split lines into cells; the header is empty if the first line holds numbers."""
    rows = [(number, _cells(line, separator)) for number, line in lines]
    header = () if _numeric(rows[0][1], decimal) else tuple(rows.pop(0)[1])
    if not rows:
        raise InputFileError(
            f"read {path}: expected rows of numbers under the header, got none; save it again"
        )
    width = len(header) or len(rows[0][1])
    for number, cells in rows:
        if len(cells) != width:
            raise InputFileError(
                f"read {path}: expected {width} columns in every row, got {len(cells)} in line "
                f"{number}; correct it"
            )
    return header, rows


def _punctuation(lines: Sequence[tuple[int, str]]) -> tuple[str, str]:
    """Return separator and decimal mark, judged by the last of the first lines."""
    sample = [line for _, line in lines[:50]]
    last = sample[-1]
    for separator in _SEPARATORS:
        if separator in last:
            if separator == ",":
                return ",", "."
            cells = last.split(separator)
            comma = any("," in cell for cell in cells) and not any("." in cell for cell in cells)
            return separator, "," if comma else "."
    return (" " if len(last.split()) > 1 else ","), "."


def _cells(line: str, separator: str) -> list[str]:
    if separator == " ":
        return line.split()
    if '"' in line:
        import csv

        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]
    return [cell.strip() for cell in line.split(separator)]


def _name_and_unit(cell: str) -> tuple[str, str | None]:
    """Split the cell of a header, in time linear in its length.

    >>> _name_and_unit("II (mV)"), _name_and_unit(" aVR [uV] "), _name_and_unit("time")
    (('II', 'mV'), ('aVR', 'uV'), ('time', None))
    """
    cell = cell.strip()
    start = max(cell.rfind("("), cell.rfind("["))
    if start < 0 or cell[-1] not in ")]" or _BRACKETS.search(cell[start + 1 : -1]):
        return cell, None
    return cell[:start].strip(), cell[start + 1 : -1].strip()


def _value(cell: str, decimal: str) -> float | None:
    if cell.lower() in _GAPS:
        return math.nan
    try:
        return float(cell.replace(",", ".") if decimal == "," else cell)
    except ValueError:
        return None


def _numeric(cells: Sequence[str], decimal: str) -> bool:
    return any(
        _value(cell, decimal) is not None and cell.lower() not in _GAPS for cell in cells
    ) or any(_date(cell) is not None for cell in cells)


def _number(path: Path, line: int, cell: str, decimal: str) -> float:
    value = _value(cell, decimal)
    if value is None:
        raise InputFileError(
            f"read {path}: expected a number, got {cell[:40]!r} in line {line}; correct it"
        )
    return value


def _date(cell: str) -> datetime | None:
    if not re.match(r"\d{4}-\d\d", cell):
        return None
    try:
        return datetime.fromisoformat(cell)
    except ValueError:
        return None


def _time_column(
    names: Sequence[tuple[str, str | None]], rows: Sequence[tuple[int, list[str]]], decimal: str
) -> int | None:
    for index, (name, _) in enumerate(names):
        if re.split(r"[ _]", name.lower())[0] in _TIME:
            return index
    if names:
        return None
    first = [cells[0] for _, cells in rows]
    if _date(first[0]) is not None:
        return 0
    # Without a header: a first of several columns that rises evenly is time.
    values = [_value(cell, decimal) for cell in first[:1000]]
    if len(rows[0][1]) < 2 or len(values) < 3 or None in values:
        return None
    steps = [b - a for a, b in itertools.pairwise(values)]  # type: ignore[operator]
    even = steps[0] > 0 and max(steps) - min(steps) < _UNEVEN * steps[0]
    return 0 if even and steps[0] < 1 else None


def _times(
    path: Path,
    column: Sequence[tuple[int, str]],
    names: Sequence[tuple[str, str | None]],
    layout: _Layout,
) -> tuple[float, datetime | None, _Layout]:
    """Return sampling rate, start, and the layout with which the column can be written again."""
    import dataclasses

    import numpy as np

    start = _date(column[0][1])
    if start is not None:
        dates = [_date(cell) for _, cell in column]
        if None in dates:
            raise InputFileError(
                f"read {path}: expected a date in every row of the time column, got something "
                "else; correct it"
            )
        times = np.array([(date - start).total_seconds() for date in dates])  # type: ignore[operator]
        factor = 1.0
    else:
        times = np.array([_number(path, n, cell, layout.decimal) for n, cell in column])
        unit = ""
        if names and layout.time is not None:
            name, unit_ = names[layout.time]
            unit = (unit_ or next(iter(re.split(r"[ _]", name.lower())[1:]), "")).lower()
        factor = _SECONDS.get(unit, 1.0)
    if len(times) < 2:
        raise InputFileError(
            f"read {path}: expected at least two samples, got one; use a longer recording"
        )
    step = float(times[-1] - times[0]) / (len(times) - 1)
    if not math.isfinite(step) or step <= 0:
        raise InputFileError(
            f"read {path}: expected times that rise, got a step of {step:g}; correct them"
        )
    # Times are often rounded to a few digits: only the distance to a regular grid matters.
    distance = np.abs(times - (times[0] + step * np.arange(len(times))))
    worst = int(np.argmax(distance))
    if not distance[worst] <= max(0.51 * _resolution(column), _UNEVEN * step) + 1e-9:
        raise InputFileError(
            f"read {path}: expected evenly spaced times, got a jump near line "
            f"{column[worst][0]}; fill the gap with empty cells or resample"
        )
    rate = 1 / (step * factor)
    if abs(rate - round(rate)) < 1e-3 * rate / len(times) * 2 and rate > 1:
        rate = float(round(rate))
    changed = dataclasses.replace(
        layout, per_second=1 / factor, first=float(times[0]), dates=start is not None
    )
    return rate, start, changed


def _resolution(column: Sequence[tuple[int, str]]) -> float:
    """Return the smallest step that the digits of the times can show."""
    digits = 0
    for _, cell in column[:200]:
        if "e" in cell.lower() or "-" in cell[1:]:
            return 0.0
        digits = max(digits, len(re.split(r"[.,]", cell)[1]) if re.search(r"[.,]", cell) else 0)
    return float(10.0**-digits)


def _write_table(path: Path, grid: Grid, **_: object) -> None:
    # Provenance goes into a sidecar: in the table it would confuse other readers.
    import numpy as np

    signal = signal_of(grid)
    layout = signal.extra.get("layout") if signal.format == "table" else None
    timed = grid.units == ("s",)
    layout = layout if isinstance(layout, _Layout) else _default_layout(grid, path, timed)
    values = grid.values[0].detach().cpu().numpy()
    columns = [[_text(value, layout.decimal) for value in row] for row in values]
    if layout.time is not None:
        columns.insert(layout.time, _time_text(np.arange(values.shape[1]), grid, layout))
    out = io.StringIO(newline="")
    separator = layout.separator
    if layout.header:
        cells = [f'"{cell}"' if separator in cell else cell for cell in layout.header]
        out.write(separator.join(cells) + layout.newline)
    for row in zip(*columns, strict=True):
        out.write(separator.join(row) + layout.newline)
    path.write_bytes(out.getvalue().encode("utf-8"))


def _default_layout(grid: Grid, path: Path, timed: bool) -> _Layout:
    units = value_units(grid)
    header = [
        f"{name} ({unit})" if unit else name
        for name, unit in zip(grid.channels, units, strict=True)
    ]
    if timed:
        header.insert(0, "time (s)")
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    return _Layout(separator, ".", tuple(header), 0 if timed else None)


def _text(value: Any, decimal: str) -> str:
    if not math.isfinite(value):
        return "" if math.isnan(value) else str(value)
    text = str(value)  # the shortest that reads back as the same float32
    return text.replace(".", ",") if decimal == "," else text


def _time_text(indices: NDArray[Any], grid: Grid, layout: _Layout) -> list[str]:
    if layout.dates:
        start = signal_of(grid).start or datetime(1970, 1, 1)
        return [
            (start + timedelta(seconds=float(index * grid.spacing[0]))).isoformat()
            for index in indices
        ]
    times = layout.first + indices * (grid.spacing[0] * layout.per_second)
    return [f"{time:.9g}".replace(".", layout.decimal) for time in times]


FORMATS = (
    Format(
        name="table",
        suffixes=(".csv", ".tsv"),
        spatial_dims=1,
        read=read_table,
        write=_write_table,
        unsupported_metadata=(
            "start time",
            "annotations",
            "gain and baseline",
            "channels of other rates",
        ),
    ),
)
