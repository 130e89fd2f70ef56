"""Metadata of signals of every format, and checks that their readers share."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError, UsageError
from convnd.grid import Grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Annotation",
    "OtherLead",
    "Signal",
    "check_no_gaps",
    "check_rate",
    "describe",
    "from_json",
    "sampling_rate",
    "signal_grid",
    "signal_of",
    "to_json",
    "value_units",
]

_WHOLE = 1e-6  # of a rate: what resampled recordings are off by


@dataclass(frozen=True)
class Annotation:
    """A mark at a time of a recording.

    Args:
        seconds: time since the start of the recording.
        text: content of the mark; in WFDB, the code of a beat ("N", "V", …) and its note.
        duration: in seconds; 0 for a moment.
        detail: further fields of the format (WFDB: symbol, auxiliary note, subtype, channel, number
            and ticks a second).
    """

    seconds: float
    text: str
    duration: float = 0.0
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class OtherLead:
    """A lead of another sampling rate, which the grid does not hold and a result keeps.

    Args:
        name: name of the lead.
        unit: of its values; "" if the file does not say.
        rate: samples per second.
        position: among all leads of the file.
        values: ``(T,)`` in its unit; gaps are NaN.
        step: value of one digital step; 0 if the values were not digital.
        zero: digital value of 0.
    """

    name: str
    unit: str
    rate: float
    position: int
    values: NDArray[Any]
    step: float = 0.0
    zero: int = 0


@dataclass(frozen=True, kw_only=True)
class Signal:
    """Metadata of a recording.

    Args:
        units: unit of the values of each channel ("mV"); "" if the file does not say.
        start: date and time of the first sample.
        annotations: marks in order of time.
        steps: value of one digital step of each channel; empty if the values were not digital.
        zeros: digital value of 0 of each channel.
        offset: seconds of the first sample on the recording's own clock.
        rate_assumed: whether the sampling rate is assumed, because the file does not state it.
        others: leads of other sampling rates, which are not in the grid.
        positions: of each channel among all leads of the file; empty if they are in order.
        remarks: messages about the file that users should see.
        extra: metadata that only one format has, under keys of its reader.
        format: name of that format.
    """

    units: tuple[str, ...] = ()
    start: datetime | None = None
    annotations: tuple[Annotation, ...] = ()
    steps: tuple[float, ...] = ()
    zeros: tuple[int, ...] = ()
    offset: float = 0.0
    rate_assumed: bool = False
    others: tuple[OtherLead, ...] = ()
    positions: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    format: str = ""


def signal_of(grid: Grid) -> Signal:
    """Return the metadata of a signal from a grid; empty for other grids.

    >>> import torch
    >>> signal_of(Grid(values=torch.zeros(1, 1, 4))).units
    ()
    """
    signal = grid.header.get("signal")
    return signal if isinstance(signal, Signal) else Signal()


def to_json(signal: Signal) -> str:
    """Return units, start and annotations as JSON, for formats with a place for text.

    >>> from_json(to_json(Signal(units=("mV",), annotations=(Annotation(0.5, "N"),)))).units
    ('mV',)
    """
    return json.dumps(
        {
            "units": signal.units,
            "start": None if signal.start is None else signal.start.isoformat(),
            "offset": signal.offset,
            "annotations": [
                (mark.seconds, mark.text, mark.duration, *([mark.detail] if mark.detail else ()))
                for mark in signal.annotations
            ],
        }
    )


def from_json(text: str) -> Signal:
    """Parse the text of `to_json`.

    Raises:
        ValueError: the text is something else.
    """
    try:
        fields = json.loads(text)
        start = fields["start"]
        return Signal(
            units=tuple(str(unit) for unit in fields["units"]),
            start=None if start is None else datetime.fromisoformat(start),
            offset=float(fields.get("offset", 0.0)),
            annotations=tuple(
                Annotation(float(seconds), str(text), float(duration), *map(dict, detail))
                for seconds, text, duration, *detail in fields["annotations"]
            ),
        )
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"expected metadata of a signal, got {text[:40]}") from error


def value_units(grid: Grid) -> tuple[str, ...]:
    """Return the unit of the values of each channel; "" if it is unknown."""
    units = signal_of(grid).units
    count = grid.values.shape[1]
    return units if len(units) == count else ("",) * count


def describe(grid: Grid, **changes: Any) -> Grid:
    """Return the grid with changed fields of its `Signal`."""
    signal = dataclasses.replace(signal_of(grid), **changes)
    return dataclasses.replace(grid, header={**grid.header, "signal": signal})


def sampling_rate(grid: Grid) -> float:
    """Return the samples per second, rounded to a whole number if they are one to 1e-9.

    >>> import torch
    >>> sampling_rate(Grid(values=torch.zeros(1, 1, 4), spacing=(1 / 360,)))
    360.0
    """
    rate = 1 / grid.spacing[0]
    return float(round(rate)) if math.isclose(rate, round(rate), rel_tol=1e-9) else rate


def check_no_gaps(values: NDArray[Any], format_name: str) -> None:
    """Refuse a recording with gaps for a format that cannot store them.

    Raises:
        UsageError: a value is not finite.
    """
    import numpy as np

    if not np.isfinite(values).all():
        raise UsageError(
            "write",
            expected=f"a recording without gaps for {format_name}, which knows none",
            got="some",
            remedy="choose another output, .hea, .csv or .npz",
        )


def check_rate(grid: Grid, format_name: str, *, whole: bool = False) -> float:
    """Return the sampling rate, for a format that cannot be written without one.

    Args:
        grid: the recording.
        format_name: common name of the format, for messages.
        whole: whether the format stores only whole numbers of hertz.

    Raises:
        UsageError: the grid has no sampling rate, or one that the format cannot hold.
    """
    if grid.units != ("s",):
        raise UsageError(
            "write",
            expected=f"a sampling rate for {format_name}",
            got="a recording without one",
            remedy="add --rate, or choose .csv, .npy or .npz",
        )
    rate = sampling_rate(grid)
    if whole and (rate < 1 or abs(rate - round(rate)) > _WHOLE * rate):
        raise UsageError(
            "write",
            expected=f"a whole number of hertz for {format_name}",
            got=f"{rate:g} Hz",
            remedy="choose another output, .csv, .hea or .npz",
        )
    return rate


def signal_grid(
    path: Path, samples: NDArray[Any], rate: float | None, names: Sequence[str], signal: Signal
) -> Grid:
    """Make a grid of samples after checking them.

    Args:
        path: the file, for messages.
        samples: ``(C, T)``; gaps are NaN.
        rate: samples per second; None if the file does not say.
        names: names of the channels; repeated ones get a number.
        signal: metadata of the recording.

    Raises:
        InputFileError: no samples, a rate that is not positive, or nothing but gaps.
    """
    import numpy as np
    import torch

    if samples.ndim != 2 or 0 in samples.shape:
        raise InputFileError(
            f"read {path}", expected="samples", got="none", remedy="check how it was made"
        )
    if rate is not None and not 0 < rate < math.inf:
        raise InputFileError(
            f"read {path}",
            expected="a positive finite sampling rate",
            got=f"{rate:g}",
            remedy="correct the header",
        )
    names = _unique_names(names)
    if not np.isfinite(samples).any():
        raise InputFileError(
            f"read {path}",
            expected="numbers in at least one channel",
            got="gaps alone",
            remedy="check the file",
        )
    with np.errstate(over="raise", invalid="ignore"):
        values = torch.from_numpy(np.require(samples, np.float32, ["C", "W"]))[None]
    grid = Grid(values=values, channels=tuple(names), header={"signal": signal})
    if rate is None:
        return grid
    return dataclasses.replace(grid, spacing=(1 / rate,), units=("s",), axes=("t",))


def _unique_names(names: Sequence[str]) -> list[str]:
    unique: dict[str, int] = {}  # and the last number that a name got
    for index, name in enumerate(names):
        base = name.strip() or str(index)
        name, number = base, unique.get(base, 1)
        while name in unique:
            number += 1
            name = f"{base}-{number}"
        unique[base] = number
        unique.setdefault(name, 1)
    return list(unique)
