"""Regions of a recording: intervals of a table, or the recording's own annotations."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from convnd.errors import InputFileError
from convnd.grid import Grid
from convnd.io.signals.signal import Annotation, sampling_rate, signal_of
from convnd_tasks.modalities.label_map import LABELS
from convnd_tasks.modalities.signals.leads import lead_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

__all__ = ["ANNOTATIONS", "annotation_labels", "is_interval_table", "read_intervals", "soft_ends"]

ANNOTATIONS = "annotations"
"""In place of a table: the annotations of the content are its regions."""

_COLUMNS = ("start", "end", "label")
_SUFFIXES = (".csv", ".tsv", ".txt")
_MOST_BYTES = 1 << 24

_SOFT_SECONDS = 0.2
_SOFT_SAMPLES = 32  # without a sampling rate
_SOFT_SHARE = 0.25  # of an interval, at most, at each of its ends


class _Interval(NamedTuple):
    start: float  # in the unit of the recording's axis
    end: float
    label: str
    leads: Sequence[int]  # empty is all


def is_interval_table(path: Path, content: Grid) -> bool:
    """Return whether a file is a table of intervals: its header names start, end and label.

    A table with a row for each sample of the content may be a recording of labels instead.

    Args:
        path: path of the file.
        content: the recording ``(1, C, T)``.

    Raises:
        InputFileError: it is a table without these columns, and of another length.
    """
    if path.suffix.lower() not in _SUFFIXES or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header = file.readline(4096)
        if all(name in _cells(header.lower()) for name in _COLUMNS):
            return True
        rows = sum(1 for _ in itertools.islice(file, content.shape[0] + 2))
    if abs(rows - content.shape[0]) > 1:  # without a header, or with a row of units
        raise InputFileError(
            f"read {path}",
            expected="the columns start, end, label, and perhaps lead",
            got=", ".join(_cells(header))[:60] or "none",
            remedy="name them in the first row",
        )
    return False


def read_intervals(path: Path, content: Grid) -> Grid:
    """Read the labels of intervals from a table.

    Its columns are start and end, in seconds (in samples without a sampling rate), label, and
    perhaps lead: one name, or several with a space between; empty is all leads. Of intervals that
    overlap, the later row counts.

    Args:
        path: a table with commas, semicolons or tabs, and a header.
        content: the recording ``(1, C, T)``.

    Returns:
        Numbers of labels ``(1, C, T)``, or ``(1, 1, T)`` if all intervals are of all leads.

    Raises:
        InputFileError: a row has no numbers, no label, an empty interval, or an unknown lead.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise InputFileError(
            f"read {path}",
            expected=f"at most {_MOST_BYTES >> 20} MiB of intervals",
            got="more",
            remedy="split the table",
        )
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    header, *rows = [_cells(line) for line in lines if line.strip()]
    columns = {name.lower(): index for index, name in enumerate(header)}
    leads = {lead_key(name): index for index, name in enumerate(content.channels)}
    intervals = []
    for number, row in enumerate(rows, 2):
        cells = {name: row[index] for name, index in columns.items() if index < len(row)}
        try:
            start, end = float(cells["start"]), float(cells["end"])
            names = cells.get("lead", "").split()
            chosen = [leads[lead_key(name)] for name in names]
        except (KeyError, ValueError):
            start, end, chosen = 0.0, 0.0, []
        label = cells.get("label", "")
        if not (label and 0 <= start < end < math.inf):
            raise InputFileError(
                f"read {path}",
                expected=f"start < end, a label, and leads among {', '.join(content.channels)}",
                got=f"row {number}: {','.join(row)[:60]}",
                remedy="correct the row",
            )
        intervals.append(_Interval(start, end, label, chosen))
    return _labels(intervals, content, str(path))


def annotation_labels(content: Grid) -> Grid:
    """Make regions of the annotations of a recording.

    An annotation with a duration covers it. A rhythm, whose text begins with "(" in WFDB, holds to
    the next one. A beat reaches halfway to the beats before and after.

    Args:
        content: the recording ``(1, C, T)``.

    Returns:
        Numbers of labels ``(1, 1, T)``; a label is the text of an annotation.

    Raises:
        InputFileError: there is no such annotation.
    """
    marks = sorted(signal_of(content).annotations, key=lambda mark: mark.seconds)
    end = content.shape[0] * content.spacing[0]
    rhythms = [mark for mark in marks if mark.text.startswith("(")]
    beats = [mark for mark in marks if not mark.duration and not mark.text.startswith("(")]
    starts = [*(mark.seconds for mark in rhythms), end]
    intervals = [
        _Interval(mark.seconds, following, mark.text, ())
        for mark, following in zip(rhythms, starts[1:], strict=True)
    ]
    if not intervals:  # rhythms and beats at once would overlap
        intervals = [*_beat_intervals(beats, end)]
    intervals += [
        _Interval(mark.seconds, mark.seconds + mark.duration, mark.text, ())
        for mark in marks
        if mark.duration
    ]
    return _labels(intervals, content, ANNOTATIONS)


def _beat_intervals(beats: Sequence[Annotation], end: float) -> Iterable[_Interval]:
    times = [mark.seconds for mark in beats]
    borders = [0.0, *((a + b) / 2 for a, b in itertools.pairwise(times)), end]
    for number, mark in enumerate(beats):
        yield _Interval(borders[number], borders[number + 1], mark.text, ())


def soft_ends(mask: Tensor, step: float, units: Sequence[str]) -> Tensor:
    """Let a mask rise and fall smoothly at the ends of its intervals; the result has no step.

    The ends of the recording are no such ends. Outside of the intervals the mask stays 0.

    Args:
        mask: shares ``(1, C, T)``.
        step: distance between samples.
        units: unit of the axis.

    >>> import torch
    >>> soft = soft_ends(torch.tensor([[[0.0] * 3 + [1.0] * 8]]), 0.1, ("s",))
    >>> [round(share, 3) for share in soft.flatten().tolist()[2:7]]
    [0.0, 0.146, 0.854, 1.0, 1.0]
    """
    import torch

    reach = _SOFT_SAMPLES if tuple(units) != ("s",) else max(1, round(_SOFT_SECONDS / step))
    soft = mask.clone()
    length = mask.shape[-1]
    for line in soft[0]:
        ends = torch.nn.functional.pad(line > 0, (1, 1)).int().diff()
        starts, stops = ((ends == sign).nonzero().flatten().tolist() for sign in (1, -1))
        for start, stop in zip(starts, stops, strict=True):
            count = max(1, min(reach, int(_SOFT_SHARE * (stop - start))))
            rise = 0.5 - 0.5 * torch.cos(torch.pi * (torch.arange(count) + 0.5) / count)
            if start > 0:
                line[start : start + count] *= rise
            if stop < length:
                line[stop - count : stop] *= rise.flip(0)
    return soft


def _labels(intervals: Sequence[_Interval], content: Grid, name: str) -> Grid:
    """Draw intervals as numbers of labels."""
    import torch

    length, rate = content.shape[0], 1 / content.spacing[0]
    if content.units == ("s",):
        rate = sampling_rate(content)
    names = tuple(dict.fromkeys(interval.label for interval in intervals))
    per_lead = any(interval.leads for interval in intervals)
    values = torch.zeros(1, content.values.shape[1] if per_lead else 1, length)
    for interval in intervals:
        first, last = (min(length, round(time * rate)) for time in (interval.start, interval.end))
        rows = list(interval.leads) or slice(None)
        values[:, rows, first:last] = names.index(interval.label) + 1
    extent = f"{length / rate:g} s" if content.units == ("s",) else f"{length} samples"
    if not bool(values.any()):
        raise InputFileError(
            f"--regions {name}",
            expected=f"intervals within the content, which has {extent}",
            got="none",
            remedy="check the times" if intervals else "give a table of start, end and label",
        )
    return Grid(values=values, header={LABELS: names})


def _cells(line: str) -> list[str]:
    delimiter = next((mark for mark in "\t;" if mark in line), ",")
    row = next(csv.reader([line], delimiter=delimiter), [])
    return [cell.strip() for cell in row]
