"""Finds the columns of a table that hold times or an index."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from convnd.io.signals.clocks import is_time_cell
from convnd.io.signals.column import Column, cell_value
from convnd.io.signals.sample_positions import sample_positions
from convnd.io.signals.time_names import INDEX_NAMES, parse_name
from convnd.io.signals.times import TimeColumn, read_times

__all__ = ["index_column", "is_further_time", "time_column"]

_VALUE_UNIT = re.compile(
    r"(?i)[fpnuµμmkMG]?(v|volts?|a|g|pa|m/s\^?2|mmhg|bpm|%|°?c|ω|ohm|s/m|adu|nu)"
)
_PROBE = 1000  # rows that are examined before all are read
_FEWEST = 8  # rows of an index without a name
_UNEVEN = 0.01  # of a step


def time_column(
    path: Path, columns: Sequence[Column], lines: Sequence[int], named: bool, decimal: str
) -> TimeColumn | None:
    """The columns of times or of an index, or None."""
    chosen = _time_positions(columns, named, decimal)
    if not chosen:
        return None
    cells = [columns[k].cells for k in chosen]
    last = columns[chosen[-1]]
    name = parse_name(last.name if named else "", last.unit)
    mark = decimal if not any("." in cell for cell in last.cells[:_PROBE]) else "."
    return read_times(path, lines, chosen, cells, name, mark)


def index_column(
    path: Path,
    columns: Sequence[Column],
    lines: Sequence[int],
    time: TimeColumn | None,
    decimal: str,
) -> TimeColumn | None:
    """The first column, if it counts samples beside a column of times."""
    if time is None or 0 in time.columns or len(columns) < 3:
        return None
    name = parse_name(columns[0].name, columns[0].unit)
    if name.words not in INDEX_NAMES or not _rises_evenly(columns[0].cells, decimal):
        return None
    return read_times(path, lines, [0], [columns[0].cells], name, decimal)


def is_further_time(column: Column, decimal: str) -> bool:
    """Whether a column beside the times holds times as well, of another clock."""
    if column.cells and is_time_cell(column.cells[0]):
        return True
    name = parse_name(column.name, column.unit)
    timed = name.is_time or name.unit is not None
    return timed and _rises_evenly(column.cells, decimal)


def _time_positions(columns: Sequence[Column], named: bool, decimal: str) -> list[int]:
    first_cells = [column.cells[0] if column.cells else "" for column in columns]
    timed = [is_time_cell(cell) for cell in first_cells]
    names = [parse_name(column.name, column.unit) for column in columns]
    by_name = [k for k, name in enumerate(names) if named and name.is_time]
    # Date and time of day may stand in two columns.
    for k in range(len(columns) - 1):
        date, clock = first_cells[k : k + 2]
        dated = timed[k] and ":" not in date
        if dated and timed[k + 1] and ":" in clock and not re.search(r"\d{4}", clock):
            return [k, k + 1]
    for k in by_name:
        # A column that is called like a unit, "min" or "s", may be a lead.
        is_word = names[k].unit is None or len(names[k].words.split()) > 1 or columns[k].unit
        if is_word or timed[k] or _rises_evenly(columns[k].cells, decimal):
            return [k]
    if timed and timed[0]:
        return [0]
    if len(columns) < 2 or not _rises_evenly(columns[0].cells, decimal):
        return []
    # Whatever its name, an evenly rising first column is a time or an index, unless it has a unit
    # of values. A few samples may rise evenly by chance.
    known = named and (names[0].words in INDEX_NAMES or names[0].unit is not None)
    if not named:  # times below a second are in seconds by custom
        first, second = (cell_value(cell, decimal) or 0.0 for cell in columns[0].cells[:2])
        known = second - first < 1
    if not known and len(columns[0].cells) < _FEWEST:
        return []
    unit = columns[0].unit
    return [] if unit and names[0].unit is None and _VALUE_UNIT.fullmatch(unit) else [0]


def _rises_evenly(cells: Sequence[str], decimal: str) -> bool:
    """Whether numbers rise evenly, but for rounding and a few jumps over missing rows."""
    import numpy as np

    start = [cell_value(cell, decimal) for cell in cells[:_PROBE]]
    if len(start) < 3 or None in start or not bool((np.diff(np.array(start, float)) > 0).all()):
        return False
    values = np.array([cell_value(cell, decimal) for cell in cells], np.float64)  # None is NaN
    if not np.isfinite(values).all() or not values[-1] > values[0]:
        return False
    step = float(np.median(np.diff(values)))
    marks = [re.split("[.,]", cell) for cell in cells[:_PROBE]]
    place = 10.0 ** -max(len(parts[1]) if len(parts) > 1 else 0 for parts in marks)
    # Rounded to steps of their own size, times would say as little as a slow drift.
    allowed = max(_UNEVEN * step, 0.51 * place if step >= 2 * place else 0)
    allowed += 4 * float(np.spacing(np.abs(values).max()))
    return sample_positions(values - values[0], allowed) is not None
