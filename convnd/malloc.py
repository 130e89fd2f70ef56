"""Settings of the memory allocator."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["tune_malloc"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)
_MIB = 1 << 20


def tune_malloc() -> None:
    """Let the GNU C library keep freed memory for the next allocation.

    Every evaluation of a network allocates the same tensors again. By default the library returns
    freed pages to the system, which clears each page before it hands it out again: up to a sixth
    of the time of a transfer of signals. With these settings the library keeps up to 256 MiB;
    it still returns blocks of more than 32 MiB. The function does nothing under other C
    libraries, or where an environment variable ``MALLOC_…`` sets up the allocator.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 * _MIB)
        mallopt(_TRIM_THRESHOLD, 256 * _MIB)
        mallopt(_TOP_PAD, 64 * _MIB)
