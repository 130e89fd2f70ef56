"""European Data Format: ``.edf`` (16 bits) and ``.bdf`` (24 bits), with annotations.

The channels of one sampling rate become the grid: the rate that most channels have (of equals, the
higher). Channels of other rates are written back unchanged. Patient, recording, start time,
physical and digital ranges and annotations come back; a physical range widens if the result exceeds
it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.reading import import_optional, translate_errors
from convnd.io.registry import Format
from convnd.io.signals.signal import (
    Annotation,
    Signal,
    check_no_gaps,
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
_UNKNOWN = datetime(1985, 1, 1)  # the earliest date that EDF can store; stands for none


def read_edf(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read an EDF or BDF file.

    Args:
        path: an existing file.
        max_pixels: largest number of samples over all channels.

    Returns:
        Values ``(1, C, T)`` in the file's units.

    Raises:
        InputFileError: damaged, a data record is cut short, or too large.
        DependencyError: pyedflib is missing.
    """
    import numpy as np

    pyedflib = import_optional("pyedflib", f"read {path}")
    with translate_errors(path, "an EDF or BDF file"):
        _check_size(path)
        with pyedflib.EdfReader(str(path)) as file:
            counts = [int(count) for count in file.getNSamples()]
            if not counts or min(counts) < 1:
                raise InputFileError(f"read {path}: expected signals, got none; check the file")
            check_samples(path, sum(counts), max_pixels)
            frequency = Counter(counts)
            count = max(frequency, key=lambda count: (frequency[count], count))
            channels = [index for index in range(len(counts)) if counts[index] == count]
            samples = np.stack([file.readSignal(index) for index in channels])
            seconds = float(file.getFileDuration())
            record_seconds = float(file.datarecord_duration)
            if file.datarecords_in_file * record_seconds > 0:
                seconds = file.datarecords_in_file * record_seconds
            headers = file.getSignalHeaders()
            others = {
                index: file.readSignal(index, digital=True)
                for index in range(len(counts))
                if index not in channels
            }
            extra = {
                "header": file.getHeader(),
                "signals": headers,
                "channels": channels,
                "others": others,
                "seconds": seconds,
                "record_seconds": record_seconds,
                "count": count,
            }
            signal = _signal(file, [headers[index] for index in channels], extra)
        names = [headers[index]["label"] for index in channels]
        return signal_grid(path, samples, count / seconds, names, signal)


def _signal(file: Any, headers: list[Mapping[str, Any]], extra: Mapping[str, Any]) -> Signal:
    """Return units, start, annotations and digital steps of the channels with these headers."""
    steps = [
        (header["physical_max"] - header["physical_min"])
        / (header["digital_max"] - header["digital_min"])
        for header in headers
    ]
    return Signal(
        units=tuple(header["dimension"].strip() for header in headers),
        start=file.getStartdatetime(),
        annotations=tuple(
            Annotation(float(onset), str(text), max(0.0, float(duration)))
            for onset, duration, text in zip(*file.readAnnotations(), strict=True)
        ),
        steps=tuple(abs(step) for step in steps),
        extra=extra,
        format="EDF",
    )


def _check_size(path: Path) -> None:
    """Compare the length of the file with what its header declares; pyedflib's errors say less."""
    with path.open("rb") as file:
        header = file.read(256)
        if header[:8] != b"0       " and header[:8] != b"\xffBIOSEMI":
            raise InputFileError(
                f"read {path}: expected an EDF or BDF header, got other content; check the file"
            )
        size, records, channels = (
            int(header[first:last]) for first, last in ((184, 192), (236, 244), (252, 256))
        )
        rest = file.read(size - 256)
    duration = float(header[244:252])
    if not 0 <= duration < math.inf:
        raise InputFileError(
            f"read {path}: expected a duration of data records, got {duration:g}; correct the "
            "header"
        )
    start = channels * (16 + 80 + 8 * 5 + 80)
    counts = [int(rest[start + 8 * k : start + 8 * k + 8]) for k in range(channels)]
    width = 3 if header[:1] == b"\xff" else 2
    expected = size + records * sum(counts) * width
    length = path.stat().st_size
    if records >= 0 and length < expected:
        raise InputFileError(
            f"read {path}: expected {records} data records, {expected:,} bytes, got {length:,}; "
            "the file is cut short"
        )


def _write_edf(path: Path, grid: Grid, **_: object) -> None:
    # Provenance goes into a sidecar: EDF has 80 characters for it.

    pyedflib = import_optional("pyedflib", f"write {path.name}")
    signal = signal_of(grid)
    known = dict(signal.extra) if signal.format == "EDF" else {}
    values = grid.values[0].detach().cpu().double().numpy()
    check_no_gaps(values, "EDF")
    bits = _BITS[path.suffix.lower()]
    channels, samples, record_seconds = _channels(grid, values, known, bits)
    kind = pyedflib.FILETYPE_EDFPLUS if bits == 16 else pyedflib.FILETYPE_BDFPLUS
    # pyedflib warns that the duration of a data record was set.
    with silence_libraries(), pyedflib.EdfWriter(str(path), len(channels), kind) as file:
        if known.get("header"):
            file.setHeader(known["header"])
        # Without a start, pyedflib would store the present time, and no two files would be alike.
        file.setStartdatetime((signal.start or _UNKNOWN).replace(tzinfo=None))
        file.setDatarecordDuration(record_seconds)
        file.setSignalHeaders(channels)
        file.writeSamples(samples, digital=True)
        for mark in signal.annotations:
            file.writeAnnotation(mark.seconds, mark.duration or -1, mark.text)
    try:
        _check_size(path)  # pyedflib does not check that the disk took what it wrote
    except (InputFileError, ValueError) as error:
        raise OSError("not all of it was stored: the disk is full, or a limit was met") from error


def _channels(
    grid: Grid, values: NDArray[Any], known: Mapping[str, Any], bits: int
) -> tuple[list[dict[str, Any]], list[NDArray[Any]], float]:
    """Return header and digital samples of each channel, and the seconds of a data record.

    Channels of other rates come back if the result has as many samples as the file.
    """
    import numpy as np

    count, rate = values.shape[1], sampling_rate(grid)
    headers, channels = known.get("signals", []), known.get("channels", [])
    if not headers or len(channels) != len(values):
        headers, channels = [{} for _ in values], list(range(len(values)))
    is_same_length = known.get("count") == count
    others = known.get("others", {}) if is_same_length else {}
    top = 2 ** (bits - 1)
    units = value_units(grid)
    written: list[dict[str, Any]] = []
    samples = []
    for index in sorted([*channels, *others]) if is_same_length else channels:
        header = headers[index]
        if index in others:
            frequency = len(others[index]) / known["seconds"]
            written.append({**header, "sample_frequency": frequency})
            samples.append(others[index].astype(np.int32))
            continue
        lowest = max(-top, int(header.get("digital_min", -top)))
        highest = min(top - 1, int(header.get("digital_max", top - 1)))
        row = channels.index(index)
        low, high = _range(values[row], header)
        step = (high - low) / (highest - lowest)
        codes = np.clip(np.rint((values[row] - low) / step) + lowest, lowest, highest)
        samples.append(codes.astype(np.int32))
        written.append(
            {
                "label": grid.channels[row][:16],
                "dimension": units[row].replace("µ", "u")[:8],
                "transducer": header.get("transducer", ""),
                "prefilter": header.get("prefilter", ""),
                "physical_min": low,
                "physical_max": high,
                "digital_min": lowest,
                "digital_max": highest,
                "sample_frequency": rate,
            }
        )
    seconds = known["record_seconds"] if is_same_length else _record_seconds(count, rate)
    return written, samples, seconds


def _record_seconds(count: int, rate: float) -> float:
    """Return the seconds of a data record that divides the samples, if there is one."""
    preferred = min(float(round(rate)) or 1.0, count)
    divisors = [
        size
        for size in range(1, min(count, int(_LONGEST * rate)) + 1)
        if count % size == 0 and _SHORTEST * rate <= size and size <= 30_000
    ]
    size = min(divisors, key=lambda size: abs(size - preferred), default=preferred)
    return min(_LONGEST, max(_SHORTEST, size / rate))


def _range(values: Any, header: Mapping[str, Any]) -> tuple[float, float]:
    """Return a physical range that holds the values and fits eight characters of the header."""
    low, high = float(values.min()), float(values.max())
    if header:
        known = sorted((float(header["physical_min"]), float(header["physical_max"])))
        if known[0] <= low and high <= known[1]:
            return known[0], known[1]
        low, high = min(low, known[0]), max(high, known[1])
    digits = 4
    unit = 10.0 ** (math.floor(math.log10(max(abs(low), abs(high), 1e-6))) - digits + 1)
    low, high = math.floor(low / unit) * unit, math.ceil(high / unit) * unit
    return float(f"{low:.5g}"), float(f"{high if high > low else low + unit:.5g}")


FORMATS = tuple(
    Format(name=name, suffixes=(suffix,), spatial_dims=1, read=read_edf, write=_write_edf)
    for name, suffix in (("EDF", ".edf"), ("BDF", ".bdf"))
)
