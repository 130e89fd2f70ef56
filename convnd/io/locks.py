"""Keeps other processes and signals away while files are made or replaced."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from convnd.errors import STOP_SIGNALS, OutputFileError

__all__ = ["defer_signals", "folder_lock"]

_LOCK_TIMEOUT = 60.0  # seconds to wait for another writer


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Lock a folder against other writers of results of several files.

    The operating system locks the folder itself, and releases it however its holder ends. Where
    such locks are missing (Windows, some network file systems), nobody waits.

    Raises:
        OutputFileError: another process has held the lock for a minute.
    """
    handle = _lock(folder)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _lock(folder: Path) -> int | None:
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    start = time.monotonic()
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() - start > _LOCK_TIMEOUT:
                    raise OutputFileError(
                        f"write {folder}",
                        expected="another process to finish writing there",
                        got=f"none that did in {_LOCK_TIMEOUT:g} s",
                        remedy="end it",
                    ) from None
                time.sleep(0.02)
            except OSError:  # a file system without locks
                return handle
            else:
                return handle
    except BaseException:
        os.close(handle)
        raise


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Delay SIGINT, SIGTERM and SIGHUP to the end of the block, which makes or removes a file.

    Otherwise a signal could arrive after a file is made and before its name is stored for cleanup.
    Python runs handlers in the main thread only, so that blocks in other threads need no delay.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    handlers = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for first in received[:1]:
            signal.raise_signal(first)
