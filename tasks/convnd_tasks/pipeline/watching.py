"""Watchers of a command's transfers, such as a page that shows them while they run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convnd.transfer.progress import Progress
    from convnd_tasks.modalities.base import Transfer
    from convnd_tasks.modalities.results import JobResult

__all__ = ["Watcher", "current_watcher", "watch"]


class Watcher:
    """Is told what a transfer does; this one ignores it.

    The methods are called by the thread that runs the transfer, which waits for them.
    """

    def on_prepared(self, transfer: Transfer, target: Path | None) -> None:
        """Take note of a transfer before its first step.

        Args:
            transfer: the transfer, whose inputs are open.
            target: path of the result; None is one that is not written.
        """

    def on_step(self, progress: Progress) -> None:
        """Take note of a step."""

    def on_checkpoint(self, path: Path, progress: Progress) -> None:
        """Take note of a checkpoint that is complete.

        Args:
            path: the file, which the next checkpoint replaces.
            progress: the step that it continues from.
        """

    def on_count(self, done: int, total: int) -> None:
        """Take note of work that counts inputs instead of steps.

        Args:
            done: number of inputs that are done.
            total: number of all inputs.
        """

    def on_message(self, line: str) -> None:
        """Take note of a line for users."""

    def on_result(self, outcome: JobResult) -> None:
        """Take note of a result, which is written."""


_WATCHER: ContextVar[Watcher] = ContextVar("_WATCHER", default=Watcher())  # noqa: B039


def current_watcher() -> Watcher:
    """Return the watcher of the commands that run here."""
    return _WATCHER.get()


@contextmanager
def watch(watcher: Watcher) -> Iterator[None]:
    """Let a watcher see the transfers of all commands that run in this block.

    Args:
        watcher: the watcher.
    """
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)
