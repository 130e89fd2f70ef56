"""The progress bar of a transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import typer

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from convnd.transfer.style_transfer import Progress

__all__ = ["Display"]


class Display:
    """The progress bar on stderr; silent when nobody watches."""

    def __init__(self, *, enabled: bool) -> None:
        self._bar: Bar | None = None
        if enabled:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
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
            self._task = self._bar.add_task("loading", total=1, note="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Draw one step."""
        if self._bar is not None:
            extent = "x".join(str(each) for each in reversed(progress.size))
            self._bar.update(
                self._task,
                description=extent,
                completed=progress.done,
                note=f"step {progress.step}/{progress.steps}  loss {progress.loss:.4g}",
            )

    def tell(self, line: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            typer.echo(line, err=True)
