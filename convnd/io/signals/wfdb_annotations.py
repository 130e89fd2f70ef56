"""Annotations of WFDB records: codes of beats, and notes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from convnd.errors import InputFileError
from convnd.io.reading import check_partner, import_optional
from convnd.io.signals.signal import Annotation, Signal

__all__ = ["ANNOTATOR", "LONGEST_NOTE", "read_annotations", "write_annotations"]

ANNOTATOR = "atr"
"""Suffix of the reference annotations."""

LONGEST_NOTE = 255
"""Characters of a note."""

_NOTE = '"'
_LARGEST = 2**21  # bytes of annotations: two at least for each, which become four hundred
_FURTHEST = 2**31 - 1  # ticks from one annotation to the next
_TICKS = (1_000, 10_000, 100_000, 1_000_000)  # a second, for times that are no samples
_DEFINITIONS = (
    ("r", rb"## time resolution: \d+(\.\d*)?"),
    ("b", b"## annotation type definitions"),
    ("e", b"## end of definitions"),
)


def _check_notes(path: Path) -> None:
    """Refuse notes that look like incomplete definitions: wfdb would never stop reading them."""
    with path.open("rb") as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise InputFileError(
            f"read {path}",
            expected=f"at most {_LARGEST:,} bytes of annotations",
            got="more",
            remedy="remove or split them",
        )
    kinds = ""
    for note in re.finditer(rb"(.)\xfc(?=## )", content, re.DOTALL):  # its length, "a note"
        text = content[note.end() :][: note[1][0]].rstrip(b"\0")
        kinds += next((name for name, form in _DEFINITIONS if re.fullmatch(form, text)), "?")
    if not re.fullmatch("r?(be)?|ber", kinds):
        raise InputFileError(
            f"read {path}",
            expected="definitions that are complete",
            got="other notes that begin with '## '",
            remedy="remove the annotations or correct them",
        )


def read_annotations(path: Path, rate: float) -> tuple[Annotation, ...]:
    """Read the reference annotations of a record, if it has some.

    The text of an annotation is the code of a beat ("N", "V"), followed by a space and its note if
    there is one. The text of a mere note is the note.

    Args:
        path: the header of the record.
        rate: frames per second.
    """
    file = path.with_suffix(f".{ANNOTATOR}")
    if file.is_file() and file.stat().st_size:
        check_partner(path, file)
    if not file.is_file():
        return ()
    _check_notes(file)
    wfdb = import_optional("wfdb", f"read {path}")
    marks = wfdb.rdann(str(path.with_suffix("")), ANNOTATOR)
    ticks = float(marks.fs or rate)
    return tuple(
        Annotation(
            seconds=float(sample) / ticks,
            text=aux if symbol == _NOTE and aux else f"{symbol} {aux}".strip(),
            detail={
                "symbol": symbol, "aux": aux, "subtype": int(subtype), "channel": int(channel),
                "number": int(number), "ticks": ticks,
            },
        )
        for sample, symbol, aux, subtype, channel, number in zip(
            marks.sample, marks.symbol, marks.aux_note, marks.subtype, marks.chan, marks.num,
            strict=True,
        )
    )  # fmt: skip


def write_annotations(path: Path, signal: Signal, rate: float) -> None:
    """Write the annotations of a recording beside its header.

    Args:
        path: the header of the record.
        signal: has the annotations.
        rate: samples per second.
    """
    import numpy as np

    wfdb = import_optional("wfdb", f"write {path.name}")
    marks = sorted(signal.annotations, key=lambda mark: mark.seconds)
    symbols = {label.symbol for label in wfdb.io.annotation.ann_labels} - {" "}
    codes = [_code(mark, symbols) for mark in marks]
    ticks = _ticks(marks, rate)
    wfdb.wrann(
        path.stem,
        ANNOTATOR,
        np.array([round(mark.seconds * ticks) for mark in marks]),
        symbol=[symbol for symbol, _ in codes],
        aux_note=[aux for _, aux in codes],
        subtype=np.array([mark.detail.get("subtype", 0) for mark in marks]),
        chan=np.array([mark.detail.get("channel", 0) for mark in marks]),
        num=np.array([mark.detail.get("number", 0) for mark in marks]),
        fs=int(ticks) if ticks == int(ticks) else ticks,
        write_dir=str(path.parent),
    )


def _code(mark: Annotation, symbols: set[str]) -> tuple[str, str]:
    """Symbol and note of an annotation; words are notes."""
    if "symbol" in mark.detail:
        return str(mark.detail["symbol"]), str(mark.detail["aux"])
    symbol, _, aux = mark.text.partition(" ")
    if symbol not in symbols or symbol == _NOTE:
        symbol, aux = _NOTE, mark.text
    # Notes are bytes; other characters are written as people without them would.
    return symbol, aux.encode("ascii", "replace").decode("ascii")[:LONGEST_NOTE]


def _ticks(marks: Sequence[Annotation], rate: float) -> float:
    """Ticks per second that hold the times of all annotations."""
    times = [mark.seconds for mark in marks]
    longest = max([times[0], *(b - a for a, b in itertools.pairwise(times))])
    stored_ticks = [float(str(mark.detail["ticks"])) for mark in marks if "ticks" in mark.detail]
    fitting = [
        ticks for ticks in (*stored_ticks[:1], rate, *_TICKS) if longest * ticks < _FURTHEST
    ] or [rate]
    return min(
        fitting,
        key=lambda ticks: max(round(abs(t * ticks - round(t * ticks)) / ticks, 8) for t in times),
    )
