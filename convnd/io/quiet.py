"""What libraries say on their own is kept off the screen and out of logs.

Their remarks reach people as one line of ours, or do not matter. Some quote what a file holds,
which may be the name of a patient.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextvars import ContextVar

__all__ = ["quiet", "silent_stderr"]

_MUTED: ContextVar[bool] = ContextVar("muted", default=False)
_TALKATIVE = ("pydicom", "nibabel.global", "wfdb")


def _spoken(_: logging.LogRecord) -> bool:
    return not _MUTED.get()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep to themselves what libraries warn of that their users cannot change."""
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_spoken)  # which a second time does nothing
    token = _MUTED.set(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _MUTED.reset(token)


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Keep off the screen what libraries in C write to stderr; it reaches us as errors.

    That is the whole process's: other threads are not heard either meanwhile.
    """
    try:
        saved = os.dup(2)
    except OSError:  # there is none
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
