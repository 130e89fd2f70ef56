"""Writing of WFDB records."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from convnd.io.atomic import temporary_folder
from convnd.io.reading import import_optional
from convnd.io.signals.signal import check_rate, sampling_rate, signal_of, value_units
from convnd.io.signals.wfdb_annotations import write_annotations
from convnd.io.silence import silence_libraries

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["write_wfdb"]

_LIMITS = {"16": 2**15 - 1, "32": 2**31 - 1}
_BLOCK = 2**20  # values that are written at once
_FINEST = 1e-4  # units: the smallest step for values that were not digital


class _Lead(NamedTuple):
    name: str
    unit: str
    values: NDArray[Any]
    step: float
    zero: int


def write_wfdb(path: Path, grid: Grid, *, provenance: Mapping[str, str], **_: object) -> None:
    """Write a record; the arguments are those of `convnd.io.registry.Writer`."""
    import numpy as np

    wfdb = import_optional("wfdb", f"write {path.name}")
    signal = signal_of(grid)
    rate = check_rate(grid, "WFDB")
    leads = _leads(grid)
    source_frames = signal.extra.get("frames", 0) if signal.format == "WFDB" else 0
    frames = math.gcd(*(len(lead.values) for lead in leads))
    lengths = {len(lead.values) for lead in leads}
    if source_frames and frames % source_frames == 0 and len(lengths) > 1:
        frames = source_frames
    per_frame = [len(lead.values) // frames for lead in leads]
    block = max(1, _BLOCK // sum(per_frame))

    def blocks() -> Iterator[list[NDArray[np.float64]]]:
        """Digital values of each lead, gaps as NaN."""
        for start in range(0, frames, block):
            yield [
                np.rint(lead.values[start * count : (start + block) * count] / lead.step)
                + lead.zero
                for lead, count in zip(leads, per_frame, strict=True)
            ]

    largest = max(
        float(np.abs(part[np.isfinite(part)]).max(initial=0))
        for parts in blocks()
        for part in parts
    )
    kind = next((kind for kind, limit in _LIMITS.items() if largest <= limit), "32")
    comments = list(signal.extra.get("comments", ())) if signal.format == "WFDB" else []
    # Headers are ASCII.
    comments += [f"{key}: {json.dumps(value)[1:-1]}" for key, value in provenance.items()]
    if signal.start is not None:
        times = {"base_time": signal.start.time(), "base_date": signal.start.date()}
    else:  # WFDB can store a time of day without a date
        times = {"base_time": signal.extra.get("time")}
    frame_rate = rate * frames / grid.shape[0]
    if math.isclose(frame_rate, round(frame_rate), rel_tol=1e-9):
        frame_rate = round(frame_rate)
    with silence_libraries():
        _write_blocks(
            wfdb,
            path,
            ([_digital(part, _LIMITS[kind]) for part in parts] for parts in blocks()),
            fs=frame_rate,
            units=[lead.unit or "NU" for lead in leads],
            sig_name=[lead.name for lead in leads],
            fmt=[kind] * len(leads),
            samps_per_frame=per_frame,
            adc_gain=[1 / lead.step for lead in leads],
            baseline=[lead.zero for lead in leads],
            comments=comments,
            **times,
        )
        if signal.annotations:
            write_annotations(path, signal, rate)


def _leads(grid: Grid) -> list[_Lead]:
    """The leads of the grid and those beside it that last as long, in the order of their file."""
    signal = signal_of(grid)
    values = grid.values[0].detach().cpu().numpy()  # (C, T)
    channels, length = values.shape
    steps = signal.steps if len(signal.steps) == channels else _steps(values)
    zeros = signal.zeros if len(signal.zeros) == channels else (0,) * channels
    source_positions = signal.positions if signal.format == "WFDB" else ()
    positions: Sequence[int] = (
        source_positions if len(source_positions) == channels else range(channels)
    )
    leads = [
        (position, _Lead(*fields))
        for position, *fields in zip(
            positions, grid.channels, value_units(grid), values.astype(float), steps, zeros,
            strict=True,
        )
    ]  # fmt: skip
    for other in signal.others:
        if abs(len(other.values) / other.rate * sampling_rate(grid) - length) < 1:
            step = other.step or _steps(other.values[None])[0]
            lead = _Lead(other.name, other.unit, other.values, step, other.zero)
            leads.append((other.position if source_positions else channels, lead))
    return [lead for _, lead in sorted(leads, key=lambda pair: pair[0])]


def _digital(values: NDArray[np.float64], limit: int) -> NDArray[np.int32]:
    """Round a block to whole numbers; gaps get the number that WFDB has for them."""
    import numpy as np

    finite = np.isfinite(values)
    return np.where(finite, np.clip(values, -limit, limit), -limit - 1).astype(np.int32)


def _write_blocks(
    wfdb: Any, path: Path, blocks: Iterable[Sequence[NDArray[np.int32]]], **header: Any
) -> None:
    """Write what `wfdb.wrsamp` would, which takes sixty bytes per value, in blocks."""
    import numpy as np

    record: Any = None
    length = 0
    sums = [0] * len(header["fmt"])
    with path.with_suffix(".dat").open("wb") as file, temporary_folder(path.parent) as folder:
        for block in blocks:
            part = wfdb.Record(record_name=path.stem, e_d_signal=list(block), **header)
            part.set_d_features(expanded=True)
            part.set_defaults()
            part.wr_dats(expanded=True, write_dir=folder)
            file.write(Path(folder, f"{path.stem}.dat").read_bytes())
            length += len(block[0]) // header["samps_per_frame"][0]
            sums = [total + new for total, new in zip(sums, part.checksum, strict=True)]
            record = part if record is None else record
    record.sig_len, record.checksum = length, [total % 2**16 for total in sums]
    framed = max(header["samps_per_frame"]) > 1
    if not framed:
        record.d_signal = np.stack(record.e_d_signal, 1)
    record.wrheader(write_dir=str(path.parent), expanded=framed)


def _steps(values: Any) -> tuple[float, ...]:
    """Return digital steps for values that were not digital; the largest value fits 32 bits."""
    import numpy as np

    largest = np.nan_to_num(np.abs(values)).max(axis=1)
    return tuple(max(_FINEST, float(value) / 2**30) for value in largest)
