"""Tensors that are seldom looked at, in files instead of memory."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from convnd.errors import ResourceError

__all__ = ["DiskOffload", "release_pages"]

_PIECE = 2**22  # values that are copied at once


class DiskOffload:
    """Keeps tensors in files without a name, which end with them.

    A tensor in a file is one like any other. Its pages come into memory when they are looked at,
    and leave with `release_pages`; the file itself is where the system has room for it.

    Args:
        folder: where the files are; None is ``TMPDIR`` or ``/var/tmp``, which unlike ``/tmp`` is
            on a disk everywhere.

    >>> offload = DiskOffload()
    >>> values = offload.store(torch.arange(4.0))
    >>> release_pages(values)
    >>> values
    tensor([0., 1., 2., 3.])
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._active = True

    @classmethod
    def disabled(cls) -> DiskOffload:
        """One that keeps everything in memory."""
        found = cls()
        found._active = False
        return found

    def __bool__(self) -> bool:
        return self._active

    def zeros(self, like: Tensor) -> Tensor:
        """A tensor of zeros, of the shape and type of another one on the CPU, contiguous.

        Raises:
            ResourceError: the disk has no room for it.
        """
        if not self._active:
            return torch.zeros_like(like)
        folder = self._folder or Path(os.environ.get("TMPDIR", "/var/tmp"))
        handle, name = tempfile.mkstemp(prefix="convnd-", dir=folder if folder.is_dir() else None)
        try:
            if hasattr(os, "posix_fallocate"):  # or a full disk would end the process later
                os.posix_fallocate(handle, 0, max(1, like.nbytes))
            size = like.numel()
            found = torch.from_file(name, shared=True, size=size, dtype=like.dtype)
        except OSError as error:
            raise ResourceError(
                f"memory: expected {like.nbytes / 2**30:.1f} GiB of disk in {Path(name).parent} "
                f"beside it, got {error.strerror}; set TMPDIR to a folder with more, or allow more "
                "memory"
            ) from error
        finally:
            os.close(handle)
            Path(name).unlink()
        return found.view(like.shape)

    def store(self, values: Tensor) -> Tensor:
        """The same values in a file; the tensor itself where everything is kept in memory.

        Raises:
            ResourceError: see `zeros`.
        """
        if not self._active:
            return values
        found = self.zeros(values)
        pieces = (torch.split(each.reshape(-1), _PIECE) for each in (found, values))
        for to, piece in zip(*pieces, strict=True):
            to.copy_(piece)
            release_pages(to)
        return found


def release_pages(*tensors: Tensor) -> None:
    """Give the pages of tensors in files back; what is in them stays.

    Args:
        tensors: of a `DiskOffload`, or contiguous parts of them; those in memory are left alone.
    """
    if sys.platform != "linux":
        return
    for each in tensors:
        if each.untyped_storage().filename is None:  # of such memory it would be lost
            continue
        first = each.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
        size = each.data_ptr() + each.nbytes - first
        where = ctypes.c_void_p(first), ctypes.c_size_t(size)
        ctypes.CDLL(None).madvise(*where, mmap.MADV_DONTNEED)
