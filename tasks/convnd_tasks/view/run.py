"""Serves a page until a signal ends it."""

from __future__ import annotations

import contextlib
import threading
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from convnd_tasks import samples
from convnd_tasks.modalities.opening import check_input
from convnd_tasks.view.app import View
from convnd_tasks.view.folder import ViewFolder
from convnd_tasks.view.series import copy_series
from convnd_tasks.view.server import ViewServer

__all__ = ["run", "serve", "wait_for_signal"]


def run(
    root: Path,
    files: Sequence[str],
    *,
    read_only: bool,
    port: int,
    browser: bool,
    on_start: Callable[[str], None],
) -> None:
    """Serve a page until a signal arrives.

    Args:
        root: the folder that the page reads and writes.
        files: content and styles to begin with; files outside of the folder are copied into it.
        read_only: whether nothing may change.
        port: the port; 0 is any that is free.
        browser: whether the page is opened in the browser.
        on_start: is called with the address of the page.

    Raises:
        UsageError: the folder is none, or the port is taken.
        InputFileError: a file does not exist.
    """
    folder = ViewFolder(root, read_only=read_only)
    for name in files:
        check_input(name, "input", 2)
    chosen = [_bring_in(folder, name) for name in files]
    with serve(folder, chosen, port) as (server, _):
        on_start(server.guard.address)
        if browser:
            webbrowser.open(server.guard.address)
        wait_for_signal()


def wait_for_signal() -> None:
    """Wait until a signal raises an exception here."""
    threading.Event().wait()


@contextlib.contextmanager
def serve(
    folder: ViewFolder, chosen: list[str], port: int = 0, *, warm: bool = True
) -> Iterator[tuple[ViewServer, View]]:
    """Serve a page during a ``with`` block; at its end, jobs stop and keep their checkpoints.

    Args:
        folder: the folder.
        chosen: names of files in it, or of samples, to begin with.
        port: the port; 0 is any that is free.
        warm: whether processes for previews and jobs are started before they are needed.

    Yields:
        The server and what it shows.
    """
    view = View(folder, chosen)
    try:
        with ViewServer(port, view.answer) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
            thread.start()
            if warm:
                view.warm_up()
            try:
                yield server, view
            finally:
                server.shutdown()
    finally:
        view.close()


def _bring_in(folder: ViewFolder, name: str) -> str:
    """Return the name of an input in the folder, to which it is copied if it lies elsewhere."""
    if samples.is_sample(name):
        return name
    path = Path(name).resolve()
    if path.is_dir():
        return folder.name(copy_series(folder, path))
    if path.is_relative_to(folder.root):
        return folder.name(path)
    with path.open("rb") as file:
        return folder.name(folder.store(path.name, file, path.stat().st_size))
