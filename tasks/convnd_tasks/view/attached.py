"""A page beside a command that runs in this process (``--live``)."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from convnd_tasks.pipeline.output import echo
from convnd_tasks.pipeline.watching import watch
from convnd_tasks.view.folder import ViewFolder
from convnd_tasks.view.run import serve

__all__ = ["live_page"]


@contextlib.contextmanager
def live_page(words: Sequence[str]) -> Iterator[None]:
    """Show the transfers of this block on a page, whose address is printed; nobody has to open it.

    What the page stores is removed at the end: the results are those of the command.

    Args:
        words: the words of the command, for the page.
    """
    with serve(ViewFolder(Path()), [], warm=False) as (server, view):
        job, watcher = view.jobs.attach(words)

        def send(message: dict[str, Any]) -> None:
            if message["do"] == "stop":
                os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C does
            elif message["do"] == "change":
                watcher.change(message["options"])

        view.jobs.hear(job, send)
        echo(f"live: {server.guard.address}", err=True)
        try:
            with watch(watcher):
                yield
        finally:
            view.jobs.detach(job)
