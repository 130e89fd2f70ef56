"""Download of the weights of backbones before a job starts, with a progress bar."""

from __future__ import annotations

import sys

from convnd_tasks.pipeline.progress import BarDisplay

__all__ = ["DownloadBar", "ensure_weights"]


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


class DownloadBar(BarDisplay):
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
            action: what is done at present, for example "downloading".
            done: bytes so far.
            total: bytes in all, or None.
        """
        if self._bar is not None:
            self._bar.update(self._task, description=action, completed=done, total=total)
