"""Checks of the files of a WFDB record, before wfdb reads them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from convnd.errors import InputFileError
from convnd.io.reading import check_file, check_partner
from convnd.io.signals.limits import check_held, check_samples

__all__ = ["check_header_text", "check_record_files"]

_LARGEST_HEADER = 2**20


_MOST_SIGNALS, _MOST_SEGMENTS = 4096, 10_000  # wfdb takes milliseconds for each


_UNLISTED = 64  # signals of a multi-segment record that its own header does not list


def check_record_files(wfdb: Any, path: Path, header: Any, max_samples: int | None) -> list[Any]:
    """Refuse a record whose files are missing or too large, or whose segments do not fit.

    Returns:
        The header, and those of its segments.
    """
    segments = []
    for name in dict.fromkeys(getattr(header, "seg_name", ())):
        if name == "~":  # a gap
            continue
        check_header_text(_check_beside(path, f"{name}.hea"))
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


def check_header_text(path: Path) -> None:
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
