"""WFDB records (PhysioNet): ``.hea`` with its signal files, and beats in ``.atr``.

A record consists of several files and is named by its header. Gain, zero, units, start time,
comments and annotations are written back. The signal is written as one ``.dat`` in the record's own
digital steps, in 16 bits, or in 32 bits if the result exceeds them.

Leads with several samples a frame keep their rate. The grid holds the leads of the most common rate
(the higher one of a tie); `Signal.others` keeps the others, which are written back unchanged.
Records of several segments are read as one, with gaps where a lead is not recorded. If the header
gives no length, the size of the files does.
"""

from __future__ import annotations

import contextlib
import glob
import json
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.provenance import is_provenance
from convnd.io.reading import import_optional, translate_errors
from convnd.io.registry import Format
from convnd.io.signals.signal import Annotation, OtherLead, Signal, signal_grid
from convnd.io.signals.wfdb_annotations import ANNOTATOR, read_annotations
from convnd.io.signals.wfdb_checks import check_header_text, check_record_files
from convnd.io.signals.wfdb_flac import has_flac, request_record
from convnd.io.signals.wfdb_writing import write_wfdb
from convnd.io.silence import silence_libraries

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["FORMATS", "read_wfdb"]

_ANNOTATORS = {
    *(
        "qrs",
        "ann",
        "ari",
        "ecg",
        "wqrs",
        "gqrs",
        "sqrs",
        "st",
        "sta",
        "stb",
        "stc",
        "pwave",
        "wabp",
    ),
    *("marks", "man", "pu", "pu0", "pu1", "q1c", "q2c", "qt1", "qt2", "apn", "event", "aux", "al"),
}
"""Suffixes of annotations of other annotators than the reference."""


def read_wfdb(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read a record.

    Args:
        path: its ``.hea``.
        max_pixels: largest number of samples over all channels.

    Returns:
        Values ``(1, C, T)`` in the record's units; gaps are NaN.

    Raises:
        InputFileError: damaged, a signal file is missing or cut short, or too large.
        DependencyError: wfdb is missing.
    """
    wfdb = import_optional("wfdb", f"read {path}")
    name = str(path.with_suffix(""))
    with translate_errors(path, "a WFDB record"), silence_libraries():
        check_header_text(path)
        header = wfdb.rdheader(name)
        if not header.n_sig:
            raise InputFileError(
                f"read {path}",
                expected="signals",
                got="a header that names none",
                remedy="check the record",
            )
        if header.sig_len == 0:  # which wfdb takes for a record without samples
            raise InputFileError(
                f"read {path}",
                expected="the number of samples in the first line",
                got="0",
                remedy="correct it, or leave it out: then the files tell",
            )
        if has_flac(check_record_files(wfdb, path, header, max_pixels)):
            record = request_record(path, max_pixels)
        else:
            record = wfdb.rdrecord(name, smooth_frames=False)
        if not record.sig_len:
            raise InputFileError(
                f"read {path}",
                expected="signals",
                got="files without samples",
                remedy="check the record",
            )
        return _grid(path, record, read_annotations(path, float(record.fs)))


def _grid(path: Path, record: Any, annotations: tuple[Annotation, ...]) -> Grid:
    """Return a grid of the leads of one rate, with the others in its metadata."""
    import numpy as np

    frames, rate = [int(count) for count in record.samps_per_frame], float(record.fs)
    frequency = Counter(frames)
    count = max(frequency, key=lambda count: (frequency[count], count))
    chosen = [index for index in range(len(frames)) if frames[index] == count]
    names = [name or "" for name in record.sig_name or [""] * record.n_sig]
    units = [unit or "" for unit in record.units]
    # Segments of a record may differ in gain; then it has none.
    gains = [float(gain or 0) for gain in getattr(record, "adc_gain", None) or [0] * len(frames)]
    zeros = [int(zero or 0) for zero in getattr(record, "baseline", None) or [0] * len(frames)]
    comments = record.comments or ()
    signal = Signal(
        units=tuple(units[index] for index in chosen),
        start=record.base_datetime,
        annotations=annotations,
        steps=tuple(1 / gains[k] for k in chosen) if min(gains) > 0 else (),
        zeros=tuple(zeros[index] for index in chosen),
        others=tuple(
            OtherLead(
                name=names[index] or str(index),
                unit=units[index],
                rate=rate * frames[index],
                position=index,
                values=np.asarray(record.e_p_signal[index], np.float64),
                step=1 / gains[index] if gains[index] > 0 else 0.0,
                zero=zeros[index],
            )
            for index in range(len(frames))
            if index not in chosen
        ),
        positions=tuple(chosen),
        remarks=_remarks(path),
        rate_assumed=not _names_rate(path),
        extra={
            "comments": [text for text in comments if not is_provenance(*_entry(text))],
            "time": record.base_time,
            "frames": int(record.sig_len),
        },
        format="WFDB",
    )
    samples = np.stack([record.e_p_signal[index] for index in chosen])
    return signal_grid(path, samples, rate * count, [names[index] for index in chosen], signal)


def _signal_lines(path: Path) -> tuple[list[bytes], list[list[bytes]]]:
    """Words of the record line, and of the line of each signal."""
    lines = [line for line in path.read_bytes().splitlines() if line.strip()]
    words = [line.split() for line in lines if not line.startswith(b"#")]
    return words[0], words[1:]


def _names_rate(path: Path) -> bool:
    return len(_signal_lines(path)[0]) > 2


def _gain(word: bytes) -> float:
    """The gain that a field such as ``200(0)/mV`` begins with; 0 for none."""
    match = re.match(rb"[\d.]+(?:[eE][+-]?\d+)?", word)
    return float(match[0]) if match else 0.0


def _remarks(path: Path) -> tuple[str, ...]:
    """Messages about what the record leaves open, and about other files that are not read."""
    record, signals = _signal_lines(path)
    remarks = []
    if b"/" not in record[0]:
        open_gains = [
            words[8].decode("ascii", "replace") if len(words) > 8 else str(index)
            for index, words in enumerate(signals)
            if len(words) < 3 or not _gain(words[2])
        ]
        if open_gains:
            remarks.append(
                f"names no gain for {', '.join(open_gains)}: 200 steps a millivolt are assumed, as "
                "WFDB does"
            )
    other_files = [
        file.name
        for file in sorted(path.parent.glob(f"{glob.escape(path.stem)}.*"))
        if file.suffix[1:] in _ANNOTATORS
    ]
    if other_files:
        remarks.append(f"has annotations in {', '.join(other_files)}, too, which are not read")
    return tuple(remarks)


def _entry(comment: str) -> tuple[str, str]:
    """Split a comment into key and value of provenance."""
    key, _, value = f"{comment} ".partition(": ")  # wfdb strips the space behind an empty value
    value = value[:-1]
    with contextlib.suppress(ValueError):
        value = str(json.loads(f'"{value}"'))
    return key, value


def _read_provenance(path: Path) -> dict[str, str]:
    wfdb = import_optional("wfdb", f"read {path}")
    check_header_text(path)
    with silence_libraries():
        return dict(map(_entry, wfdb.rdheader(str(path.with_suffix(""))).comments or ()))


FORMATS = (
    Format(
        name="WFDB",
        suffixes=(".hea",),
        spatial_dims=1,
        read=read_wfdb,
        write=write_wfdb,
        companions=(".dat", f".{ANNOTATOR}"),
        unsupported_metadata=(
            "time of the first sample",
            "durations of annotations",
            "annotations beyond 255 characters",
        ),
        read_provenance=_read_provenance,
    ),
)
