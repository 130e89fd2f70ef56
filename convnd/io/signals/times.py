"""Times of samples as people write them: numbers with a unit, clocks, and dates.

Times are read exactly, as whole numbers of their last decimal place: nanoseconds since 1970 have
more digits than a float. A unit that is not known is refused; it is never taken for seconds.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path

from convnd.errors import InputFileError
from convnd.io.signals.clocks import (
    DAY,
    MOST_PLACES,
    format_time,
    no_time_error,
    parse_dates,
    template_of,
)
from convnd.io.signals.sample_positions import sample_positions
from convnd.io.signals.time_names import INDEX_NAMES, UNITS, TimeName

__all__ = ["TimeColumn", "decimal_digits", "read_times"]

_EPOCHS = (  # powers of ten: seconds, ms, µs and ns from 1973 to 2286
    (8, 10, Fraction(1)),
    (11, 13, Fraction(1, 1_000)),
    (14, 16, Fraction(1, 1_000_000)),
    (17, 19, Fraction(1, 1_000_000_000)),
)
_ROUNDING = 1.01  # of the last place: what rounding, or cutting off, makes of an even grid
_SHORTEST_STEP, _LONGEST_STEP = Fraction(1, 10**6), 10  # s
_EXACT = Context(prec=3 * MOST_PLACES)


@dataclass(frozen=True)
class TimeColumn:
    """The columns of a table that give the time or the index of each sample.

    Args:
        columns: positions in the table: one, or those of date and time of day.
        cells: the text of each of these columns, as it was read.
        templates: how the cells are formatted for other times; "" is a plain number.
        decimal: decimal mark.
        first: the first time, in the unit of the cells.
        step: from one sample to the next.
        seconds: length of one unit in seconds; None if it is unknown, as for an index.
        places: decimal places of the cells.
        rounded: whether the cells are rounded to these places.
        start: date and time of the first sample, or None.
        assumed: whether ``seconds`` is assumed, because the file does not state it.
        positions: the sample of each row, where rows are missing in between; empty where none is.
    """

    columns: tuple[int, ...]
    cells: tuple[tuple[str, ...], ...]
    templates: tuple[str, ...]
    decimal: str
    first: Fraction
    step: Fraction
    seconds: Fraction | None
    places: int
    rounded: bool
    start: datetime | None = None
    assumed: bool = False
    positions: tuple[int, ...] = ()

    @property
    def samples(self) -> int:
        """Samples from the first row to the last, with those whose rows are missing."""
        return self.positions[-1] + 1 if self.positions else len(self.cells[0])

    @property
    def gaps(self) -> int:
        """Places where rows are missing."""
        return sum(later - earlier > 1 for earlier, later in itertools.pairwise(self.positions))

    @property
    def rate(self) -> float | None:
        """Samples per second; None if the unit of time is not known.

        If times are rounded, this is a whole number of hertz where their rounding allows one.
        """
        if self.seconds is None:
            return None
        step = self.step * self.seconds
        if self.rounded:
            # Times since 1970 often went through a float64, which is coarser than they show.
            place = max(Fraction(1, 10**self.places), abs(self.first) / 2**52)
            uncertainty = place * self.seconds / (len(self.cells[0]) - 1) * (1 + self.gaps)
            whole = round(1 / step)
            if whole and abs(Fraction(1, whole) - step) <= uncertainty:
                return float(whole)
        return float(1 / step)

    @property
    def offset(self) -> float:
        """Seconds of the first sample on a clock that does not know the date."""
        dated = self.start is not None or any("{year}" in text for text in self.templates)
        if self.seconds is None or dated:
            return 0.0
        return float(self.first * self.seconds)

    def texts(self, count: int, seconds: float | None = None) -> list[list[str]]:
        """The cells of each column for a number of samples.

        If as many samples were read, these are the texts that the file had.

        Args:
            count: samples.
            seconds: from one sample to the next; None if this is not known.
        """
        if count == self.samples:
            return [list(column) for column in self.cells]
        step = self.step  # an index counts samples, however many there are
        if self.seconds is not None and seconds is not None:
            ratio = seconds / float(self.step * self.seconds)
            if not math.isclose(ratio, 1, rel_tol=1e-6):  # samples in the same span of time
                step = self.step * self.samples / count
        digits = max(self.places, decimal_digits(step))
        times = [self.first + step * index for index in range(count)]
        columns = []
        for cells, template in zip(self.cells, self.templates, strict=True):
            # A clock beside a date, or one that began again at midnight.
            daily = template and "{year}" not in template
            daily = daily and (len(self.cells) > 1 or cells[-1] < cells[0])
            columns.append(
                [
                    format_time(time % DAY if daily else time, template, digits, self.decimal)
                    for time in times
                ]
            )
        return columns


def decimal_digits(step: Fraction) -> int:
    """Decimal places that show multiples of a step: all of them, or a millionth of the step.

    >>> decimal_digits(Fraction(1, 250)), decimal_digits(Fraction(1, 360))
    (3, 9)
    """
    for digits in range(10):
        if (step * 10**digits).denominator == 1:
            return digits
    return min(MOST_PLACES, max(0, math.ceil(-math.log10(step))) + 6)


def read_times(
    path: Path,
    lines: Sequence[int],
    columns: Sequence[int],
    cells: Sequence[Sequence[str]],
    name: TimeName,
    decimal: str = ".",
) -> TimeColumn:
    """Read the times of samples.

    Args:
        path: the file, for messages.
        lines: number of each row in the file, for messages.
        columns: positions in the table: one column, or those of date and time of day.
        cells: the text of each of these columns.
        name: the parsed name of the column.
        decimal: decimal mark of numbers.

    Raises:
        InputFileError: a cell is not a time, the unit is unknown, or times do not rise evenly,
            apart from jumps over missing rows.
    """
    joined = [" ".join(parts).strip() for parts in zip(*cells, strict=True)]
    is_number = _decimal(joined[0], decimal) is not None
    templates: tuple[str, ...] = ("",)
    start, seconds = None, name.unit
    if is_number:
        ticks, places = _numbers(path, lines, joined, decimal)
        _check_unit(path, name)
    else:
        ticks, places, day_first = parse_dates(path, lines, joined)
        templates = tuple(template_of(column[0], day_first is not False) for column in cells)
        seconds = Fraction(1)
        if ticks[0] >= DAY * 365 * 10**places and day_first is not None:
            start = datetime(1, 1, 1) + timedelta(microseconds=ticks[0] * 10**6 // 10**places)
    step, rounded, positions = _step(path, lines, ticks, places)
    first, assumed = Fraction(ticks[0], 10**places), False
    if seconds is None:
        seconds, assumed = _unit_of_numbers(first, step, name)
    if is_number and seconds is not None:
        start = _since_1970(first, seconds)
    texts = tuple(tuple(column) for column in cells)
    return TimeColumn(
        tuple(columns), texts, templates, decimal, first, step, seconds, places, rounded, start,
        assumed, positions,
    )  # fmt: skip


def _check_unit(path: Path, name: TimeName) -> None:
    if name.unknown and name.is_time:
        units = ", ".join(UNITS)
        raise InputFileError(
            f"read {path}",
            expected=f"a unit of time ({units})",
            got=f"{name.unknown!r} for the column {name.words!r}",
            remedy="name the unit in the header, or leave it out and add --rate",
        )


def _unit_of_numbers(
    first: Fraction, step: Fraction, name: TimeName
) -> tuple[Fraction | None, bool]:
    """Return the unit of plain numbers in seconds, and whether it is assumed."""
    if name.is_time or name.words in INDEX_NAMES:
        for low, high, seconds in _EPOCHS:
            if 10**low <= first < 10**high and step * seconds < _LONGEST_STEP:
                return seconds, False
    # Times below a second are in seconds by custom. Whole numbers may be samples or milliseconds.
    if (name.is_time or not name.words) and _SHORTEST_STEP <= step < 1:
        return Fraction(1), True
    return None, False


def _since_1970(first: Fraction, seconds: Fraction) -> datetime | None:
    since = first * seconds
    if not 10**8 <= since < 10**10:
        return None
    return datetime(1970, 1, 1) + timedelta(microseconds=math.floor(since * 10**6))


def _decimal(cell: str, decimal: str) -> Decimal | None:
    """A plain number, or None if the cell is something else."""
    try:
        value = Decimal(cell.replace(",", ".") if decimal == "," else cell)
    except InvalidOperation:
        return None
    if not value.is_finite() or not -MOST_PLACES <= value.adjusted() <= MOST_PLACES:
        return value if value.is_zero() else None
    return value if _places(value) <= MOST_PLACES else None


def _places(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _numbers(
    path: Path, lines: Sequence[int], cells: Sequence[str], decimal: str
) -> tuple[list[int], int]:
    """Numbers as multiples of their last decimal place, and the number of these places."""
    plain = re.compile(rf"[+-]?\d{{1,{MOST_PLACES}}}(?:[{decimal}]\d{{1,{MOST_PLACES}}})?")
    if all(map(plain.fullmatch, cells)):  # the usual and quick case
        parts = [cell.partition(decimal) for cell in cells]
        places = max(len(part) for _, _, part in parts)
        return [int(whole + part.ljust(places, "0")) for whole, _, part in parts], places
    values = []
    for line, cell in zip(lines, cells, strict=True):
        value = _decimal(cell, decimal)
        if value is None:
            raise no_time_error(path, line, cell)
        values.append(value)
    places = min(MOST_PLACES, max(map(_places, values)))
    return [int(value.scaleb(places, _EXACT)) for value in values], places


def _step(
    path: Path, lines: Sequence[int], ticks: Sequence[int], places: int
) -> tuple[Fraction, bool, tuple[int, ...]]:
    """The step between samples, whether times are rounded, and `TimeColumn.positions`."""
    import numpy as np

    if len(ticks) < 2:
        raise InputFileError(
            f"read {path}",
            expected="at least two samples",
            got="one",
            remedy="use a longer recording",
        )
    step = Fraction(ticks[-1] - ticks[0], len(ticks) - 1)
    if step <= 0:
        raise InputFileError(
            f"read {path}",
            expected="times that rise",
            got=f"a step of {float(step / 10**places):g}",
            remedy="correct them",
        )
    since = np.array([float(tick - ticks[0]) for tick in ticks])
    rows = sample_positions(since, _ROUNDING)
    if rows is None:
        distance = np.abs(since - float(step) * np.arange(len(ticks)))
        raise InputFileError(
            f"read {path}",
            expected="evenly spaced times, or gaps between long stretches of them",
            got=f"a jump near line {lines[int(np.argmax(distance))]}",
            remedy="resample, or split the recording",
        )
    positions: tuple[int, ...] = ()
    if rows.gaps:
        step = Fraction(rows.step).limit_denominator(10**9)
        positions = tuple(rows.positions.tolist())
    return step / 10**places, rows.distance > 1e-6, positions
