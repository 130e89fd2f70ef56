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
from convnd.io.reading import check_file, check_partner, import_optional, translate_errors
from convnd.io.registry import Format
from convnd.io.signals.signal import (
    Annotation,
    OtherLead,
    Signal,
    check_held,
    check_samples,
    signal_grid,
)
from convnd.io.signals.wfdb_annotations import ANNOTATOR, read_annotations
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

_LARGEST_HEADER = 2**20
_MOST_SIGNALS, _MOST_SEGMENTS = 4096, 10_000  # wfdb takes milliseconds for each
_UNLISTED = 64  # signals of a multi-segment record that its own header does not list


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
        _check_text(path)
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
        if has_flac(_check_files(wfdb, path, header, max_pixels)):
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


def _check_files(wfdb: Any, path: Path, header: Any, max_samples: int | None) -> list[Any]:
    """Refuse a record whose files are missing or too large, or whose segments do not fit.

    Returns:
        The header, and those of its segments.
    """
    segments = []
    for name in dict.fromkeys(getattr(header, "seg_name", ())):
        if name == "~":  # a gap
            continue
        _check_text(_check_beside(path, f"{name}.hea"))
        segment = wfdb.rdheader(str(path.with_name(name)))
        if hasattr(segment, "seg_name"):
            raise InputFileError(
                f"read {path}",
                expected="segments that are single recordings",
                got=f"{name}, which has segments of its own",
                remedy="read that record instead",
            )
        segments.append(segment)
    headers = [header, *segments]
    # A layout header names leads, and "~" for their files.
    names = {name for part in headers for name in getattr(part, "file_name", None) or ()}
    files = [_check_beside(path, name) for name in sorted(names - {"~"})]
    byte_count = sum(file.stat().st_size for file in files)
    for part in headers:
        _check_size(path, part, max_samples, byte_count)
    units: dict[str, str] = {}
    for segment in segments:
        if set(segment.file_name or ()) == {"~"}:
            continue
        for lead, unit in zip(segment.sig_name or (), segment.units or (), strict=False):
            if units.setdefault(lead or "", unit) != unit:
                raise InputFileError(
                    f"read {path}",
                    expected=f"one unit of {lead} in all segments",
                    got=f"{units[lead or '']} and {unit}",
                    remedy="read the segments one by one",
                )
    return headers


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
    _check_text(path)
    with silence_libraries():
        return dict(map(_entry, wfdb.rdheader(str(path.with_suffix(""))).comments or ()))


def _check_text(path: Path) -> None:
    """Refuse a header that declares more lines than it has; wfdb allocates memory for them."""
    check_file(path)
    with path.open("rb") as file:
        text = file.read(_LARGEST_HEADER + 1)
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(b"#")]
    words = lines[0].split() if lines else []
    # The first word is the name, with the number of segments behind "/"; the second counts signals.
    counts = [*(words[0].split(b"/")[1:] if words else ()), *words[1:2]]
    limits = (_MOST_SEGMENTS, _MOST_SIGNALS)[-len(counts) :]
    for limit, count in zip(limits, counts, strict=False):
        if count.isdigit() and int(count[:9]) > limit:
            raise InputFileError(
                f"read {path}",
                expected=f"at most {limit:,} segments or signals",
                got=count[:9].decode(),
                remedy="split it",
            )
    if len(text) > _LARGEST_HEADER or any(
        not count.isdigit() or int(count[:9]) > len(lines) + _UNLISTED for count in counts
    ):
        raise InputFileError(
            f"read {path}",
            expected="a header of as many lines as it says",
            got=len(lines),
            remedy="the file is damaged",
        )
    if words[2:3] and re.match(rb"\.?\d", words[2]) is None:
        raise InputFileError(
            f"read {path}",
            expected="a positive finite sampling rate",
            got=words[2][:20].decode("ascii", "replace"),
            remedy="correct the header",
        )


def _check_size(path: Path, header: Any, max_samples: int | None, byte_count: int) -> None:
    """Refuse more samples than allowed, and shifts between signals longer than the record.

    wfdb reads every sample of a frame and shifts signals before it looks at the result.

    Args:
        path: the record, for messages.
        header: of the record, or of a segment.
        max_samples: see `check_samples`.
        byte_count: length of all files of signals, in bytes.
    """
    per_frame = getattr(header, "samps_per_frame", None) or [1] * int(header.n_sig or 0)
    width = sum(int(count or 1) for count in per_frame)
    # Without a length, wfdb finds it out from the files; no format takes less than a byte.
    length = int(header.sig_len or 0) or byte_count // max(width, 1)
    samples = length * width
    check_samples(path, samples, max_samples)
    check_held(path, samples, byte_count)
    skews = [int(skew or 0) for skew in getattr(header, "skew", None) or ()]
    if max(skews, default=0) > length or min(skews, default=0) < 0:
        raise InputFileError(
            f"read {path}",
            expected=f"skews between signals from 0 to {length:,} samples, the record's length",
            got=f"{max(skews):,}",
            remedy="correct the header",
        )


def _check_beside(path: Path, name: str) -> Path:
    """Return a file in the folder of the record, or refuse it if it is not there."""
    file = path.with_name(name)
    if not file.is_file():
        raise InputFileError(
            f"read {path}",
            expected=f"the file {name} beside it, which it names",
            got="none",
            remedy="copy the whole record",
        )
    if file.stat().st_size:  # an empty file is a record without samples
        check_partner(path, file)
    return file


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
