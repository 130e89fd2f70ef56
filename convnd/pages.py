"""Memory that a process gave back and will ask for again."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_pages"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)
_MIB = 1 << 20


def keep_pages() -> None:
    """Let the GNU C library keep some of what is freed, instead of giving each page back at once.

    Every evaluation of a network allocates the same tensors again. Fresh pages are cleared one by
    one: up to a sixth of the time of a transfer of signals. At most 256 MiB are held on to; blocks
    of more than 32 MiB are still given back. Does nothing under other C libraries, or where the
    environment says what the allocator is to do (``MALLOC_…``).
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 * _MIB)
        mallopt(_TRIM_THRESHOLD, 256 * _MIB)
        mallopt(_TOP_PAD, 64 * _MIB)
