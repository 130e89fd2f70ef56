"""Reads WFDB records whose samples are FLAC; libsndfile decodes them in a child process."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from convnd.io.reading import import_optional
from convnd.io.signals.request import Content, Expect, request_arrays

__all__ = ["decode_record", "has_flac", "request_record"]

_FLAC = {"508", "516", "524"}  # formats of 8, 16 and 24 bits
_FIELDS = (
    *("n_sig", "sig_len", "fs", "samps_per_frame", "sig_name", "units", "adc_gain", "baseline"),
    "comments",
)


def has_flac(headers: Iterable[Any]) -> bool:
    """Whether a signal of one of these headers of wfdb is stored as FLAC."""
    return any(_FLAC & set(getattr(header, "fmt", None) or ()) for header in headers)


def request_record(path: Path, max_samples: int | None) -> Any:
    """Let a child read a record.

    Args:
        path: its header, which was checked.
        max_samples: largest number of samples; None for the default.

    Returns:
        What `wfdb.rdrecord` returns with ``smooth_frames=False``, as far as the reader uses it.

    Raises:
        InputFileError: its decoder refused the record, hung, died, or took too much memory.
    """
    arrays, fields = request_arrays(path, "WFDB", "a WFDB record", max_samples)
    record = SimpleNamespace(**{name: fields[name] for name in _FIELDS})
    record.e_p_signal = [arrays[str(k)] for k in range(int(record.n_sig))]
    day, clock = fields["datetime"], fields["time"]
    record.base_datetime = None if day is None else datetime.fromisoformat(str(day))
    record.base_time = None if clock is None else time.fromisoformat(str(clock))
    return record


def decode_record(path: Path, _max_samples: int, expect_samples: Expect) -> Content:
    """Decode a record, in a child process: each signal by its number, then the header."""
    import numpy as np

    wfdb = import_optional("wfdb", f"read {path}")
    name = str(path.with_suffix(""))
    header = wfdb.rdheader(name)
    width = sum(int(n or 1) for n in getattr(header, "samps_per_frame", None) or [1] * header.n_sig)
    files = {
        path.with_name(file) for file in getattr(header, "file_name", None) or () if file != "~"
    }
    length = int(header.sig_len or 0) or sum(file.stat().st_size for file in files)
    expect_samples(4 * length * width)  # integers and floats of all signals, and copies of them
    record = wfdb.rdrecord(name, smooth_frames=False)
    for number, values in enumerate(record.e_p_signal):
        yield str(number), np.asarray(values, np.float64), {}
    fields = {field: _plain(getattr(record, field, None)) for field in _FIELDS}
    day, clock = record.base_datetime, record.base_time
    fields["datetime"] = None if day is None else day.isoformat()
    fields["time"] = None if clock is None else clock.isoformat()
    yield "", None, fields


def _plain(value: Any) -> Any:
    """A value in types of JSON."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value
