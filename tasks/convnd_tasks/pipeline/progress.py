"""Progress of a job on stderr: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from convnd.errors import printable
from convnd_tasks.pipeline.output import echo

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from convnd.transfer.progress import Progress

__all__ = ["BarDisplay", "ProgressDisplay"]

_SECONDS_BETWEEN_LINES = 30.0


class BarDisplay:
    """Base of displays that show a bar on a terminal during a ``with`` block."""

    _bar: Bar | None = None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


class ProgressDisplay(BarDisplay):
    """Shows how far a job is and how long it still takes.

    Args:
        enabled: False shows nothing but messages.
        terminal: whether stderr is a terminal, which gets a bar; elsewhere a line is printed every
            half minute.
        item: number of the file among several, from 1.
        items: number of files.
        noun: what the steps are, in the singular.
    """

    def __init__(
        self, *, enabled: bool, terminal: bool, item: int = 1, items: int = 1, noun: str = "step"
    ) -> None:
        self._noun = noun
        self._prefix = f"{item} of {items}  " if items > 1 else ""
        self._lines = enabled and not terminal
        self._started = self._last_line = time.monotonic()
        if enabled and terminal:
            self._bar = self._make_bar()
            self._task = self._bar.add_task(f"{self._prefix}loading", total=1, note="")

    @staticmethod
    def _make_bar() -> Bar:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        return Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=Console(stderr=True),
            transient=True,
            speed_estimate_period=60,
        )

    def update(self, progress: Progress) -> None:
        """Show one step."""
        extent = "x".join(str(samples) for samples in reversed(progress.size))
        note = f"{self._noun} {progress.step}/{progress.steps}  loss {progress.loss:.4g}"
        self._show(f"{self._prefix}{extent}", note, progress.fraction_done)

    def update_count(self, done: int, total: int, noun: str) -> None:
        """Show the number of items that are done.

        Args:
            done: number of items that are done.
            total: number of all items, at least 1.
            noun: what the items are, in the plural.
        """
        self._show(noun, f"{done} of {total}", done / total)

    def message(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.console.print(printable(line), markup=False, highlight=False)
        else:
            echo(line, err=True)

    def _show(self, description: str, note: str, fraction_done: float) -> None:
        if self._bar is not None:
            self._bar.update(
                self._task, description=description, completed=fraction_done, note=note
            )
            return
        now = time.monotonic()
        if self._lines and now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            left = self._seconds_left(fraction_done, now)
            echo(f"{description}  {note}{left}", err=True)

    def _seconds_left(self, fraction_done: float, now: float) -> str:
        if fraction_done <= 0:
            return ""
        seconds = (now - self._started) * (1 - fraction_done) / fraction_done
        minutes, remainder = divmod(round(seconds), 60)
        return f"  {minutes}:{remainder:02d} left"
