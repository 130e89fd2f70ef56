"""Named arrays that make up a recording: MATLAB and HDF5 files, and ``.npz`` of others.

No standard describes such files. The reader understands what people usually store: an array of
leads, or one array for each lead; a sampling rate under a usual name; a vector of times; names and
units of leads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.signals.signal import Signal, signal_grid
from convnd.io.signals.time_names import TimeName, parse_name
from convnd.io.signals.times import read_times

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["RATE_NAMES", "NamedArrays", "recording_of", "simple_name"]

RATE_NAMES = {
    *("fs", "rate", "samplingrate", "samplerate", "sfreq", "srate", "samplingfrequency"),
    *("samplefrequency", "frequency", "freq", "hz", "samplespersecond", "fsample", "sampfreq"),
}
"""Names of a sampling rate, without punctuation and in lower case."""

_LEAD_NAMES = {
    *("channels", "channelnames", "chnames", "leads", "leadnames", "signame", "signames", "labels"),
    *("label", "names", "columns", "channel", "lead"),
}
_UNIT_NAMES = {"units", "unit", "physicaldimension", "dimension"}
_SHORTEST = 16  # samples of a recording; shorter arrays are something else
_MOST_LEADS = 1024


@dataclass(frozen=True)
class NamedArrays:
    """The arrays and texts of a file.

    Args:
        arrays: numbers, by name; names of nested ones are joined by dots.
        texts: strings, by name.
    """

    arrays: Mapping[str, NDArray[Any]]
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def simple_name(name: str) -> str:
    """The last part of a name in lower case, without punctuation.

    >>> simple_name("EEG.Sampling_Rate"), simple_name("/rec/fs")
    ('samplingrate', 'fs')
    """
    last = name.replace("/", ".").rstrip(".").split(".")[-1]
    return "".join(character for character in last.lower() if character.isalnum())


def recording_of(path: Path, content: NamedArrays, format_name: str) -> Grid:
    """Make a grid of the recording that named arrays hold.

    Args:
        path: the file, for messages.
        content: its arrays and texts.
        format_name: common name of the format.

    Raises:
        InputFileError: no array can be the recording, several can, or there are two sampling rates.
    """
    import numpy as np

    rate = _rate(path, content)
    arrays = {
        name: np.squeeze(array)
        for name, array in content.arrays.items()
        if array.size >= _SHORTEST and array.dtype.kind in "biuf"
    }
    times = {
        name: parse_name(name.split(".")[-1], None)
        for name, array in arrays.items()
        if array.ndim == 1 and parse_name(name.split(".")[-1], None).is_time
    }
    leads = {
        name: array
        for name, array in arrays.items()
        if name not in times and array.ndim in (1, 2) and max(array.shape) >= _SHORTEST
    }
    samples, names = _samples(path, leads, [arrays[name] for name in times])
    assumed = False
    offset = 0.0
    for name, meaning in times.items():
        if len(arrays[name]) == samples.shape[1] and rate is None:
            rate, assumed, offset = _rate_of_times(path, arrays[name], meaning)
    count = len(samples)
    name_lists = [texts for key, texts in content.texts.items() if simple_name(key) in _LEAD_NAMES]
    names = next((list(texts) for texts in name_lists if len(texts) == count), names)
    units = [texts for key, texts in content.texts.items() if simple_name(key) in _UNIT_NAMES]
    unit = next((texts for texts in units if len(texts) in (1, count)), ("",))
    signal = Signal(
        units=tuple(unit * count if len(unit) == 1 else unit),
        offset=offset,
        rate_assumed=assumed,
        format=format_name,
    )
    return signal_grid(path, samples.astype(np.float64), rate, names, signal)


def _rate(path: Path, content: NamedArrays) -> float | None:
    rates = {
        float(array.reshape(-1)[0])
        for name, array in content.arrays.items()
        if array.size == 1 and array.dtype.kind in "iuf" and simple_name(name) in RATE_NAMES
    }
    if len(rates) > 1:
        raise InputFileError(
            f"read {path}",
            expected="one sampling rate",
            got=", ".join(f"{rate:g}" for rate in sorted(rates)),
            remedy="save one recording alone",
        )
    return rates.pop() if rates else None


def _samples(
    path: Path, leads: Mapping[str, NDArray[Any]], times: list[NDArray[Any]]
) -> tuple[NDArray[Any], list[str]]:
    """Return the samples ``(C, T)`` of a recording, and the names of its leads."""
    import numpy as np

    tables = {name: array for name, array in leads.items() if array.ndim == 2}
    vectors = {name: array for name, array in leads.items() if array.ndim == 1}
    lengths = {len(array) for array in times}
    if len(tables) == 1:
        (table,) = tables.values()
        # Of the two axes the longer one is time, unless a vector of times says otherwise.
        rows, columns = table.shape
        by_rows = rows in lengths if rows in lengths or columns in lengths else rows > columns
        array = table.T if by_rows else table
        if len(array) <= _MOST_LEADS:
            return array, [str(index) for index in range(len(array))]
    if not tables and vectors and len({len(array) for array in vectors.values()}) == 1:
        return np.stack(list(vectors.values())), [name.split(".")[-1] for name in vectors]
    shapes = ", ".join(f"{name} {'x'.join(map(str, array.shape))}" for name, array in leads.items())
    raise InputFileError(
        f"read {path}",
        expected="one array of leads, or one array of the same length for each lead",
        got=shapes or "none",
        remedy="save the recording alone",
    )


def _rate_of_times(
    path: Path, times: NDArray[Any], name: TimeName
) -> tuple[float | None, bool, float]:
    """Sampling rate, whether its unit is a convention, and the time of the first sample."""
    cells = [str(value) for value in times.tolist()]
    column = read_times(path, range(1, len(cells) + 1), [0], [cells], name)
    rate = column.rate
    if rate is not None and times.dtype.kind == "f":
        # Sums of steps in floating point: a rate within their rounding is a whole one.
        step = Fraction(float(times[-1]) - float(times[0])) / (len(times) - 1)
        error = float(_spacing(times)) / float(step)
        if math.isclose(rate, round(rate), rel_tol=max(1e-9, error)):
            rate = float(round(rate))
    return rate, column.assumed, column.offset


def _spacing(times: NDArray[Any]) -> float:
    """The distance of floating-point numbers at the largest time."""
    import numpy as np

    return float(np.spacing(np.abs(times).max()))
