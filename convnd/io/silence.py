"""What libraries say on their own is kept off the screen and out of logs.

Their remarks reach people as one line of ours, or do not matter. Some quote what a file holds,
which may be the name of a patient.
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


class _Shared:
    """A context of the whole process: it lasts from the first thread to enter to the last to leave.

    Each thread by itself would bring back what it found, which may be what another one has set.
    """

    def __init__(self, make: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._inside = 0
        self._context: contextlib.AbstractContextManager[None] = contextlib.nullcontext()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._context = self._make()
                self._context.__enter__()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._context.__exit__(None, None, None)


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    try:
        saved = os.dup(2)
    except OSError:  # there is none
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


_WARNINGS, _STDERR = _Shared(_no_warnings), _Shared(_no_stderr)


@contextlib.contextmanager
def silence_libraries() -> Iterator[None]:
    """Keep to themselves what libraries warn of that their users cannot change."""
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).addFilter(_is_not_muted)  # which a second time does nothing
    token = _MUTED.set(True)
    try:
        with _WARNINGS:
            yield
    finally:
        _MUTED.reset(token)


@contextlib.contextmanager
def silence_stderr() -> Iterator[None]:
    """Keep off the screen what libraries in C write to stderr; it reaches us as errors.

    That is the whole process's: other threads are not heard either meanwhile.
    """
    with _STDERR:
        yield
