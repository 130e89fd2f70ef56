"""Progress of jobs and downloads on stderr: a bar in a terminal, lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from convnd.errors import printable
from convnd_tasks.pipeline.output import echo
from convnd_tasks.runtime.time_left import TimeLeft, duration

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from convnd.transfer.progress import Progress

__all__ = ["DownloadBar", "ProgressDisplay", "ensure_weights"]

_SECONDS_BETWEEN_LINES = 30.0


class _BarDisplay:
    """Base of displays that show a bar on stderr during a ``with`` block."""

    _bar: Bar | None = None
    _task: TaskID

    def _add_bar(self, description: str, total: float | None, *columns: Any, **fields: Any) -> None:
        """Make the bar, with columns to the right of it and the values of their fields."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        console = Console(stderr=True)
        text = TextColumn("{task.description}")
        self._bar = Progress(text, BarColumn(), *columns, console=console, transient=True)
        self._task = self._bar.add_task(description, total=total, **fields)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


class ProgressDisplay(_BarDisplay):
    """Shows the progress of a job and the time that is left.

    Args:
        enabled: whether progress is shown; messages always are.
        terminal: whether stderr is a terminal, which shows a bar.
        item: number of the file among several, from 1. The time left counts the files to come as
            long as this one.
        items: number of files.
        noun: word for a step, in the singular.
    """

    def __init__(
        self, *, enabled: bool, terminal: bool, item: int = 1, items: int = 1, noun: str = "step"
    ) -> None:
        self._noun = noun
        self._prefix = f"{item} of {items}  " if items > 1 else ""
        self._items_left = items - item
        self._lines = enabled and not terminal
        self._started = self._last_line = time.monotonic()
        self._time_left = TimeLeft()
        if enabled and terminal:
            from rich.progress import TextColumn, TimeElapsedColumn

            note, left = (TextColumn(f"{{task.fields[{name}]}}") for name in ("note", "left"))
            columns = note, TimeElapsedColumn(), left
            self._add_bar(f"{self._prefix}loading", 1, *columns, note="", left="")

    def update(self, progress: Progress) -> None:
        """Show one step."""
        self._time_left.update(progress, time.monotonic())
        extent = "x".join(str(samples) for samples in reversed(progress.size))
        note = f"{self._noun} {progress.step}/{progress.steps}"
        note += "" if math.isnan(progress.loss) else f"  loss {progress.loss:.4g}"
        self._show(f"{self._prefix}{extent}", note, progress.fraction_done)

    def update_count(self, done: int, total: int, noun: str) -> None:
        """Show the number of items that are done.

        Args:
            done: number of items that are done.
            total: number of all items, at least 1.
            noun: word for the items, in the plural.
        """
        self._time_left.add(done / total, time.monotonic(), steps_left=total - done)
        self._show(noun, f"{done} of {total}", done / total)

    def message(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.console.print(printable(line), markup=False, highlight=False)
        else:
            echo(line, err=True)

    def _show(self, description: str, note: str, fraction_done: float) -> None:
        now = time.monotonic()
        seconds = self._time_left.seconds(now)
        left = ""
        if seconds is not None and self._time_left.is_reliable:
            seconds += self._items_left * (now - self._started + seconds)
            left = f"{duration(seconds)} left"
        if self._bar is not None:
            self._bar.update(
                self._task, description=description, completed=fraction_done, note=note, left=left
            )
            return
        if self._lines and now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            echo("  ".join(filter(None, (description, note, left))), err=True)


class DownloadBar(_BarDisplay):
    """Shows the progress of a download.

    Args:
        enabled: whether the bar is shown.
    """

    def __init__(self, *, enabled: bool) -> None:
        if enabled:
            from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

            columns = DownloadColumn(binary_units=True), TransferSpeedColumn()
            self._add_bar("", None, *columns, TimeRemainingColumn())

    def show(self, action: str, done: int, total: int | None) -> None:
        """Update the bar; the signature is that of `convnd.backbones.weights.Progress`.

        Args:
            action: the present action, for example "downloading".
            done: bytes so far.
            total: bytes in all, or None.
        """
        if self._bar is not None:
            self._bar.update(self._task, description=action, completed=done, total=total)


def ensure_weights(*backbones: str, quiet: bool) -> None:
    """Download the weights of backbones unless this machine has them.

    Args:
        backbones: names of backbones. A name without weights is ignored here; loading it fails.
        quiet: whether the progress bar is left out.

    Raises:
        ConvndError: the download failed, see `convnd.backbones.weights.fetch`.
    """
    from convnd.backbones.weights import fetch, find_path, names

    for backbone in backbones:
        if backbone in names() and find_path(backbone) is None:
            with DownloadBar(enabled=sys.stderr.isatty() and not quiet) as bar:
                fetch(backbone, progress=bar.show)
