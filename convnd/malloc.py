"""Settings of the memory allocator."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache

__all__ = ["tune_malloc", "use_large_pages"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)
_MIB = 1 << 20
_HUGE_PAGE_ADVICE = 14  # MADV_HUGEPAGE of Linux, madvise(2)


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


def use_large_pages(address: int, size: int) -> None:
    """Ask Linux to back fresh memory with pages of 2 MiB.

    The system clears each page when it is first written to. With pages of 4 KiB that took as long
    as a third of a convolution with 64 channels, and a tenth of it with large ones. The function
    does nothing on other systems, and below 4 MiB.

    Args:
        address: of memory that was allocated, and not written to.
        size: in bytes.
    """
    first = -(-address // 4096) * 4096
    last = (address + size) // 4096 * 4096
    advise = _madvise()
    if advise is not None and last - first >= 4 * _MIB:
        advise(first, last - first, _HUGE_PAGE_ADVICE)


@cache
def _madvise() -> Callable[[int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    advise = getattr(ctypes.CDLL(None), "madvise", None)
    if advise is not None:
        advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return advise
