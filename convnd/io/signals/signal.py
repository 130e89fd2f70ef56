"""What signals of every format know about themselves, and checks that their readers share."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import DependencyError, InputFileError
from convnd.grid import Grid
from convnd.io.reading import LIMIT_HINT, size_limit
from convnd.io.silence import silence_libraries

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "MAX_SAMPLES",
    "Annotation",
    "Signal",
    "check_samples",
    "describe",
    "from_json",
    "import_optional",
    "sampling_rate",
    "signal_grid",
    "signal_of",
    "to_json",
    "value_units",
]

MAX_SAMPLES = 2**30  # over all channels: 4 GiB as float32


@dataclass(frozen=True)
class Annotation:
    """A mark at a time.

    Args:
        seconds: from the start.
        text: what it says; in WFDB, the code of the beat ("N", "V", …).
        duration: in seconds, 0 for a moment.
        detail: what the format keeps beside (WFDB: the auxiliary note, subtype, channel, number).
    """

    seconds: float
    text: str
    duration: float = 0.0
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Signal:
    """What is kept of a recording beside its samples.

    Args:
        units: of the values of each channel ("mV"), "" where the file does not say.
        start: when the recording began.
        annotations: in order of time.
        steps: value of one digital step of each channel, empty if values were not digital.
        zeros: digital value that stands for 0, for each channel.
        extra: what only one format knows, by its reader's own keys.
        format: of which those are.
    """

    units: tuple[str, ...] = ()
    start: datetime | None = None
    annotations: tuple[Annotation, ...] = ()
    steps: tuple[float, ...] = ()
    zeros: tuple[int, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    format: str = ""


def signal_of(grid: Grid) -> Signal:
    """What a grid's header knows as a signal; nothing for other grids.

    >>> import torch
    >>> signal_of(Grid(values=torch.zeros(1, 1, 4))).units
    ()
    """
    found = grid.header.get("signal")
    return found if isinstance(found, Signal) else Signal()


def to_json(signal: Signal) -> str:
    """Units, start and annotations as JSON, for formats that have a place for text.

    >>> from_json(to_json(Signal(units=("mV",), annotations=(Annotation(0.5, "N"),)))).units
    ('mV',)
    """
    return json.dumps(
        {
            "units": signal.units,
            "start": None if signal.start is None else signal.start.isoformat(),
            "annotations": [
                (each.seconds, each.text, each.duration) for each in signal.annotations
            ],
        }
    )


def from_json(text: str) -> Signal:
    """What `to_json` says.

    Raises:
        ValueError: it says nothing of the kind.
    """
    try:
        found = json.loads(text)
        start = found["start"]
        return Signal(
            units=tuple(str(unit) for unit in found["units"]),
            start=None if start is None else datetime.fromisoformat(start),
            annotations=tuple(
                Annotation(float(seconds), str(words), float(duration))
                for seconds, words, duration in found["annotations"]
            ),
        )
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"not what is known of a signal: {text[:40]}") from error


def value_units(grid: Grid) -> tuple[str, ...]:
    """Unit of the values of each channel, "" where it is not known."""
    units = signal_of(grid).units
    count = grid.values.shape[1]
    return units if len(units) == count else ("",) * count


def describe(grid: Grid, **changes: Any) -> Grid:
    """The grid with changes to what it knows as a signal."""
    signal = dataclasses.replace(signal_of(grid), **changes)
    return dataclasses.replace(grid, header={**grid.header, "signal": signal})


def sampling_rate(grid: Grid) -> float:
    """Samples per second; a whole number where it is one but for rounding.

    >>> import torch
    >>> sampling_rate(Grid(values=torch.zeros(1, 1, 4), spacing=(1 / 360,)))
    360.0
    """
    rate = 1 / grid.spacing[0]
    return float(round(rate)) if math.isclose(rate, round(rate), rel_tol=1e-9) else rate


def check_samples(path: Path, count: int, asked: int | None) -> None:
    """Refuse a recording for its size.

    Args:
        path: for messages.
        count: samples over all channels.
        asked: how many there may be; None for the usual limit, see `convnd.io.reading.size_limit`.

    Raises:
        InputFileError: there are more.
    """
    limit = size_limit(asked, MAX_SAMPLES)
    if count > limit:
        raise InputFileError(
            f"read {path}: expected at most {limit:,} samples, got {count:,}; split it, "
            f"or {LIMIT_HINT}"
        )


def signal_grid(
    path: Path, samples: NDArray[Any], rate: float | None, names: Sequence[str], signal: Signal
) -> Grid:
    """A grid of a file's samples, once they are found to be plausible.

    Args:
        path: for messages.
        samples: ``(C, T)``; gaps are NaN.
        rate: samples per second, None when the file does not say.
        names: of the channels; repeated ones get a number.
        signal: what else is known.

    Raises:
        InputFileError: no samples, a rate that is none, a channel without a number.
    """
    import numpy as np
    import torch

    if samples.ndim != 2 or 0 in samples.shape:
        raise InputFileError(f"read {path}: expected samples, got none; check how it was made")
    if rate is not None and not 0 < rate < math.inf:
        raise InputFileError(
            f"read {path}: expected a positive finite sampling rate, got {rate:g}; correct the "
            "header"
        )
    names = _unique_names(names)
    for name, row in zip(names, samples, strict=True):
        if not np.isfinite(row).any():
            raise InputFileError(
                f"read {path}: expected numbers in every channel, got none in {name}; remove it"
            )
    with np.errstate(over="raise", invalid="ignore"):
        values = torch.from_numpy(np.ascontiguousarray(samples, np.float32))[None]
    timed = {} if rate is None else {"spacing": (1 / rate,), "units": ("s",), "axes": ("t",)}
    return Grid(values=values, channels=tuple(names), header={"signal": signal}, **timed)  # type: ignore[arg-type]


def _unique_names(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for index, name in enumerate(names):
        base = name.strip() or str(index)
        name, number = base, 1
        while name in found:
            number += 1
            name = f"{base}-{number}"
        found.append(name)
    return found


def import_optional(package: str, what: str, extra: str = "signals") -> Any:
    """A package that only some formats need.

    Raises:
        DependencyError: it is not installed; the message says how to.
    """
    try:
        with silence_libraries():
            return importlib.import_module(package)
    except ImportError as error:
        raise DependencyError(
            f"{what}: expected the package {package.split('.')[0]}, got none installed; "
            f'pip install "convnd-toolkit[{extra}]"'
        ) from error
