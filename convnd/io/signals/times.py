"""Times of samples as people write them: numbers with a unit, clocks, and dates.

Times are read exactly, as whole numbers of their last decimal place: nanoseconds since 1970 have
more digits than a float. A unit that is not known is refused; it is never taken for seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path

from convnd.errors import InputFileError

__all__ = [
    "INDEX_NAMES",
    "SECONDS",
    "TimeColumn",
    "TimeName",
    "decimal_digits",
    "format_time",
    "is_time_cell",
    "parse_name",
    "read_times",
]

_SPELLINGS: dict[Fraction, str] = {
    Fraction(1): "s sec secs second seconds",
    Fraction(1, 1_000): "ms msec msecs millis millisecond milliseconds",
    Fraction(1, 1_000_000): "us µs μs usec usecs micros microsecond microseconds",
    Fraction(1, 1_000_000_000): "ns nsec nsecs nanos nanosecond nanoseconds",
    Fraction(60): "min mins minute minutes",
    Fraction(3600): "h hr hrs hour hours",
    Fraction(86400): "d day days",
}
SECONDS: dict[str, Fraction] = {
    spelling: seconds for seconds, text in _SPELLINGS.items() for spelling in text.split()
}
"""Seconds of each unit of time, in lower case."""

_TIME_WORDS = {
    *("t", "time", "times", "timestamp", "timestamps", "datetime", "date", "elapsed", "epoch"),
    *("unix", "unixtime", "posix", "clock", "zeit", "uhrzeit", "datum", "temps", "tiempo", "tempo"),
}
_FILLERS = {
    *("stamp", "axis", "utc", "gmt", "local", "since", "start", "of", "day", "the", "from", "in"),
    *("relative", "rel", "absolute", "abs", "recording", "iso", "ecg", "column", "value", "offset"),
}
INDEX_NAMES = {
    *("", "index", "idx", "sample", "samples", "sample number", "sample no", "sample index"),
    *(
        "frame",
        "row",
        "no",
        "nr",
        "number",
        "id",
        "unnamed 0",
        "count",
        "counter",
        "point",
    ),
}
"""Names of columns that count samples, as `parse_name` writes them."""

_EPOCHS = (  # powers of ten: seconds, ms, µs and ns from 1973 to 2286
    (8, 10, Fraction(1)),
    (11, 13, Fraction(1, 1_000)),
    (14, 16, Fraction(1, 1_000_000)),
    (17, 19, Fraction(1, 1_000_000_000)),
)
_DATE = (
    r"(?P<year>\d{4})(?:-|/)(?P<month>\d\d?)(?:-|/)(?P<day>\d\d?)",
    r"(?P<day>\d\d?)\.(?P<month>\d\d?)\.(?P<year>\d{4}|\d\d)",
    r"(?P<one>\d\d?)/(?P<two>\d\d?)/(?P<year>\d{4})",
)
_CLOCK = r"(?:(?P<hour>\d+):)?(?P<minute>\d\d?):(?P<second>\d\d?)(?:[.,:](?P<part>\d+))?"
_ZONE = r"(?: ?(?P<half>[AaPp][Mm]))?(?P<zone> ?(?:Z|UTC|[+-]\d\d:?\d\d))?"
_PATTERNS = tuple(
    re.compile(rf"\W{{0,2}}{pattern}\W{{0,2}}")
    for pattern in (
        *(rf"{date}(?:[T ]+{_CLOCK}{_ZONE})?" for date in _DATE),
        *(rf"{_CLOCK}{_ZONE} {date}" for date in _DATE),  # WFDB's: [10:00:00.000 01/02/2020]
        _CLOCK + _ZONE,
    )
)
_HALF_DAY, _DAY = 43_200, 86_400
_UNEVEN = 0.01  # of a step: the largest distance of a time from a regular grid
_ROUNDING = 1.01  # of the last place: what rounding, or cutting off, makes of an even grid
_WIDEST = 40  # decimal places, and powers of ten: more are no time
_LONGEST = 64  # characters of a cell
_SHORTEST_STEP, _LONGEST_STEP = Fraction(1, 10**6), 10  # s
_EXACT = Context(prec=3 * _WIDEST)


@dataclass(frozen=True)
class TimeName:
    """What the name of a column says about time.

    Args:
        words: the words of the name in lower case, joined by spaces.
        is_time: whether it names a time.
        unit: seconds of its unit; None if it names no unit that is known.
        unknown: a unit that is not known, as it is written; "" if there is none.
    """

    words: str
    is_time: bool
    unit: Fraction | None = None
    unknown: str = ""


def parse_name(name: str, unit: str | None) -> TimeName:
    """Read the name of a column.

    Args:
        name: without its unit in brackets.
        unit: the text in brackets, or None.

    >>> parse_name("epoch_ms", None).unit, parse_name("Elapsed time", "s").unit
    (Fraction(1, 1000), Fraction(1, 1))
    >>> parse_name("time_jiffies", None).unknown, parse_name("II", "mV").is_time
    ('jiffies', False)
    """
    name = re.sub(r"(?i)\bof[ _]day\b", "", name)
    split = re.sub(r"(?<=[a-zà-ÿ])(?=[A-Z])", " ", name.strip(" '\""))
    words = re.findall(r"[^\W_]+", split.lower())
    joined = " ".join(words)
    units = [word for word in words if word in SECONDS]
    others = [word for word in words if word not in _TIME_WORDS | _FILLERS | set(SECONDS)]
    is_time = bool(set(words) & _TIME_WORDS) and (
        not others or (words[0] in _TIME_WORDS and words[0] != "t")
    )
    is_time = is_time or bool({"timestamp", "timestamps", "datetime"} & set(words))
    is_time = is_time or (bool(words) and len(units) == len(words))
    text = (unit or "").strip().strip("'\"").lower()
    if text in INDEX_NAMES - {""}:
        return TimeName(joined, False)
    if text:
        plain = text in _FILLERS or re.fullmatch(r"[hmsydtf:.,/\- ]+", text) is not None
        seconds = SECONDS.get(text)
        return TimeName(joined, is_time, seconds, "" if seconds or plain else text)
    if not is_time:
        return TimeName(joined, False)
    if units:
        return TimeName(joined, True, SECONDS[units[-1]])
    unknown = others[0] if len(words) == 2 and len(others) == 1 and others[0].isalpha() else ""
    return TimeName(joined, True, None, unknown)


@dataclass(frozen=True)
class TimeColumn:
    """The columns of a table that say when, or which, each sample is.

    Args:
        columns: positions in the table: one, or those of date and time of day.
        cells: the text of each of these columns, as it was read.
        templates: how the cells are formatted for other times; "" is a plain number.
        decimal: decimal mark.
        first: the first time, in the unit of the cells.
        step: from one sample to the next.
        seconds: of one unit; None if this is not known, as for an index.
        places: decimal places of the cells.
        rounded: whether the cells are rounded to these places.
        start: date and time of the first sample, or None.
        assumed: whether ``seconds`` is a convention and not said by the file.
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

    @property
    def rate(self) -> float | None:
        """Samples per second; None if the unit of time is not known.

        Of rounded times, a whole number of hertz if their rounding allows one.
        """
        if self.seconds is None:
            return None
        step = self.step * self.seconds
        if self.rounded:
            # Times since 1970 often went through a float64, which is coarser than they show.
            place = max(Fraction(1, 10**self.places), abs(self.first) / 2**52)
            uncertainty = place * self.seconds / (len(self.cells[0]) - 1)
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

    def texts(self, count: int) -> list[list[str]]:
        """The cells of each column for a number of samples in the same span of time."""
        if count == len(self.cells[0]):
            return [list(column) for column in self.cells]
        # An index counts samples, however many there are.
        step = self.step if self.seconds is None else self.step * len(self.cells[0]) / count
        digits = max(self.places, decimal_digits(step))
        times = [self.first + step * index for index in range(count)]
        columns = []
        for cells, template in zip(self.cells, self.templates, strict=True):
            # A clock beside a date, or one that began again at midnight.
            daily = template and "{year}" not in template
            daily = daily and (len(self.cells) > 1 or cells[-1] < cells[0])
            columns.append(
                [
                    format_time(time % _DAY if daily else time, template, digits, self.decimal)
                    for time in times
                ]
            )
        return columns


def is_time_cell(cell: str) -> bool:
    """Whether a cell is a clock or a date; numbers are neither.

    >>> is_time_cell("'0:00.004'"), is_time_cell("12.03.2021 10:00:00,5"), is_time_cell("0.5")
    (True, True, False)
    """
    return len(cell) < _LONGEST and any(pattern.fullmatch(cell) for pattern in _PATTERNS)


def decimal_digits(step: Fraction) -> int:
    """Decimal places that show multiples of a step: all of them, or a millionth of the step.

    >>> decimal_digits(Fraction(1, 250)), decimal_digits(Fraction(1, 360))
    (3, 9)
    """
    for digits in range(10):
        if (step * 10**digits).denominator == 1:
            return digits
    return min(_WIDEST, max(0, math.ceil(-math.log10(step))) + 6)


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
        name: what the name says.
        decimal: decimal mark of numbers.

    Raises:
        InputFileError: a cell is no time, the unit is not known, or times do not rise evenly.
    """
    joined = [" ".join(parts).strip() for parts in zip(*cells, strict=True)]
    is_number = _decimal(joined[0], decimal) is not None
    templates: tuple[str, ...] = ("",)
    start, seconds = None, name.unit
    if is_number:
        ticks, places = _numbers(path, lines, joined, decimal)
        _check_unit(path, name)
    else:
        ticks, places, day_first = _dates(path, lines, joined)
        templates = tuple(_template(column[0], day_first is not False) for column in cells)
        seconds = Fraction(1)
        if ticks[0] >= _DAY * 365 * 10**places and day_first is not None:
            start = datetime(1, 1, 1) + timedelta(microseconds=ticks[0] * 10**6 // 10**places)
    step, rounded = _step(path, lines, ticks, places)
    first, assumed = Fraction(ticks[0], 10**places), False
    if seconds is None:
        seconds, assumed = _unit_of_numbers(first, step, name)
    if is_number and seconds is not None:
        start = _since_1970(first, seconds)
    texts = tuple(tuple(column) for column in cells)
    return TimeColumn(
        tuple(columns), texts, templates, decimal, first, step, seconds, places, rounded, start,
        assumed,
    )  # fmt: skip


def _check_unit(path: Path, name: TimeName) -> None:
    if name.unknown and name.is_time:
        units = ", ".join(text.split()[0] for text in _SPELLINGS.values())
        raise InputFileError(
            f"read {path}",
            expected=f"a unit of time ({units})",
            got=f"{name.unknown!r} for the column {name.words!r}",
            remedy="name the unit in the header, or leave it out and add --rate",
        )


def _unit_of_numbers(
    first: Fraction, step: Fraction, name: TimeName
) -> tuple[Fraction | None, bool]:
    """Seconds of the unit of plain numbers, and whether that is a mere convention."""
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
    if not value.is_finite() or not -_WIDEST <= value.adjusted() <= _WIDEST:
        return value if value.is_zero() else None
    return value if _places(value) <= _WIDEST else None


def _places(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _no_time(path: Path, line: int, cell: str) -> InputFileError:
    return InputFileError(
        f"read {path}",
        expected="a time in every row of the time column",
        got=f"{cell[:40]!r} in line {line}",
        remedy="correct it",
    )


def _numbers(
    path: Path, lines: Sequence[int], cells: Sequence[str], decimal: str
) -> tuple[list[int], int]:
    """Numbers as multiples of their last decimal place, and the number of these places."""
    values = []
    for line, cell in zip(lines, cells, strict=True):
        value = _decimal(cell, decimal)
        if value is None:
            raise _no_time(path, line, cell)
        values.append(value)
    places = min(_WIDEST, max(map(_places, values)))
    return [int(value.scaleb(places, _EXACT)) for value in values], places


def _dates(
    path: Path, lines: Sequence[int], cells: Sequence[str]
) -> tuple[list[int], int, bool | None]:
    """Clocks and dates as multiples of their last decimal place of a second.

    Returns:
        These, the number of places, and whether a day stands before its month (None: not known).
    """
    pattern = next((p for p in _PATTERNS if is_time_cell(cells[0]) and p.fullmatch(cells[0])), None)
    fields = []
    for line, cell in zip(lines, cells, strict=True):
        match = None if pattern is None or len(cell) > _LONGEST else pattern.fullmatch(cell)
        if match is None:
            raise _no_time(path, line, cell)
        fields.append(match.groupdict())
    day_first = _is_day_first(fields)
    places = min(_WIDEST, max(len(entry.get("part") or "") for entry in fields))
    ticks = []
    for line, cell, entry in zip(lines, cells, fields, strict=True):
        try:
            part = (entry.get("part") or "").ljust(places, "0")
            ticks.append(_seconds(entry, day_first is not False) * 10**places + int(part or 0))
        except (ValueError, OverflowError) as error:
            raise _no_time(path, line, cell) from error
    if "year" not in fields[0]:
        _cross_midnight(ticks, 10**places)
    return ticks, places, day_first


def _is_day_first(fields: Sequence[Mapping[str, str | None]]) -> bool | None:
    """Whether 01/02/2020 is in February; None if no date of the file tells."""
    if "one" not in fields[0]:
        return True
    for entry in fields:
        if int(entry["one"] or 0) > 12:
            return True
        if int(entry["two"] or 0) > 12:
            return False
    return None


def _seconds(entry: Mapping[str, str | None], day_first: bool) -> int:
    """Whole seconds since the year 1, or since midnight."""

    def number(name: str) -> int:
        return int(entry.get(name) or 0)

    hour = number("hour")
    half = (entry.get("half") or "").lower()
    if half:
        hour = hour % 12 + (12 if half == "pm" else 0)
    seconds = hour * 3600 + number("minute") * 60 + number("second")
    if not entry.get("year"):
        return seconds
    year, month, day = number("year"), number("month"), number("day")
    if entry.get("one"):
        month, day = number("two"), number("one")
        if not day_first:
            month, day = day, month
    if len(entry["year"] or "") == 2:
        year += 1900 if year >= 70 else 2000
    return seconds + (datetime(year, month, day) - datetime(1, 1, 1)).days * _DAY


def _cross_midnight(ticks: list[int], second: int) -> None:
    """Add a day wherever a clock starts again at midnight."""
    days, previous = 0, ticks[0]
    for index, tick in enumerate(ticks):
        if tick < previous - _HALF_DAY * second:
            days += _DAY * second
        previous = tick
        ticks[index] = tick + days


def _step(
    path: Path, lines: Sequence[int], ticks: Sequence[int], places: int
) -> tuple[Fraction, bool]:
    """The step between times that rise evenly, and whether they are rounded."""
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
    # Times are often rounded to a few digits: only the distance to a regular grid matters.
    since = np.array([float(tick - ticks[0]) for tick in ticks])
    distance = np.abs(since - float(step) * np.arange(len(ticks)))
    worst = int(np.argmax(distance))
    if not distance[worst] <= max(_ROUNDING, _UNEVEN * float(step)):
        raise InputFileError(
            f"read {path}",
            expected="evenly spaced times",
            got=f"a jump near line {lines[worst]}",
            remedy="fill the gap with empty cells or resample",
        )
    return step / 10**places, bool(distance[worst] > 1e-6)


def _template(cell: str, day_first: bool) -> str:
    """A cell with its fields as replacement fields of `str.format`."""
    match = next((m for pattern in _PATTERNS if (m := pattern.fullmatch(cell))), None)
    if match is None:
        return ""
    renamed = {"one": "day", "two": "month"} if day_first else {"one": "month", "two": "day"}
    spans = sorted(
        (match.span(name), renamed.get(name, name))
        for name, text in match.groupdict().items()
        if text is not None and name != "zone"
    )
    text, end = "", 0
    for (start, stop), name in spans:
        text += cell[end:start].replace("{", "{{").replace("}", "}}") + "{" + name + "}"
        end = stop
    return text + cell[end:].replace("{", "{{").replace("}", "}}")


def format_time(time: Fraction, template: str, digits: int, decimal: str = ".") -> str:
    """A time as text.

    Args:
        time: a number of units, or for a template seconds since midnight or since the year 1.
        template: replacement fields of a clock or a date; "" is a plain number.
        digits: decimal places.
        decimal: decimal mark of plain numbers.

    >>> format_time(Fraction(1, 8), "", 3), format_time(Fraction(61), "{minute}:{second}.{part}", 1)
    ('0.125', '01:01.0')
    """
    ticks = round(time * 10**digits)
    whole, part = divmod(abs(ticks), 10**digits)
    fraction = f"{part:0{digits}d}" if digits else ""
    if not template:
        return ("-" if ticks < 0 else "") + str(whole) + (decimal + fraction if digits else "")
    if "{part}" not in template and digits:
        template = template.replace("{second}", "{second}.{part}")
    days, rest = divmod(whole, _DAY) if "{day}" in template else (0, whole)
    date = datetime(1, 1, 1) + timedelta(days=days if "{year}" in template else 0)
    hour = rest // 3600
    return template.format(
        year=f"{date.year:04d}",
        month=f"{date.month:02d}",
        day=f"{date.day:02d}",
        hour=f"{(hour - 1) % 12 + 1 if '{half}' in template else hour:02d}",
        minute=f"{rest // 60 % 60 if '{hour}' in template else rest // 60:02d}",
        second=f"{rest % 60:02d}",
        part=fraction,
        half="PM" if hour % 24 >= 12 else "AM",
    )
