"""Settings of the memory allocator."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

__all__ = ["keep_large_blocks", "tune_malloc"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4  # of mallopt(3)
_MIB = 1 << 20
_MAPPINGS = 65536  # blocks that are mapped at most, the default

_mallopt: Callable[[int, int], int] | None = None  # of the C library that `tune_malloc` has set up


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
        global _mallopt
        _mallopt = mallopt
        mallopt(_MMAP_THRESHOLD, 32 * _MIB)
        mallopt(_TRIM_THRESHOLD, 256 * _MIB)
        mallopt(_TOP_PAD, 64 * _MIB)


def keep_large_blocks(keep: bool) -> None:
    """Let the C library also keep freed blocks of more than 32 MiB, or stop it from doing so.

    Kept blocks of different sizes leave gaps, so a process takes more memory than its data: 8 %
    more in steps of VGG-19, which are 8 % faster, and up to a half more in whole jobs over several
    sizes. This is for jobs that need little of the free memory. The function does nothing before
    `tune_malloc` has set up the allocator.

    Args:
        keep: whether to keep them.
    """
    if _mallopt is not None:
        _mallopt(_MMAP_MAX, 0 if keep else _MAPPINGS)
        _mallopt(_TRIM_THRESHOLD, (1024 if keep else 256) * _MIB)
