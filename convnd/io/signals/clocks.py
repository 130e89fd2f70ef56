"""Times of day and dates in tables, parsed exactly and written in the same format."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path

from convnd.errors import InputFileError

__all__ = [
    "DAY",
    "MOST_PLACES",
    "format_ticks",
    "format_time",
    "is_time_cell",
    "no_time_error",
    "parse_dates",
    "template_of",
]

DAY = 86_400
"""Seconds of a day."""

MOST_PLACES = 40
"""Decimal places, and powers of ten, of a time; more are no time."""

_HALF_DAY = 43_200
_LONGEST = 64  # characters of a cell
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


def is_time_cell(cell: str) -> bool:
    """Whether a cell is a time of day or a date; a plain number is neither.

    >>> is_time_cell("'0:00.004'"), is_time_cell("12.03.2021 10:00:00,5"), is_time_cell("0.5")
    (True, True, False)
    """
    return len(cell) < _LONGEST and any(pattern.fullmatch(cell) for pattern in _PATTERNS)


def no_time_error(path: Path, line: int, cell: str) -> InputFileError:
    """Return the error for a cell in a column of times that is not a time."""
    return InputFileError(
        f"read {path}",
        expected="a time in every row of the time column",
        got=f"{cell[:40]!r} in line {line}",
        remedy="correct it",
    )


def parse_dates(
    path: Path, lines: Sequence[int], cells: Sequence[str]
) -> tuple[list[int], int, bool | None]:
    """Parse times of day and dates as whole multiples of their last decimal place, in seconds.

    Args:
        path: the file, for messages.
        lines: number of each cell's row in the file, for messages.
        cells: texts of one format.

    Returns:
        The multiples, the number of places, and whether the day precedes the month (None: unknown).

    Raises:
        InputFileError: a cell has another format, or is not a valid date.
    """
    pattern = next((p for p in _PATTERNS if is_time_cell(cells[0]) and p.fullmatch(cells[0])), None)
    fields = []
    for line, cell in zip(lines, cells, strict=True):
        match = None if pattern is None or len(cell) > _LONGEST else pattern.fullmatch(cell)
        if match is None:
            raise no_time_error(path, line, cell)
        fields.append(match.groupdict())
    day_first = _is_day_first(fields)
    places = min(MOST_PLACES, max(len(entry.get("part") or "") for entry in fields))
    ticks = []
    for line, cell, entry in zip(lines, cells, fields, strict=True):
        try:
            part = (entry.get("part") or "").ljust(places, "0")
            ticks.append(_seconds(entry, day_first is not False) * 10**places + int(part or 0))
        except (ValueError, OverflowError) as error:
            raise no_time_error(path, line, cell) from error
    if "year" not in fields[0]:
        _cross_midnight(ticks, 10**places)
    return ticks, places, day_first


def _is_day_first(fields: Sequence[Mapping[str, str | None]]) -> bool | None:
    """Whether 01/02/2020 is in February; None if no date of the file decides it."""
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
    return seconds + (datetime(year, month, day) - datetime(1, 1, 1)).days * DAY


def _cross_midnight(ticks: list[int], second: int) -> None:
    """Add a day wherever a clock starts again at midnight."""
    days, previous = 0, ticks[0]
    for index, tick in enumerate(ticks):
        if tick < previous - _HALF_DAY * second:
            days += DAY * second
        previous = tick
        ticks[index] = tick + days


def template_of(cell: str, day_first: bool) -> str:
    """Return a cell with its fields as replacement fields of `str.format`; "" for a number."""
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


def format_ticks(ticks: int, digits: int, decimal: str = ".") -> str:
    """``ticks / 10**digits`` as text with ``digits`` decimal places.

    >>> format_ticks(-125, 3)
    '-0.125'
    """
    whole, part = divmod(abs(ticks), 10**digits)
    sign = "-" if ticks < 0 else ""
    return f"{sign}{whole}{decimal}{part:0{digits}d}" if digits else f"{sign}{whole}"


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
    if not template:
        return format_ticks(ticks, digits, decimal)
    whole, part = divmod(abs(ticks), 10**digits)
    fraction = f"{part:0{digits}d}" if digits else ""
    if "{part}" not in template and digits:
        template = template.replace("{second}", "{second}.{part}")
    days, remainder = divmod(whole, DAY) if "{day}" in template else (0, whole)
    date = datetime(1, 1, 1) + timedelta(days=days if "{year}" in template else 0)
    hour = remainder // 3600
    return template.format(
        year=f"{date.year:04d}",
        month=f"{date.month:02d}",
        day=f"{date.day:02d}",
        hour=f"{(hour - 1) % 12 + 1 if '{half}' in template else hour:02d}",
        minute=f"{remainder // 60 % 60 if '{hour}' in template else remainder // 60:02d}",
        second=f"{remainder % 60:02d}",
        part=fraction,
        half="PM" if hour % 24 >= 12 else "AM",
    )
