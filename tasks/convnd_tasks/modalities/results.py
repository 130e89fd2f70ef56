"""The result of a job, and figures and tables about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Figure", "JobResult", "Table"]


@dataclass(frozen=True)
class Figure:
    """A picture of a result, drawn when it is needed.

    Args:
        name: goes into the file's name, as ``<result>-<name>.png``.
        caption: one or two sentences.
        draw: makes the bytes of the file.
    """

    name: str
    caption: str
    draw: Callable[[], bytes]

    @cached_property
    def png(self) -> bytes:
        """The bytes of the file, which are made once."""
        return self.draw()


class Table(NamedTuple):
    """A table of a report."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What a job produced.

    Args:
        path: the written file or folder.
        result: what was written: a `Grid`, or what the modality makes of a stream; None in a
            process that left writing to another.
        steps: optimisation steps taken.
        loss: at the end; NaN where nothing was optimised.
        rejected_steps: steps that were rejected, see `convnd.optimize.minimize`.
        seconds: from reading to written.
        stopped: what ended the work before its last step, or None.
        losses: the objective ("total") and its weighted terms at every step.
        messages: what was said of the inputs.
        record: entries about how it went.
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
