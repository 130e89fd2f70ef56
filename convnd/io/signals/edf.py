"""European Data Format: ``.edf`` (16 bits) and ``.bdf`` (24 bits), with annotations.

Channels of one sampling rate become the grid: the rate that most channels have (of equals, the
higher). Channels of other rates are kept as they are and written back beside the result. Patient,
recording, start time, physical and digital ranges and annotations come back; a physical range
widens when the result goes beyond it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError, UsageError
from convnd.io.reading import translate_errors
from convnd.io.registry import Format
from convnd.io.signals.signal import (
    Annotation,
    Signal,
    check_samples,
    import_optional,
    sampling_rate,
    signal_grid,
    signal_of,
    value_units,
)
from convnd.io.silence import silence_libraries

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["FORMATS", "read_edf"]

_BITS = {".edf": 16, ".bdf": 24}
_LONGEST = 60.0  # s of a data record
_SHORTEST = 0.001
_UNKNOWN = datetime(1985, 1, 1)  # the first that EDF can say, which stands for none


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
    pyedflib = import_optional("pyedflib", f"read {path}")
    with translate_errors(path, "an EDF or BDF file"):
        _check_size(path)
        with pyedflib.EdfReader(str(path)) as file:
            counts = [int(count) for count in file.getNSamples()]
            if not counts or min(counts) < 1:
                raise InputFileError(f"read {path}: expected signals, got none; check the file")
            check_samples(path, sum(counts), max_pixels)
            headers = file.getSignalHeaders()
            often = Counter(counts)
            chosen = max(often, key=lambda count: (often[count], count))
            kept = [index for index, count in enumerate(counts) if count == chosen]
            others = {
                index: file.readSignal(index, digital=True)
                for index in range(len(counts))
                if index not in kept
            }
            seconds = float(file.getFileDuration())
            record = float(file.datarecord_duration)
            if file.datarecords_in_file * record > 0:
                seconds = file.datarecords_in_file * record
            import numpy as np

            samples = np.stack([file.readSignal(index) for index in kept])
            marks = zip(*file.readAnnotations(), strict=True)
            ranges = [headers[index] for index in kept]
            steps = [
                (each["physical_max"] - each["physical_min"])
                / (each["digital_max"] - each["digital_min"])
                for each in ranges
            ]
            signal = Signal(
                units=tuple(each["dimension"].strip() for each in ranges),
                start=file.getStartdatetime(),
                annotations=tuple(
                    Annotation(float(onset), str(text), max(0.0, float(duration)))
                    for onset, duration, text in marks
                ),
                steps=tuple(abs(step) for step in steps),
                extra={
                    "header": file.getHeader(),
                    "signals": headers,
                    "kept": kept,
                    "others": others,
                    "seconds": seconds,
                    "record": record,
                    "count": chosen,
                },
                format="EDF",
            )
        names = [each["label"] for each in ranges]
        return signal_grid(path, samples, chosen / seconds, names, signal)


def _check_size(path: Path) -> None:
    """Compare what the header declares with the file, which says more than the library does."""
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
    at = channels * (16 + 80 + 8 * 5 + 80)
    each = [int(rest[at + 8 * k : at + 8 * k + 8]) for k in range(channels)]
    width = 3 if header[:1] == b"\xff" else 2
    expected = size + records * sum(each) * width
    have = path.stat().st_size
    if records >= 0 and have < expected:
        raise InputFileError(
            f"read {path}: expected {records} data records, {expected:,} bytes, got {have:,}; the "
            "file is cut short"
        )


def _write_edf(
    path: Path,
    grid: Grid,
    *,
    provenance: Mapping[str, str],  # noqa: ARG001 - of 80 characters there: `write` puts it beside
    quality: int | None,  # noqa: ARG001
) -> None:
    import numpy as np

    pyedflib = import_optional("pyedflib", f"write {path.name}")
    signal = signal_of(grid)
    known = dict(signal.extra) if signal.format == "EDF" else {}
    values = grid.values[0].detach().cpu().double().numpy()
    if not np.isfinite(values).all():
        raise UsageError(
            "write: expected a recording without gaps for EDF, which knows none, got some; choose "
            "another output, .hea, .csv or .npz"
        )
    bits = _BITS[path.suffix.lower()]
    count, rate = values.shape[1], sampling_rate(grid)
    headers, kept = known.get("signals", []), known.get("kept", [])
    if not headers or len(kept) != len(values):
        headers, kept = [{} for _ in values], list(range(len(values)))
    same = known.get("count") == count
    record_seconds = known["record"] if same else _record(count, rate)
    others = known.get("others", {}) if same else {}
    order = sorted([*kept, *others]) if same else kept
    units = value_units(grid)
    top = 2 ** (bits - 1)
    channels, samples = [], []
    for index in order:
        before = headers[index]
        lowest = max(-top, int(before.get("digital_min", -top)))
        highest = min(top - 1, int(before.get("digital_max", top - 1)))
        if index in others:
            frequency = len(others[index]) / known["seconds"]
            channels.append({**before, "sample_frequency": frequency})
            samples.append(others[index].astype(np.int32))
            continue
        row = kept.index(index)
        low, high = _range(values[row], before)
        step = (high - low) / (highest - lowest)
        whole = np.clip(np.rint((values[row] - low) / step) + lowest, lowest, highest)
        samples.append(whole.astype(np.int32))
        channels.append(
            {
                "label": grid.channels[row][:16],
                "dimension": units[row].replace("µ", "u")[:8],
                "transducer": before.get("transducer", ""),
                "prefilter": before.get("prefilter", ""),
                "physical_min": low,
                "physical_max": high,
                "digital_min": lowest,
                "digital_max": highest,
                "sample_frequency": rate,
            }
        )
    kind = pyedflib.FILETYPE_EDFPLUS if bits == 16 else pyedflib.FILETYPE_BDFPLUS
    # It warns that a duration was chosen by us.
    with silence_libraries(), pyedflib.EdfWriter(str(path), len(channels), kind) as file:
        if known.get("header"):
            file.setHeader(known["header"])
        # Without a start the library would take the present time, and no two files were alike.
        file.setStartdatetime((signal.start or _UNKNOWN).replace(tzinfo=None))
        file.setDatarecordDuration(record_seconds)
        file.setSignalHeaders(channels)
        file.writeSamples(samples, digital=True)
        for mark in signal.annotations:
            file.writeAnnotation(mark.seconds, mark.duration or -1, mark.text)
    try:
        _check_size(path)  # the library does not look whether the disk takes what it writes
    except (InputFileError, ValueError) as error:
        raise OSError("not all of it was stored: the disk is full, or a limit was met") from error


def _record(count: int, rate: float) -> float:
    """Seconds of a data record that the samples fill without rest, if there is one."""
    best = min(float(round(rate)) or 1.0, count)
    whole = [
        size
        for size in range(1, min(count, int(_LONGEST * rate)) + 1)
        if count % size == 0 and _SHORTEST * rate <= size and size <= 30_000
    ]
    size = min(whole, key=lambda each: abs(each - best), default=best)
    return min(_LONGEST, max(_SHORTEST, size / rate))


def _range(values: Any, before: Mapping[str, Any]) -> tuple[float, float]:
    """The physical range, wide enough for the values and for eight characters in the header."""
    low, high = float(values.min()), float(values.max())
    if before:
        known = sorted((float(before["physical_min"]), float(before["physical_max"])))
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
