"""The result of a job, and the figures and tables of its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Figure", "JobResult", "Table"]


@dataclass(frozen=True)
class Figure:
    """A picture about a result, drawn when it is needed.

    Args:
        name: part of the file name ``<result>-<name>.png``.
        caption: one or two sentences of explanation.
        draw: function that draws the picture and returns it as PNG.
    """

    name: str
    caption: str
    draw: Callable[[], bytes]

    @cached_property
    def png(self) -> bytes:
        """The picture as PNG, drawn once."""
        return self.draw()


class Table(NamedTuple):
    """A table of a report.

    Args:
        title: heading of the table.
        header: names of the columns.
        rows: cells, row by row.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What a job produced.

    Args:
        path: the written file or folder.
        result: the written result, a `Grid` or another type of the modality; None in a process of a
            group that did not write it.
        steps: number of optimisation steps.
        loss: loss at the end; NaN if nothing was optimised.
        rejected_steps: number of rejected steps, see `convnd.optimize.minimize`.
        seconds: wall time of the job.
        stopped: the exception that ended the work before its last step, or None.
        losses: the objective ("total") and its weighted terms at every step.
        messages: lines for users about the inputs.
        record: entries of the record that were known at the end.
        figures: paths of the figures that were written.
        report: path of the report, or None.
    """

    path: Path
    result: Any
    steps: int
    loss: float
    rejected_steps: int
    seconds: float
    stopped: BaseException | None
    losses: Mapping[str, Sequence[float]] = field(default_factory=dict)
    messages: Sequence[str] = ()
    record: Mapping[str, str] = field(default_factory=dict)
    figures: Sequence[Path] = ()
    report: Path | None = None
