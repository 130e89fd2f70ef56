"""Converts tables of samples, from files of any format, to grids of their leads and back."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.signals.column import GAPS, Column, cell_value, grouping_hint
from convnd.io.signals.signal import Signal, describe, signal_grid, signal_of
from convnd.io.signals.time_columns import index_column, is_further_time, time_column
from convnd.io.signals.times import TimeColumn

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["Layout", "columns_of", "table_grid"]

_DIGITS = 7  # of a number that float32 holds


@dataclass(frozen=True)
class Layout:
    """The layout of a table, kept so that the result can be written in the same form.

    Args:
        names: names of the leads, in the order of the grid's channels.
        leads: position of each of them in the table.
        count: number of samples, including those whose rows are missing.
        time: the columns of times, or of an index.
        index: a further index beside the times, or None.
        texts: cells of columns that hold words, by position of the column.
        gap: how a gap is written.
        decimal: decimal mark.
        text: further data that the format stores with the cells.
        exact: values ``(C, T)`` with more digits than float32 holds, or None.
    """

    names: tuple[str, ...]
    leads: tuple[int, ...]
    count: int = 0
    time: TimeColumn | None = None
    index: TimeColumn | None = None
    texts: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    gap: str = ""
    decimal: str = "."
    text: Any = None
    exact: NDArray[Any] | None = None

    def cell(self, value: Any) -> str:
        """The cell of a value."""
        if not math.isfinite(value):
            return self.gap if math.isnan(value) else str(value)
        text = str(value)  # the shortest that reads back as the same number
        return text.replace(".", ",") if self.decimal == "," else text


def table_grid(
    path: Path,
    columns: Sequence[Column],
    lines: Sequence[int],
    *,
    named: bool,
    decimal: str = ".",
    text: Any = None,
    rate: float | None = None,
    format_name: str = "table",
) -> Grid:
    """Make a grid of the leads of a table.

    Args:
        path: the file, for messages.
        columns: at least one.
        lines: number of each row in the file, for messages.
        named: whether the columns have names.
        decimal: decimal mark.
        text: what the format keeps beside the cells, see `Layout`.
        rate: samples per second that the file names elsewhere, or None.
        format_name: common name of the format.

    Returns:
        Values ``(1, C, T)``; spacing in seconds if there are times or a rate, else in samples.

    Raises:
        InputFileError: text among numbers, times that do not step evenly, a unit of time that is
            not known, nothing but gaps, or too few rows.
    """
    time = time_column(path, columns, lines, named, decimal)
    index = index_column(path, columns, lines, time, decimal)
    rows, words, listed = _read_rows(path, columns, lines, (time, index), decimal)
    leads = list(rows)
    if not rows:
        raise InputFileError(
            f"read {path}",
            expected="a column of values beside the time",
            got="none",
            remedy=grouping_hint(cell for k in words for cell in columns[k].cells[:2]) or "add one",
        )
    samples = _place_rows(path, list(rows.values()), time)
    units = tuple(columns[k].unit or "" for k in leads) if named else ()
    signal = Signal(units=units, remarks=_remarks(listed, time), format=format_name)
    signal, rate = _with_times(signal, time, rate)
    names = [columns[k].name if named else str(number) for number, k in enumerate(leads)]
    grid = signal_grid(path, samples, rate, names, signal)
    layout = Layout(
        names=grid.channels,
        leads=tuple(leads),
        count=samples.shape[1],
        time=time,
        index=index,
        texts={k: tuple(columns[k].cells) for k in words},
        gap=_gap_word([columns[k] for k in leads], samples),
        decimal=decimal,
        text=text,
        exact=samples if _needs_digits([columns[k] for k in leads]) else None,
    )
    return describe(grid, extra={**signal_of(grid).extra, "layout": layout})


def _with_times(
    signal: Signal, time: TimeColumn | None, rate: float | None
) -> tuple[Signal, float | None]:
    """A recording with the times of a table, and its rate.

    A rate that the file names elsewhere is used only if the times give none, or an assumed one.
    """
    if time is None:
        return signal, rate
    assumed = time.assumed and rate is None
    signal = dataclasses.replace(signal, start=time.start, offset=time.offset, rate_assumed=assumed)
    if rate is None or (time.rate is not None and not time.assumed):
        rate = time.rate
    return signal, rate


def _remarks(words: Sequence[str], time: TimeColumn | None) -> tuple[str, ...]:
    """Messages about columns of words and about missing rows."""
    remarks = []
    if words:
        remarks.append(f"holds words in {', '.join(words)}, which stay as they are")
    if time is not None and time.gaps:
        missing = time.samples - len(time.positions)
        remarks.append(
            f"has {time.gaps} gap{'s' * (time.gaps > 1)} in its times, {missing} samples, which "
            "stay gaps"
        )
    return tuple(remarks)


def _read_rows(
    path: Path,
    columns: Sequence[Column],
    lines: Sequence[int],
    clocks: Sequence[TimeColumn | None],
    decimal: str,
) -> tuple[dict[int, NDArray[Any]], list[int], list[str]]:
    """The numbers of each lead; positions of columns of words or further times; names of words."""
    used = {k for clock in clocks if clock is not None for k in clock.columns}
    unused = [k for k in range(len(columns)) if k not in used]
    further_times: set[int] = set()
    if clocks[0] is not None:
        further_times = {k for k in unused if is_further_time(columns[k], decimal)}
    rows, words = {}, []
    for k in unused:
        row = None
        if k not in further_times:
            row = _numbers(path, columns[k].cells, lines, decimal)
        if row is None:
            words.append(k)
        else:
            rows[k] = row
    return rows, words, [columns[k].name or str(k) for k in words if k not in further_times]


def _place_rows(
    path: Path, rows: Sequence[NDArray[Any]], time: TimeColumn | None
) -> NDArray[np.float64]:
    """Values ``(C, T)``, with gaps where the times have some."""
    import numpy as np

    samples = np.stack(rows)
    if samples.shape[1] < 2:
        raise InputFileError(
            f"read {path}",
            expected="at least two samples",
            got="one",
            remedy="use a longer recording",
        )
    if time is None or not time.positions:
        return samples
    placed = np.full((len(rows), time.samples), np.nan)
    placed[:, time.positions] = samples
    return placed


def _gap_word(leads: Sequence[Column], samples: NDArray[Any]) -> str:
    """The text of a gap in these columns; "" if they have none."""
    import numpy as np

    if not np.isnan(samples).any():
        return ""
    return next((cell for lead in leads for cell in lead.cells if cell.lower() in GAPS), "")


def _needs_digits(leads: Sequence[Column]) -> bool:
    """Whether a number of these columns has more digits than float32 holds."""
    cells = (cell for lead in leads for cell in lead.cells)
    return any(len(cell.lstrip("+-0.,")) > _DIGITS and _digits(cell) > _DIGITS for cell in cells)


def columns_of(grid: Grid, layout: Layout, text: Callable[[Any], str]) -> list[list[str]]:
    """The cells of a table, column by column.

    Args:
        grid: has the leads of the layout.
        layout: as the table was read.
        text: makes the cell of a value.
    """
    import numpy as np

    values = grid.values[0].detach().cpu().numpy()
    count = values.shape[1]
    cells: dict[int, list[str]] = {
        position: [text(value) for value in row]
        for position, row in zip(layout.leads, values, strict=True)
    }
    if layout.exact is not None and layout.exact.shape == values.shape:
        with np.errstate(over="ignore", invalid="ignore"):
            unchanged = layout.exact.astype(np.float32) == values
        for row, position in enumerate(layout.leads):
            for index in np.flatnonzero(unchanged[row]).tolist():
                cells[position][index] = text(float(layout.exact[row, index]))
    for column in (layout.time, layout.index):
        if column is not None:
            length = column.samples if count == layout.count else count
            texts = column.texts(length, grid.spacing[0] if grid.units == ("s",) else None)
            cells |= dict(zip(column.columns, texts, strict=True))
    if layout.time is not None and layout.time.positions and count == layout.time.samples:
        for position in layout.leads:
            cells[position] = [cells[position][sample] for sample in layout.time.positions]
        count = len(layout.time.positions)
    for position, words in layout.texts.items():
        cells[position] = [words[index * len(words) // count] for index in range(count)]
    return [cells[position] for position in sorted(cells)]


def _numbers(
    path: Path, cells: Sequence[str], lines: Sequence[int], decimal: str
) -> NDArray[Any] | None:
    """The numbers of a column; None if it holds words instead.

    Raises:
        InputFileError: it holds both.
    """
    import numpy as np

    if decimal == ".":
        with contextlib.suppress(ValueError):
            return np.fromiter(
                map(float, cells), np.float64, len(cells)
            )  # without gaps, the quick way
    values = [cell_value(cell, decimal) for cell in cells]
    if None not in values:
        return np.array(values, np.float64)
    if all(value is None or math.isnan(value) for value in values):
        return None
    index = values.index(None)
    raise InputFileError(
        f"read {path}",
        expected="a number",
        got=f"{cells[index][:40]!r} in line {lines[index]}",
        remedy="correct it",
    )


def _digits(cell: str) -> int:
    """Significant digits of a number."""
    mantissa = cell.lower().split("e")[0]
    return sum(map(str.isdigit, mantissa.lstrip("+-0.,")))
