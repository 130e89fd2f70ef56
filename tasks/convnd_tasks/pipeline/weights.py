"""Downloading the weights of a backbone before a job starts, with a progress bar."""

from __future__ import annotations

import sys

from convnd_tasks.pipeline.progress import BarDisplay

__all__ = ["DownloadBar", "ensure_weights"]


def ensure_weights(*backbones: str, quiet: bool) -> None:
    """Download the weights of backbones unless this machine has them.

    Args:
        backbones: their names; names without weights are ignored, and fail when they are loaded.
        quiet: whether to draw no progress bar.

    Raises:
        ConvndError: as `convnd.backbones.weights.fetch`.
    """
    from convnd.backbones.weights import fetch, find_path, names

    for backbone in backbones:
        if backbone in names() and find_path(backbone) is None:
            with DownloadBar(enabled=sys.stderr.isatty() and not quiet) as bar:
                fetch(backbone, progress=bar.show)


class DownloadBar(BarDisplay):
    """A progress bar on stderr.

    Args:
        enabled: whether to draw anything.
    """

    def __init__(self, *, enabled: bool) -> None:
        if enabled:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(binary_units=True),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=None)

    def show(self, action: str, done: int, total: int | None) -> None:
        """Update the bar; a `convnd.backbones.weights.Progress`."""
        if self._bar is not None:
            self._bar.update(self._task, description=action, completed=done, total=total)
