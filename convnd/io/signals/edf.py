"""European Data Format: ``.edf`` (16 bits) and ``.bdf`` (24 bits), with annotations.

The grid holds the leads of the most common sampling rate (the higher one of a tie). `Signal.others`
keeps leads of other rates, which are written back unchanged. So are patient, recording, start time,
physical and digital ranges and annotations; a physical range widens if the result exceeds it.
Interrupted files (EDF+D) have gaps.

Headers are read leniently: many files have labels that are not ASCII, invalid dates and empty
ranges.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.reading import check_limit, import_optional, translate_errors
from convnd.io.registry import Format
from convnd.io.signals.edf_header import ROUNDING, EdfHeader, calibration, decode_text, read_header
from convnd.io.signals.edf_writing import write_edf
from convnd.io.signals.limits import check_held, check_samples
from convnd.io.signals.signal import Annotation, OtherLead, Signal, signal_grid
from convnd.io.silence import silence_libraries

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["FORMATS", "read_edf"]

_MOST_MARKS = 2**18  # each takes two bytes of a file and four hundred of memory
_TAL = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15(\d*(?:\.\d*)?))?\x14(.*)", re.DOTALL)


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
        header = read_header(path)
        leads = header.leads()
        if not leads or not header.seconds > 0:
            raise InputFileError(
                f"read {path}", expected="signals", got="none", remedy="check the file"
            )
        starts, marks = _annotations(path, header)
        slots = _slots(path, header, starts)
        size = max(slots) * sum(header.counts[k] for k in leads)
        check_samples(path, size, max_pixels)
        check_held(path, size, path.stat().st_size)  # an interrupted file has gaps
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
            steps=tuple(abs(calibration(header, k)[0]) for k in chosen),
            others=tuple(
                OtherLead(
                    name=header.text("label", k) or str(k),
                    unit=header.text("dimension", k),
                    rate=_rate(header.counts[k], header.seconds),
                    position=k,
                    values=values[k],
                    step=abs(calibration(header, k)[0]),
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


def _start(file: Any) -> datetime | None:
    """Return the start; None for an anonymous or invalid date."""
    try:
        start = file.startdatetime
    except (ValueError, OverflowError, IndexError):  # the last of damaged annotations
        return None
    return start if isinstance(start, datetime) else None


def _rate(count: int, seconds: float) -> float:
    """Return the samples per second, as a whole number if the rounded duration allows one."""
    rate = count / seconds
    whole = float(round(rate))
    return whole if whole and abs(count / whole - seconds) <= ROUNDING * seconds else rate


def _physical(
    header: EdfHeader, lead: int, digital: NDArray[Any], slots: Sequence[int]
) -> NDArray[Any]:
    """Values of a lead, with gaps where records are missing."""
    import numpy as np

    step, zero = calibration(header, lead)
    values = digital.astype(np.float64) * step + zero
    if list(slots) == list(range(1, len(slots) + 1)):
        return values
    count = header.counts[lead]
    whole = np.full(max(slots) * count, np.nan)
    for record, slot in enumerate(slots):
        whole[(slot - 1) * count : slot * count] = values[record * count : (record + 1) * count]
    return whole


def _slots(path: Path, header: EdfHeader, starts: Sequence[float]) -> list[int]:
    """The position of each data record, counted in records from 1."""
    if not header.is_interrupted or len(starts) != header.records:
        return list(range(1, header.records + 1))
    slots = [round((start - starts[0]) / header.seconds) + 1 for start in starts]
    if any(later <= earlier for earlier, later in itertools.pairwise(slots)):
        raise InputFileError(
            f"read {path}",
            expected="data records one after the other",
            got="some out of order",
            remedy="the file is damaged",
        )
    return slots


def _annotations(path: Path, header: EdfHeader) -> tuple[list[float], tuple[Annotation, ...]]:
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
                texts = content[begin : begin + header.counts[lead] * header.width]
                count = texts.count(b"\x14") // 4  # two stand behind each text
                check_limit(path, count, _MOST_MARKS, "annotations", "remove some")
                lists = texts.split(b"\0")
                matches = [match for text in lists if (match := _TAL.fullmatch(text))]
                if lead == places[0] and matches:  # the time of the record itself
                    starts.append(float(matches[0][1]))
                marks += _marks(matches, starts[0] if starts else 0.0)
                check_limit(path, len(marks), _MOST_MARKS, "annotations", "remove some")
    return starts, tuple(sorted(marks, key=lambda mark: mark.seconds))


def _marks(matches: Sequence[re.Match[bytes]], offset: float) -> list[Annotation]:
    """Annotations of a data record; times count from the first record."""
    return [
        Annotation(round(float(match[1]) - offset, 9), decode_text(word), float(match[2] or 0))
        for match in matches
        for word in match[3].split(b"\x14")
        if word
    ]


FORMATS = tuple(
    Format(
        name=name,
        suffixes=(suffix,),
        spatial_dims=1,
        read=read_edf,
        write=write_edf,
        unsupported_metadata=("time of the first sample",),
    )
    for name, suffix in (("EDF", ".edf"), ("BDF", ".bdf"))
)
