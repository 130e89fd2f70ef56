"""Keeps warnings and log messages of libraries off the screen and out of logs.

Users get errors of ours instead. Some messages quote a file, which may hold a patient's name.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar

__all__ = ["silence_libraries", "silence_stderr"]

_MUTED: ContextVar[bool] = ContextVar("muted", default=False)
_NOISY_LOGGERS = ("pydicom", "nibabel.global", "wfdb")


def _is_not_muted(_: logging.LogRecord) -> bool:
    return not _MUTED.get()


class _SharedContext:
    """A context that the first thread of a process enters and the last one leaves.

    With one context for each thread, a thread would restore a state that another one had set.
    """

    def __init__(self, make: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._count = 0
        self._context: contextlib.AbstractContextManager[None] = contextlib.nullcontext()

    def __enter__(self) -> None:
        with self._lock:
            if self._count == 0:
                self._context = self._make()
                self._context.__enter__()
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._count -= 1
            if self._count == 0:
                self._context.__exit__(None, None, None)


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    try:
        descriptor = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    try:
        with open(os.devnull, "wb") as devnull:  # noqa: PTH123
            os.dup2(devnull.fileno(), 2)
        yield
    finally:
        os.dup2(descriptor, 2)
        os.close(descriptor)


_WARNINGS, _STDERR = _SharedContext(_no_warnings), _SharedContext(_no_stderr)


@contextlib.contextmanager
def silence_libraries() -> Iterator[None]:
    """Suppress warnings and log messages of libraries that their users cannot act on."""
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).addFilter(_is_not_muted)  # adding it twice has no effect
    token = _MUTED.set(True)
    try:
        with _WARNINGS:
            yield
    finally:
        _MUTED.reset(token)


@contextlib.contextmanager
def silence_stderr() -> Iterator[None]:
    """Suppress what libraries in C write to stderr; their errors reach us as exceptions.

    stderr belongs to the whole process: other threads write nothing meanwhile, either.
    """
    with _STDERR:
        yield
