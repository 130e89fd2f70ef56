"""Tensors in files instead of memory, for values that are read once a step."""

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

_CHUNK = 2**22  # values that are copied at once


class DiskOffload:
    """Allocates tensors in unnamed files, which vanish with the tensors.

    Such a tensor is used like any other. Its pages are read into memory when they are accessed, and
    leave it with `release_pages`.

    Args:
        folder: folder of the files; None is ``TMPDIR`` or ``/var/tmp``, which, unlike ``/tmp``, is
            on a disk everywhere.

    >>> offload = DiskOffload()
    >>> values = offload.store(torch.arange(4.0))
    >>> release_pages(values)
    >>> values
    tensor([0., 1., 2., 3.])
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._enabled = True

    @classmethod
    def disabled(cls) -> DiskOffload:
        """Return an object that allocates in memory instead of in files."""
        offload = cls()
        offload._enabled = False
        return offload

    def __bool__(self) -> bool:
        return self._enabled

    def zeros(self, like: Tensor) -> Tensor:
        """Allocate a contiguous tensor of zeros.

        Args:
            like: a tensor on the CPU of the same shape and type.

        Raises:
            ResourceError: the disk is full.
        """
        if not self._enabled:
            return torch.zeros_like(like)
        folder = self._folder or Path(os.environ.get("TMPDIR", "/var/tmp"))
        handle, name = -1, ""
        try:
            parent = folder if folder.is_dir() else None
            handle, name = tempfile.mkstemp(prefix="convnd-", dir=parent)
            if hasattr(os, "posix_fallocate"):  # otherwise a full disk would kill the process later
                os.posix_fallocate(handle, 0, max(1, like.nbytes))
            values = torch.from_file(name, shared=True, size=like.numel(), dtype=like.dtype)
        except OSError as error:
            raise ResourceError(
                "memory",
                expected=f"{like.nbytes / 2**30:.1f} GiB of free disk in {folder}",
                got=str(error.strerror),
                remedy="set TMPDIR to a folder with more, or allow more memory",
            ) from error
        finally:
            if name:
                os.close(handle)
                Path(name).unlink()
        return values.view(like.shape)

    def store(self, values: Tensor) -> Tensor:
        """Copy values to a file; return them as they are if offloading is disabled.

        Raises:
            ResourceError: the disk is full.
        """
        if not self._enabled:
            return values
        copy = self.zeros(values)
        chunks = (torch.split(tensor.reshape(-1), _CHUNK) for tensor in (copy, values))
        for target, source in zip(*chunks, strict=True):
            target.copy_(source)
            release_pages(target)
        return copy


def release_pages(*tensors: Tensor) -> None:
    """Release the memory of tensors in files; their values stay in the file.

    Args:
        tensors: tensors of a `DiskOffload`, or contiguous parts of them. Others are left alone.
    """
    if sys.platform != "linux":
        return
    for tensor in tensors:
        if tensor.untyped_storage().filename is None:  # memory without a file would be lost
            continue
        start = tensor.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
        length = tensor.data_ptr() + tensor.nbytes - start
        ctypes.CDLL(None).madvise(
            ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_DONTNEED
        )
