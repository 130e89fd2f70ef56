"""Reads gzip files of several members, in time linear in their length."""

from __future__ import annotations

import io
import zlib
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["GzipMembers", "allowed_members"]

_GZIP_BITS = 16 + zlib.MAX_WBITS  # zlib itself then compares length and checksum of a member
_BLOCK = 2**16
_LARGEST_PART = 2**20
_FREE_MEMBERS, _MEMBER = 1000, 2**10


def allowed_members(size: int) -> int:
    """Return how many members may unpack into so many bytes; each takes time, even an empty one."""
    return _FREE_MEMBERS + size // _MEMBER


class GzipMembers(io.RawIOBase):
    r"""The content of a gzip file; `gzip.GzipFile` would read any number of empty members.

    Args:
        file: the compressed file.

    Raises:
        ValueError: it has many more members than its content needs.
        EOFError: it ends within a member.
        zlib.error: it is damaged; or other bytes than zeros follow a member.

    >>> import gzip
    >>> packed = gzip.compress(b"ab") + gzip.compress(b"c") + bytes(9)
    >>> io.BufferedReader(GzipMembers(io.BytesIO(packed))).read()
    b'abc'
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._unpacker = zlib.decompressobj(_GZIP_BITS)
        self._block = b""
        self._members = self._size = 0
        self._starts = True  # whether a member begins at the next byte

    def readable(self) -> bool:
        """Return True: the content can be read."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill the start of a buffer; return the number of bytes, 0 at the end of the file."""
        view = memoryview(buffer).cast("B")
        while True:
            if not self._block:
                self._block = self._file.read(_BLOCK)
            if self._starts and self._members:
                self._skip_padding()
            if not self._block:
                if self._starts and self._members:
                    return 0
                raise EOFError("the file ends before its end-of-stream marker")
            self._starts = False
            part = self._unpacker.decompress(self._block, min(len(view), _LARGEST_PART))
            self._block = self._unpacker.unconsumed_tail
            self._size += len(part)
            if self._unpacker.eof:
                self._next_member()
            if part:
                view[: len(part)] = part
                return len(part)

    def _skip_padding(self) -> None:
        self._block = self._block.lstrip(b"\0")
        while not self._block and (block := self._file.read(_BLOCK)):
            self._block = block.lstrip(b"\0")

    def _next_member(self) -> None:
        self._block = self._unpacker.unused_data
        self._unpacker = zlib.decompressobj(_GZIP_BITS)
        self._members += 1
        self._starts = True
        if self._members > allowed_members(self._size):
            raise ValueError(f"more than {self._members:,} gzip members for its content")
