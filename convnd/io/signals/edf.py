"""European Data Format: ``.edf`` (16 bits) and ``.bdf`` (24 bits), with annotations.

The leads of one sampling rate become the grid: the rate that most leads have (of equals, the
higher). Leads of other rates stand beside it in `Signal.others` and are written back unchanged.
Patient, recording, start time, physical and digital ranges and annotations come back; a physical
range widens if the result exceeds it. Interrupted files (EDF+D) have gaps.

Headers are read leniently: labels that are not ASCII, dates that are none and ranges without extent
stand in many files.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.reading import import_optional, translate_errors
from convnd.io.registry import Format
from convnd.io.signals.signal import (
    Annotation,
    OtherLead,
    Signal,
    check_no_gaps,
    check_rate,
    check_samples,
    sampling_rate,
    signal_grid,
    signal_of,
    value_units,
)
from convnd.io.silence import silence_libraries

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["FORMATS", "read_edf"]

_BITS = {".edf": 16, ".bdf": 24}
_LONGEST = 60.0  # s of a data record
_SHORTEST = 0.001
_MENDED = 5e-7  # of a duration: rates that are off by less were whole numbers
_LARGEST_RECORD = 30_000  # samples of a lead in a data record
_TEXT_FIELDS = {"label": 16, "transducer": 80, "dimension": 8, "prefilter": 80}
_RANGES = ("physical_min", "physical_max", "digital_min", "digital_max")
_TAL = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15(\d*(?:\.\d*)?))?\x14(.*)", re.DOTALL)


@dataclass(frozen=True)
class _Header:
    """The header of a file.

    Args:
        raw: its first 256 bytes.
        fields: bytes of the texts of each lead, by name.
        ranges: physical and digital ends of each lead.
        counts: samples of each lead, annotations included, in a data record.
        records: number of data records.
        seconds: of a data record.
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
        return _decode(self.fields[name][lead])

    def leads(self) -> list[int]:
        """Positions of the leads that hold samples rather than annotations."""
        marks = [k for k in range(len(self.counts)) if self.is_annotation(k)]
        return [k for k in range(len(self.counts)) if k not in marks and self.counts[k]]

    def is_annotation(self, lead: int) -> bool:
        return self.text("label", lead) in {"EDF Annotations", "BDF Annotations"}

    @property
    def is_interrupted(self) -> bool:
        return self.raw[192:197] in {b"EDF+D", b"BDF+D"}


def read_edf(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read an EDF or BDF file.

    Args:
        path: an existing file.
        max_pixels: largest number of samples over all leads.

    Returns:
        Values ``(1, C, T)`` in the file's units.

    Raises:
        InputFileError: damaged, a data record is cut short, or too large.
        DependencyError: edfio is missing.
    """
    import numpy as np

    edfio = import_optional("edfio", f"read {path}")
    with translate_errors(path, "an EDF or BDF file"), silence_libraries():
        header = _read_header(path)
        leads = header.leads()
        if not leads or not header.seconds > 0:
            raise InputFileError(f"read {path}: expected signals, got none; check the file")
        starts, marks = _annotations(path, header)
        slots = _slots(path, header, starts)
        check_samples(path, max(slots) * sum(header.counts[k] for k in leads), max_pixels)
        read = edfio.read_edf if header.width == 2 else edfio.read_bdf
        file = read(path, header_encoding="latin-1")
        digital = dict(zip(leads, (lead.digital for lead in file.signals), strict=True))
        frequency = Counter(header.counts[k] for k in leads)
        count = max(frequency, key=lambda count: (frequency[count], count))
        chosen = [k for k in leads if header.counts[k] == count]
        values = {k: _physical(header, k, digital[k], slots) for k in leads}
        signal = Signal(
            units=tuple(header.text("dimension", k) for k in chosen),
            start=_start(file),
            annotations=marks,
            steps=tuple(abs(_calibration(header, k)[0]) for k in chosen),
            others=tuple(
                OtherLead(
                    name=header.text("label", k) or str(k),
                    unit=header.text("dimension", k),
                    rate=_rate(header.counts[k], header.seconds),
                    position=k,
                    values=values[k],
                    step=abs(_calibration(header, k)[0]),
                )
                for k in leads
                if k not in chosen
            ),
            positions=tuple(chosen),
            extra={"header": header},
            format="EDF",
        )
        names = [header.text("label", k) for k in chosen]
        samples = np.stack([values[k] for k in chosen])
        return signal_grid(path, samples, _rate(count, header.seconds), names, signal)


def _read_header(path: Path) -> _Header:
    """Read the header, and compare the length of the file with what it declares."""
    with path.open("rb") as file:
        raw = file.read(256)
        if raw[:8].rstrip() != b"0" and raw[:8] != b"\xffBIOSEMI":
            raise InputFileError(
                f"read {path}: expected an EDF or BDF header, got other content; check the file"
            )
        size, records, channels = (
            int(raw[first:last]) for first, last in ((184, 192), (236, 244), (252, 256))
        )
        rest = file.read(256 * channels)
    seconds = float(raw[244:252])
    if not 0 <= seconds < math.inf:
        raise InputFileError(
            f"read {path}: expected a duration of data records, got {seconds:g}; correct the header"
        )
    if len(rest) < 256 * channels or channels < 1:
        raise InputFileError(
            f"read {path}: expected a header of {channels} signals, got fewer bytes; the file is "
            "cut short"
        )
    columns, start = {}, 0
    widths = (16, 80, 8, 8, 8, 8, 8, 80, 8)
    names = ("label", "transducer", "dimension", *_RANGES, "prefilter", "count")
    for name, width in zip(names, widths, strict=True):
        columns[name] = [rest[start + width * k : start + width * (k + 1)] for k in range(channels)]
        start += width * channels
    counts = [int(cell) for cell in columns["count"]]
    width = 3 if raw[:1] == b"\xff" else 2
    length = path.stat().st_size
    if min(counts) < 0 or sum(counts) < 1:
        raise InputFileError(f"read {path}: expected signals, got none; check the file")
    if records < 0:  # a recording that was never closed
        records = (length - size) // (sum(counts) * width)
    expected = size + records * sum(counts) * width
    if length < expected:
        raise InputFileError(
            f"read {path}: expected {records} data records, {expected:,} bytes, got {length:,}; "
            "the file is cut short"
        )
    ranges = {name: [float(cell) for cell in columns[name]] for name in _RANGES}
    return _Header(raw, columns, ranges, counts, records, seconds, size, width)


def _decode(field: bytes) -> str:
    for encoding in ("ascii", "utf-8"):
        with contextlib.suppress(UnicodeDecodeError):
            return field.decode(encoding).strip("\0 ")
    return field.decode("latin-1").strip("\0 ")


def _start(file: Any) -> datetime | None:
    """The start, or None for a date that is anonymous or none."""
    try:
        start = file.startdatetime
    except (ValueError, OverflowError, IndexError):  # the last of damaged annotations
        return None
    return start if isinstance(start, datetime) else None


def _rate(count: int, seconds: float) -> float:
    """Samples per second; whole if the eight characters of the duration allow it."""
    rate = count / seconds
    whole = float(round(rate))
    return whole if whole and abs(count / whole - seconds) <= _MENDED * seconds else rate


def _calibration(header: _Header, lead: int) -> tuple[float, float]:
    """Value of a digital step, and value of the digital 0; digital values if the file says none."""
    low, high, lowest, highest = (header.ranges[name][lead] for name in _RANGES)
    if low == high or lowest == highest:
        return 1.0, 0.0
    step = (high - low) / (highest - lowest)
    return step, low - lowest * step


def _physical(
    header: _Header, lead: int, digital: NDArray[Any], slots: Sequence[int]
) -> NDArray[Any]:
    """Values of a lead, with gaps where records are missing."""
    import numpy as np

    step, zero = _calibration(header, lead)
    values = digital.astype(np.float64) * step + zero
    if list(slots) == list(range(1, len(slots) + 1)):
        return values
    count = header.counts[lead]
    whole = np.full(max(slots) * count, np.nan)
    for record, slot in enumerate(slots):
        whole[(slot - 1) * count : slot * count] = values[record * count : (record + 1) * count]
    return whole


def _slots(path: Path, header: _Header, starts: Sequence[float]) -> list[int]:
    """Where each data record stands, counted in records from 1."""
    if not header.is_interrupted or len(starts) != header.records:
        return list(range(1, header.records + 1))
    slots = [round((start - starts[0]) / header.seconds) + 1 for start in starts]
    if any(later <= earlier for earlier, later in itertools.pairwise(slots)):
        raise InputFileError(
            f"read {path}: expected data records one after the other, got some out of order; "
            "the file is damaged"
        )
    return slots


def _annotations(path: Path, header: _Header) -> tuple[list[float], tuple[Annotation, ...]]:
    """Starts of the data records in seconds, and annotations in order of time."""
    total = sum(header.counts) * header.width
    starts: list[float] = []
    marks: list[Annotation] = []
    places = [k for k in range(len(header.counts)) if header.is_annotation(k)]
    if not places:
        return starts, ()
    with path.open("rb") as file:
        for record in range(header.records):
            file.seek(header.size + record * total)
            content = file.read(total)
            for lead in places:
                begin = sum(header.counts[:lead]) * header.width
                lists = content[begin : begin + header.counts[lead] * header.width].split(b"\0")
                matches = [match for text in lists if (match := _TAL.fullmatch(text))]
                if lead == places[0] and matches:  # the time of the record itself
                    starts.append(float(matches[0][1]))
                marks += _marks(matches, starts[0] if starts else 0.0)
    return starts, tuple(sorted(marks, key=lambda mark: mark.seconds))


def _marks(matches: Sequence[re.Match[bytes]], offset: float) -> list[Annotation]:
    """Annotations of a data record; times count from the first record."""
    return [
        Annotation(round(float(match[1]) - offset, 9), _decode(word), float(match[2] or 0))
        for match in matches
        for word in match[3].split(b"\x14")
        if word
    ]


def _write_edf(path: Path, grid: Grid, **_: object) -> None:
    # Provenance goes into a sidecar: EDF has 80 characters for it.
    edfio = import_optional("edfio", f"write {path.name}")
    signal = signal_of(grid)
    known = signal.extra.get("header") if signal.format == "EDF" else None
    known = known if isinstance(known, _Header) else None
    values = grid.values[0].detach().cpu().double().numpy()
    check_no_gaps(values, "EDF")
    check_rate(grid, "EDF")
    bits = _BITS[path.suffix.lower()]
    if known is not None and known.width * 8 != bits:
        known = None
    leads = _leads(grid, values, known, bits)
    counts = [len(lead["digital"]) for lead in leads]
    position = signal.positions[0] if known is not None and signal.positions else 0
    records, seconds = _records(counts, values.shape[1], sampling_rate(grid), known, position)
    signal_class = edfio.EdfSignal if bits == 16 else edfio.BdfSignal
    signals = [
        signal_class.from_digital(
            lead["digital"],
            len(lead["digital"]) // records / seconds,
            label=_ascii(lead["label"], 16),
            transducer_type=_ascii(lead["transducer"], 80),
            physical_dimension=_ascii(lead["dimension"].replace("µ", "u"), 8),
            physical_range=lead["physical_range"],
            digital_range=lead["digital_range"],
            prefiltering=_ascii(lead["prefilter"], 80),
        )
        for lead in leads
    ]
    marks = [
        edfio.EdfAnnotation(
            mark.seconds, mark.duration or None, re.sub(r"[\x00-\x1f]", " ", mark.text)
        )
        for mark in signal.annotations
    ]
    start = signal.start
    plain = known is not None and not known.raw[192:196].strip()
    with silence_libraries():
        file = (edfio.Edf if bits == 16 else edfio.Bdf)(
            signals,
            starttime=None if start is None else start.time().replace(tzinfo=None),
            recording=edfio.Recording(startdate=_storable_date(start)),
            data_record_duration=seconds,
            annotations=None if plain and not marks else marks,
        )
        file.write(path)
    if known is not None:
        _restore_header(path, known, [lead["position"] for lead in leads])
    try:
        _read_header(path)  # edfio does not check that the disk took what it wrote
    except (InputFileError, ValueError) as error:
        raise OSError("not all of it was stored: the disk is full, or a limit was met") from error


def _storable_date(start: datetime | None) -> Any:
    """The date, if EDF can store it."""
    return start.date() if start is not None and 1985 <= start.year <= 2084 else None


def _ascii(text: str, length: int) -> str:
    plain = "".join(character if character.isprintable() else "?" for character in text)
    return plain.encode("ascii", "replace").decode("ascii")[:length]


def _restore_header(path: Path, known: _Header, positions: Sequence[int | None]) -> None:
    """Put back the patient, recording, start and texts of leads, byte by byte."""
    raw = known.raw
    with path.open("r+b") as file:
        file.seek(8)
        file.write(raw[8:184])
        count = int(_at(file, 252, 4))
        start = 256
        for name, width in _TEXT_FIELDS.items():
            if name == "prefilter":
                start += 8 * len(_RANGES) * count
            for row, position in enumerate(positions):
                if position is not None:
                    file.seek(start + row * width)
                    file.write(known.fields[name][position])
            start += width * count


def _at(file: Any, position: int, length: int) -> bytes:
    file.seek(position)
    content: bytes = file.read(length)
    return content


def _leads(
    grid: Grid, values: NDArray[Any], known: _Header | None, bits: int
) -> list[dict[str, Any]]:
    """Fields and digital samples of each lead, in the order of the file."""
    import numpy as np

    signal, units = signal_of(grid), value_units(grid)
    positions: list[int | None] = [None] * len(values)
    if known is not None and len(signal.positions) == len(values):
        positions = list(signal.positions)
    seconds = values.shape[1] / sampling_rate(grid)
    rows = [
        (position, name, unit, row)
        for position, name, unit, row in zip(positions, grid.channels, units, values, strict=True)
    ]
    for other in signal.others:
        if abs(len(other.values) / other.rate - seconds) * other.rate < 1:
            place = other.position if known is not None else None
            rows.append((place, other.name, other.unit, other.values))
    if None not in [position for position, *_ in rows]:
        rows.sort(key=lambda row: row[0] or 0)
    leads = []
    for position, name, unit, row in rows:
        header = _lead_header(known, position)
        check_no_gaps(row, "EDF")
        top = 2 ** (bits - 1)
        lowest = max(-top, int(header.get("digital_min", -top)))
        highest = min(top - 1, int(header.get("digital_max", top - 1)))
        if lowest == highest or header.get("physical_min") == header.get("physical_max", 1):
            lowest, highest, header = -top, top - 1, {**header, "physical_min": -top}
            header["physical_max"] = top - 1
        low, high = _range(row, header)
        step = (high - low) / (highest - lowest)
        codes = np.clip(np.rint((row - low) / step) + lowest, lowest, highest)
        leads.append(
            {
                "position": position,
                "label": name,
                "dimension": unit,
                "transducer": header.get("transducer", ""),
                "prefilter": header.get("prefilter", ""),
                "physical_range": (low, high),
                "digital_range": (min(lowest, highest), max(lowest, highest)),
                "digital": codes.astype(np.int16 if bits == 16 else np.int32),
            }
        )
    return leads


def _lead_header(known: _Header | None, position: int | None) -> dict[str, Any]:
    """Texts and ranges of a lead in the file that it came from."""
    if known is None or position is None:
        return {}
    texts = {name: known.text(name, position) for name in _TEXT_FIELDS}
    return {**texts, **{name: known.ranges[name][position] for name in _RANGES}}


def _records(
    counts: Sequence[int], count: int, rate: float, known: _Header | None, position: int
) -> tuple[int, float]:
    """Number of data records, and the seconds of one, so that each holds whole samples."""
    if known is not None and known.counts[position] * known.records == count:
        return known.records, known.seconds
    common = math.gcd(*counts)
    preferred = min(float(round(rate)) or 1.0, count)
    sizes = [
        count // records
        for records in range(1, common + 1)
        if common % records == 0
        and _SHORTEST * rate <= count // records <= min(_LARGEST_RECORD, _LONGEST * rate)
    ] or [count]

    def rounding(size: int) -> float:
        """How much a rate loses to the eight characters of a duration; a little is mended."""
        error = abs(_short(size / rate) * rate / size - 1)
        return error if error > _MENDED else 0.0

    size = min(sizes, key=lambda size: (rounding(size), abs(size - preferred)))
    return count // size, _short(size / rate)


def _short(value: float, up: bool | None = None) -> float:
    """The nearest number, or the nearest below or above, that fits eight characters."""
    for digits in range(8, 0, -1):
        unit = 10.0 ** (math.floor(math.log10(abs(value))) - digits + 1) if value else 1.0
        rounded = value / unit
        rounded = round(rounded) if up is None else (math.ceil if up else math.floor)(rounded)
        short = float(f"{rounded * unit:.{digits}g}")
        text = str(int(short)) if short.is_integer() else str(short)
        if len(text) <= 8:
            return short
    return value


def _range(values: Any, header: Mapping[str, Any]) -> tuple[float, float]:
    """A physical range that holds the values and fits eight characters of the header."""
    low, high = float(values.min()), float(values.max())
    if header:
        known = (float(header["physical_min"]), float(header["physical_max"]))
        if min(known) <= low and high <= max(known):
            return known
        low, high = min(low, *known), max(high, *known)
    low, high = _short(low, up=False), _short(high, up=True)
    return (low, high) if high > low else (low, _short(low + max(abs(low) * 1e-3, 1e-4), up=True))


FORMATS = tuple(
    Format(
        name=name,
        suffixes=(suffix,),
        spatial_dims=1,
        read=read_edf,
        write=_write_edf,
        unsupported_metadata=("time of the first sample",),
    )
    for name, suffix in (("EDF", ".edf"), ("BDF", ".bdf"))
)
