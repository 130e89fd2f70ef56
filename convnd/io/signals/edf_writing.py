"""Writing of EDF and BDF files."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.reading import import_optional
from convnd.io.signals.edf_header import RANGES, ROUNDING, TEXT_FIELDS, EdfHeader, read_header
from convnd.io.signals.signal import (
    check_no_gaps,
    check_rate,
    sampling_rate,
    signal_of,
    value_units,
)
from convnd.io.silence import silence_libraries

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["write_edf"]

_BITS = {".edf": 16, ".bdf": 24}
_LONGEST = 60.0  # s of a data record
_SHORTEST = 0.001
_LARGEST_RECORD = 30_000  # samples of a lead in a data record


def write_edf(path: Path, grid: Grid, **_: object) -> None:
    """Write EDF or BDF; the arguments are those of `convnd.io.registry.Writer`."""
    # Provenance goes into a sidecar: EDF has 80 characters for it.
    edfio = import_optional("edfio", f"write {path.name}")
    signal = signal_of(grid)
    source_header = signal.extra.get("header") if signal.format == "EDF" else None
    source_header = source_header if isinstance(source_header, EdfHeader) else None
    values = grid.values[0].detach().cpu().double().numpy()
    check_no_gaps(values, "EDF")
    check_rate(grid, "EDF")
    bits = _BITS[path.suffix.lower()]
    if source_header is not None and source_header.width * 8 != bits:
        source_header = None
    leads = _leads(grid, values, source_header, bits)
    counts = [len(lead["digital"]) for lead in leads]
    position = signal.positions[0] if source_header is not None and signal.positions else 0
    records, seconds = _records(
        counts, values.shape[1], sampling_rate(grid), source_header, position
    )
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
    plain = source_header is not None and not source_header.raw[192:196].strip()
    with silence_libraries():
        file = (edfio.Edf if bits == 16 else edfio.Bdf)(
            signals,
            starttime=None if start is None else start.time().replace(tzinfo=None),
            recording=edfio.Recording(startdate=_storable_date(start)),
            data_record_duration=seconds,
            annotations=None if plain and not marks else marks,
        )
        file.write(path)
    if source_header is not None:
        _restore_header(path, source_header, [lead["position"] for lead in leads])
    try:
        read_header(path)  # edfio does not check that the disk took what it wrote
    except (InputFileError, ValueError) as error:
        raise OSError("not all of it was stored: the disk is full, or a limit was met") from error


def _storable_date(start: datetime | None) -> Any:
    """The date, if EDF can store it."""
    return start.date() if start is not None and 1985 <= start.year <= 2084 else None


def _ascii(text: str, length: int) -> str:
    plain = "".join(character if character.isprintable() else "?" for character in text)
    return plain.encode("ascii", "replace").decode("ascii")[:length]


def _restore_header(path: Path, source_header: EdfHeader, positions: Sequence[int | None]) -> None:
    """Put back the patient, recording, start and texts of leads, byte by byte."""
    raw = source_header.raw
    with path.open("r+b") as file:
        file.seek(8)
        file.write(raw[8:184])
        count = int(_at(file, 252, 4))
        start = 256
        for name, width in TEXT_FIELDS.items():
            if name == "prefilter":
                start += 8 * len(RANGES) * count
            for row, position in enumerate(positions):
                if position is not None:
                    file.seek(start + row * width)
                    file.write(source_header.fields[name][position])
            start += width * count


def _at(file: Any, position: int, length: int) -> bytes:
    file.seek(position)
    content: bytes = file.read(length)
    return content


def _leads(
    grid: Grid, values: NDArray[Any], source_header: EdfHeader | None, bits: int
) -> list[dict[str, Any]]:
    """Fields and digital samples of each lead, in the order of the file."""
    import numpy as np

    signal, units = signal_of(grid), value_units(grid)
    positions: list[int | None] = [None] * len(values)
    if source_header is not None and len(signal.positions) == len(values):
        positions = list(signal.positions)
    seconds = values.shape[1] / sampling_rate(grid)
    rows = [
        (position, name, unit, row)
        for position, name, unit, row in zip(positions, grid.channels, units, values, strict=True)
    ]
    for other in signal.others:
        if abs(len(other.values) / other.rate - seconds) * other.rate < 1:
            place = other.position if source_header is not None else None
            rows.append((place, other.name, other.unit, other.values))
    if None not in [position for position, *_ in rows]:
        rows.sort(key=lambda row: row[0] or 0)
    leads = []
    for position, name, unit, row in rows:
        header = _lead_header(source_header, position)
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


def _lead_header(source_header: EdfHeader | None, position: int | None) -> dict[str, Any]:
    """Texts and ranges of a lead in the file that it came from."""
    if source_header is None or position is None:
        return {}
    texts = {name: source_header.text(name, position) for name in TEXT_FIELDS}
    return {**texts, **{name: source_header.ranges[name][position] for name in RANGES}}


def _records(
    counts: Sequence[int], count: int, rate: float, source_header: EdfHeader | None, position: int
) -> tuple[int, float]:
    """Number of data records, and the seconds of one, so that each holds whole samples."""
    if (
        source_header is not None
        and source_header.counts[position] * source_header.records == count
    ):
        return source_header.records, source_header.seconds
    common = math.gcd(*counts)
    preferred = min(float(round(rate)) or 1.0, count)
    sizes = [
        count // records
        for records in range(1, common + 1)
        if common % records == 0
        and _SHORTEST * rate <= count // records <= min(_LARGEST_RECORD, _LONGEST * rate)
    ] or [count]

    def rounding(size: int) -> float:
        """The error of a rate whose duration has eight characters; small errors are corrected."""
        error = abs(_short(size / rate) * rate / size - 1)
        return error if error > ROUNDING else 0.0

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
        source_range = (float(header["physical_min"]), float(header["physical_max"]))
        if min(source_range) <= low and high <= max(source_range):
            return source_range
        low, high = min(low, *source_range), max(high, *source_range)
    low, high = _short(low, up=False), _short(high, up=True)
    return (low, high) if high > low else (low, _short(low + max(abs(low) * 1e-3, 1e-4), up=True))
