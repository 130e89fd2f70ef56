"""Parses names of columns: whether they name a time, and in which unit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

__all__ = ["INDEX_NAMES", "SECONDS", "UNITS", "TimeName", "parse_name"]

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
    *("frame", "row", "no", "nr", "number", "id", "unnamed 0", "count", "counter", "point"),
}
"""Names of columns that count samples, as `parse_name` writes them."""
UNITS = tuple(text.split()[0] for text in _SPELLINGS.values())
"""The usual unit of each size."""


@dataclass(frozen=True)
class TimeName:
    """A time and its unit, as the name of a column gives them.

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
    phrase = " ".join(words)
    units = [word for word in words if word in SECONDS]
    other_words = [word for word in words if word not in _TIME_WORDS | _FILLERS | set(SECONDS)]
    is_time = bool(set(words) & _TIME_WORDS) and (
        not other_words or (words[0] in _TIME_WORDS and words[0] != "t")
    )
    is_time = is_time or bool({"timestamp", "timestamps", "datetime"} & set(words))
    is_time = is_time or (bool(words) and len(units) == len(words))
    text = (unit or "").strip().strip("'\"").lower()
    if text in INDEX_NAMES - {""}:
        return TimeName(phrase, False)
    if text:
        plain = text in _FILLERS or re.fullmatch(r"[hmsydtf:.,/\- ]+", text) is not None
        seconds = SECONDS.get(text)
        return TimeName(phrase, is_time, seconds, "" if seconds or plain else text)
    if not is_time:
        return TimeName(phrase, False)
    if units:
        return TimeName(phrase, True, SECONDS[units[-1]])
    unknown_unit = (
        other_words[0]
        if len(words) == 2 and len(other_words) == 1 and other_words[0].isalpha()
        else ""
    )
    return TimeName(phrase, True, None, unknown_unit)
