"""Headers of EDF and BDF files."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from convnd.errors import InputFileError

__all__ = [
    "RANGES",
    "ROUNDING",
    "TEXT_FIELDS",
    "EdfHeader",
    "calibration",
    "decode_text",
    "read_header",
]

TEXT_FIELDS = {"label": 16, "transducer": 80, "dimension": 8, "prefilter": 80}
"""Bytes of each text of a lead."""

RANGES = ("physical_min", "physical_max", "digital_min", "digital_max")
"""The ends of a lead's ranges."""

ROUNDING = 5e-7
"""Share of a duration that its eight characters may be off by."""


@dataclass(frozen=True)
class EdfHeader:
    """The header of a file, parsed.

    Args:
        raw: its first 256 bytes.
        fields: texts of each lead as bytes, by name of the field.
        ranges: physical and digital ends of each lead.
        counts: samples of each lead in a data record, also of leads that hold annotations.
        records: number of data records.
        seconds: duration of a data record.
        size: bytes of the header.
        width: bytes of a sample.
    """

    raw: bytes
    fields: Mapping[str, Sequence[bytes]]
    ranges: Mapping[str, Sequence[float]]
    counts: Sequence[int]
    records: int
    seconds: float
    size: int
    width: int

    def text(self, name: str, lead: int) -> str:
        """Return a text of a lead, by the name of its field."""
        return decode_text(self.fields[name][lead])

    def leads(self) -> list[int]:
        """Return the positions of the leads that hold samples rather than annotations."""
        marks = [k for k in range(len(self.counts)) if self.is_annotation(k)]
        return [k for k in range(len(self.counts)) if k not in marks and self.counts[k]]

    def is_annotation(self, lead: int) -> bool:
        """Tell whether a lead holds annotations."""
        return self.text("label", lead) in {"EDF Annotations", "BDF Annotations"}

    @property
    def is_interrupted(self) -> bool:
        """Whether there may be gaps between data records."""
        return self.raw[192:197] in {b"EDF+D", b"BDF+D"}


def read_header(path: Path) -> EdfHeader:
    """Read the header, and compare the length of the file with what it declares.

    Raises:
        InputFileError: it is not a valid header, or the file is cut short.
    """
    with path.open("rb") as file:
        raw = file.read(256)
        if raw[:8].rstrip() != b"0" and raw[:8] != b"\xffBIOSEMI":
            raise InputFileError(
                f"read {path}",
                expected="an EDF or BDF header",
                got="other content",
                remedy="check the file",
            )
        size, records, channels = (
            int(raw[first:last]) for first, last in ((184, 192), (236, 244), (252, 256))
        )
        lead_headers = file.read(256 * channels)
    seconds = float(raw[244:252])
    if not 0 <= seconds < math.inf:
        raise InputFileError(
            f"read {path}",
            expected="a duration of data records",
            got=f"{seconds:g}",
            remedy="correct the header",
        )
    if len(lead_headers) < 256 * channels or channels < 1:
        raise InputFileError(
            f"read {path}",
            expected=f"a header of {channels} signals",
            got="fewer bytes",
            remedy="the file is cut short",
        )
    columns = _split_columns(lead_headers, channels)
    counts = [int(cell) for cell in columns["count"]]
    width = 3 if raw[:1] == b"\xff" else 2
    length = path.stat().st_size
    if min(counts) < 0 or sum(counts) < 1:
        raise InputFileError(
            f"read {path}", expected="signals", got="none", remedy="check the file"
        )
    if records < 0:  # a recording that was never closed
        records = (length - size) // (sum(counts) * width)
    expected = size + records * sum(counts) * width
    if length < expected:
        raise InputFileError(
            f"read {path}",
            expected=f"{records} data records, {expected:,} bytes",
            got=f"{length:,}",
            remedy="the file is cut short",
        )
    ranges = {name: [float(cell) for cell in columns[name]] for name in RANGES}
    return EdfHeader(raw, columns, ranges, counts, records, seconds, size, width)


def _split_columns(lead_headers: bytes, channels: int) -> dict[str, list[bytes]]:
    """The fields of all leads by name: each field of one lead follows that of the lead before."""
    columns, start = {}, 0
    widths = (16, 80, 8, 8, 8, 8, 8, 80, 8)
    names = ("label", "transducer", "dimension", *RANGES, "prefilter", "count")
    for name, width in zip(names, widths, strict=True):
        columns[name] = [
            lead_headers[start + width * k : start + width * (k + 1)] for k in range(channels)
        ]
        start += width * channels
    return columns


def decode_text(field: bytes) -> str:
    """Decode a field in ASCII, UTF-8 or Latin-1, without blanks around it."""
    for encoding in ("ascii", "utf-8"):
        with contextlib.suppress(UnicodeDecodeError):
            return field.decode(encoding).strip("\0 ")
    return field.decode("latin-1").strip("\0 ")


def calibration(header: EdfHeader, lead: int) -> tuple[float, float]:
    """Return the value of a digital step and of the digital 0; 1 and 0 without ranges."""
    low, high, lowest, highest = (header.ranges[name][lead] for name in RANGES)
    if low == high or lowest == highest:
        return 1.0, 0.0
    step = (high - low) / (highest - lowest)
    return step, low - lowest * step
