"""WFDB records (PhysioNet): ``.hea`` with its signal files, and beats in ``.atr``.

A record is several files; it goes by the name of its header. Gain, zero, units, start time,
comments and annotations come back; the signal is written as one ``.dat`` in the record's own
digital steps, in 16 bits or, where the result goes beyond them, in 32.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.provenance import is_provenance
from convnd.io.reading import check_file, import_optional, translate_errors
from convnd.io.registry import Format
from convnd.io.signals.signal import (
    Annotation,
    Signal,
    check_samples,
    sampling_rate,
    signal_grid,
    signal_of,
    value_units,
)
from convnd.io.silence import silence_libraries

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["FORMATS", "read_wfdb"]

_ANNOTATOR = "atr"
_LIMITS = {"16": 2**15 - 1, "32": 2**31 - 1}
_BLOCK = 2**20  # values that are written at once
_DEFINITIONS = (
    ("r", rb"## time resolution: \d+(\.\d*)?"),
    ("b", b"## annotation type definitions"),
    ("e", b"## end of definitions"),
)
_LARGEST_HEADER = 2**20
_LARGEST_ANNOTATIONS = 2**21  # at least two bytes for each, which become four hundred
_MOST_SIGNALS, _MOST_SEGMENTS = 4096, 10_000  # wfdb takes milliseconds for each
# Gaps between segments and flat signals in FLAC take no room in files. So many samples may have any
# record (a day of one flat signal), and so many more for each byte of its files.
_FREE, _PACKED = 2**24, 16
_UNLISTED = 64  # signals of a multi-segment record that its own header does not list
_FINEST = 1e-4  # units: the smallest step for values that were not digital


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
        if not header.n_sig or not header.sig_len:
            raise InputFileError(
                f"read {path}: expected signals, got a header that names none; check the record"
            )
        headers = [header]
        for file in dict.fromkeys(getattr(header, "seg_name", ())):
            if file != "~":
                _check_text(_check_beside(path, f"{file}.hea"))
                headers.append(wfdb.rdheader(str(path.with_name(file))))
        names = {name for part in headers for name in getattr(part, "file_name", None) or ()}
        files = [_check_beside(path, name) for name in names - {"~"}]
        length = sum(file.stat().st_size for file in files)
        for part in headers:
            _check_size(path, part, max_pixels, length)
        record = wfdb.rdrecord(name)
        annotations = _annotations(wfdb, path, name, float(record.fs))
        gains = [float(gain) for gain in record.adc_gain or ()]
        signal = Signal(
            units=tuple(unit or "" for unit in record.units),
            start=record.base_datetime,
            annotations=annotations,
            steps=tuple(1 / gain for gain in gains) if gains and min(gains) > 0 else (),
            zeros=tuple(int(zero) for zero in record.baseline or ()),
            extra={
                "comments": [
                    each for each in record.comments or () if not is_provenance(*_entry(each))
                ],
                "time": record.base_time,
            },
            format="WFDB",
        )
        names = record.sig_name or [""] * record.n_sig
        return signal_grid(path, record.p_signal.T, float(record.fs), names, signal)


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
            f"read {path}: expected a header of as many lines as it says, got {len(lines)}; "
            "the file is damaged"
        )
    if words[2:3] and re.match(rb"\.?\d", words[2]) is None:
        raise InputFileError(
            f"read {path}: expected a positive finite sampling rate, got "
            f"{words[2][:20].decode('ascii', 'replace')}; correct the header"
        )


def _check_size(path: Path, header: Any, max_samples: int | None, held: int) -> None:
    """Refuse more samples than allowed, and shifts between signals longer than the record.

    wfdb reads every sample of a frame and shifts signals before it looks at the result.

    Args:
        path: the record, for messages.
        header: of the record, or of a segment.
        max_samples: see `check_samples`.
        held: length of all files of signals, in bytes.
    """
    length = int(header.sig_len or 0)
    per_frame = getattr(header, "samps_per_frame", None) or [1] * int(header.n_sig or 0)
    samples = length * sum(int(count or 1) for count in per_frame)
    check_samples(path, samples, max_samples)
    if samples > _FREE + _PACKED * held:
        raise InputFileError(
            f"read {path}",
            expected=f"at most {_FREE + _PACKED * held:,} samples for the length of its files",
            got=f"{samples:,}",
            remedy="copy the whole record, or convert it to another format",
        )
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
            f"read {path}: expected the file {name} beside it, which it names, got none; "
            "copy the whole record"
        )
    return file


def _check_notes(path: Path) -> None:
    """Refuse notes that look like incomplete definitions: wfdb would never stop reading them."""
    with path.open("rb") as file:
        content = file.read(_LARGEST_ANNOTATIONS + 1)
    if len(content) > _LARGEST_ANNOTATIONS:
        raise InputFileError(
            f"read {path}",
            expected=f"at most {_LARGEST_ANNOTATIONS:,} bytes of annotations",
            got="more",
            remedy="remove or split them",
        )
    kinds = ""
    for note in re.finditer(rb"(.)\xfc(?=## )", content, re.DOTALL):  # its length, "a note"
        text = content[note.end() :][: note[1][0]].rstrip(b"\0")
        kinds += next((name for name, form in _DEFINITIONS if re.fullmatch(form, text)), "?")
    if not re.fullmatch("r?(be)?|ber", kinds):
        raise InputFileError(
            f"read {path}: expected definitions that are complete, got other notes that begin "
            "with '## '; remove the annotations or correct them"
        )


def _annotations(wfdb: Any, path: Path, name: str, rate: float) -> tuple[Annotation, ...]:
    if not path.with_suffix(f".{_ANNOTATOR}").is_file():
        return ()
    _check_notes(path.with_suffix(f".{_ANNOTATOR}"))
    marks = wfdb.rdann(name, _ANNOTATOR)
    return tuple(
        Annotation(
            seconds=float(sample) / float(marks.fs or rate),
            text=symbol,
            detail={"aux": aux, "subtype": int(sub), "channel": int(channel), "number": int(num)},
        )
        for sample, symbol, aux, sub, channel, num in zip(
            marks.sample, marks.symbol, marks.aux_note, marks.subtype, marks.chan, marks.num,
            strict=True,
        )
    )  # fmt: skip


def _write_wfdb(path: Path, grid: Grid, *, provenance: Mapping[str, str], **_: object) -> None:
    import numpy as np

    wfdb = import_optional("wfdb", f"write {path.name}")
    signal = signal_of(grid)
    values = grid.values[0].detach().cpu().numpy()  # (C, T)
    channels, length = values.shape
    steps = signal.steps if len(signal.steps) == channels else _steps(values)
    zeros = signal.zeros if len(signal.zeros) == channels else (0,) * channels
    block = max(1, _BLOCK // channels)

    def blocks() -> Iterator[NDArray[np.float64]]:
        """Digital values ``(T', C)``, gaps as NaN."""
        for start in range(0, length, block):
            part = values[:, start : start + block].T.astype(np.float64)
            yield np.rint(part / steps) + zeros

    largest = max(float(np.abs(part[np.isfinite(part)]).max(initial=0)) for part in blocks())
    kind = next((kind for kind, limit in _LIMITS.items() if largest <= limit), "32")
    comments = list(signal.extra.get("comments", ())) if signal.format == "WFDB" else []
    # Headers are ASCII.
    comments += [f"{key}: {json.dumps(value)[1:-1]}" for key, value in provenance.items()]
    if signal.start is not None:
        times = {"base_time": signal.start.time(), "base_date": signal.start.date()}
    else:  # WFDB can store a time of day without a date
        times = {"base_time": signal.extra.get("time")}
    rate = sampling_rate(grid)
    with silence_libraries():
        _write_blocks(
            wfdb,
            path,
            (_digital(part, _LIMITS[kind]) for part in blocks()),
            fs=int(rate) if rate == int(rate) else rate,
            units=[unit or "NU" for unit in value_units(grid)],
            sig_name=list(grid.channels),
            fmt=[kind] * channels,
            adc_gain=[1 / step for step in steps],
            baseline=list(zeros),
            comments=comments,
            **times,
        )
        if signal.annotations:
            _write_annotations(wfdb, path, signal, rate)


def _digital(values: NDArray[np.float64], limit: int) -> NDArray[np.int32]:
    """Round a block to whole numbers; gaps get the number that WFDB has for them."""
    import numpy as np

    finite = np.isfinite(values)
    return np.where(finite, np.clip(values, -limit, limit), -limit - 1).astype(np.int32)


def _write_blocks(
    wfdb: Any, path: Path, blocks: Iterable[NDArray[np.int32]], **header: Any
) -> None:
    """Write what `wfdb.wrsamp` would, which takes sixty bytes per value, in blocks."""
    record: Any = None
    length = 0
    sums = [0] * len(header["fmt"])
    with (
        path.with_suffix(".dat").open("wb") as file,
        tempfile.TemporaryDirectory(dir=path.parent) as folder,
    ):
        for block in blocks:
            part = wfdb.Record(record_name=path.stem, d_signal=block, **header)
            part.set_d_features()
            part.set_defaults()
            part.wr_dats(expanded=False, write_dir=folder)
            file.write(Path(folder, f"{path.stem}.dat").read_bytes())
            length += len(block)
            sums = [total + new for total, new in zip(sums, part.checksum, strict=True)]
            record = part if record is None else record
    record.sig_len, record.checksum = length, [total % 2**16 for total in sums]
    record.wrheader(write_dir=str(path.parent), expanded=False)


def _steps(values: Any) -> tuple[float, ...]:
    """Return digital steps for values that were not digital; the largest value fits 32 bits."""
    import numpy as np

    largest = np.nanmax(np.abs(values), axis=1)
    return tuple(max(_FINEST, float(value) / 2**30) for value in largest)


def _write_annotations(wfdb: Any, path: Path, signal: Signal, rate: float) -> None:
    import numpy as np

    marks = sorted(signal.annotations, key=lambda mark: mark.seconds)
    from_wfdb = all("aux" in mark.detail for mark in marks)
    wfdb.wrann(
        path.stem,
        _ANNOTATOR,
        np.array([round(mark.seconds * rate) for mark in marks]),
        # Annotations of other formats are words, which go into a note.
        symbol=[mark.text if from_wfdb else '"' for mark in marks],
        aux_note=[str(mark.detail["aux"]) if from_wfdb else mark.text for mark in marks],
        subtype=np.array([mark.detail.get("subtype", 0) for mark in marks]),
        chan=np.array([mark.detail.get("channel", 0) for mark in marks]),
        num=np.array([mark.detail.get("number", 0) for mark in marks]),
        fs=rate,
        write_dir=str(path.parent),
    )


FORMATS = (
    Format(
        name="WFDB",
        suffixes=(".hea",),
        spatial_dims=1,
        read=read_wfdb,
        write=_write_wfdb,
        companions=(".dat", f".{_ANNOTATOR}"),
        unsupported_metadata=("time of the first sample", "durations of annotations"),
        read_provenance=_read_provenance,
    ),
)
