"""The bytes of NIfTI files: header and voxels, in one file or in two, compressed or not."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from convnd.errors import InputFileError
from convnd.io.volumes.gzip_members import GzipMembers
from convnd.io.volumes.nifti_header import checked_shape, read_start, voxel_offset
from convnd.io.volumes.nifti_pair import analyze_header, as_single, is_analyze, pair_files

__all__ = ["LARGEST_REST", "opened", "read_pair", "read_single"]

LARGEST_REST = 2**20
"""Bytes after the voxels, which pad a file; or in the header file of a pair."""

_DEFLATE_LIMIT = 1100  # zlib packs at most 1032 bytes into one
_GZIP = b"\x1f\x8b"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], bool]]:
    """Open a file that may be compressed; also yield whether it is."""
    with path.open("rb") as file:
        compressed = file.read(2) == _GZIP
        file.seek(0)
        yield io.BufferedReader(GzipMembers(file)) if compressed else file, compressed


def read_single(path: Path, max_voxels: int) -> tuple[Any, bytes]:
    """Check the header; return it and the bytes up to the last voxel."""
    with opened(path) as (stream, compressed):
        kind, start = read_start(path, stream)
        header = kind(start[: kind.sizeof_hdr], check=False)
        magic = header["magic"].item()
        if magic[:3] != kind.single_magic[:3]:
            raise InputFileError(
                f"read {path}",
                expected="header and voxels in one file",
                got=f"magic {magic!r}",
                remedy="name the header of a pair .hdr and its voxels .img",
            )
        size = _content_size(path, header, max_voxels)
        content = _read_content(path, header, stream, start, size, compressed)
    # Parse it again with the extensions that follow it.
    offset = int(header["vox_offset"])
    return kind.from_fileobj(io.BytesIO(content[:offset]), check=False), content[:size]


def read_pair(path: Path, max_voxels: int) -> tuple[Any, bytes]:
    """Check the header of a pair; return it and the other file's bytes up to the last voxel."""
    header_file, voxel_file = pair_files(path)
    with opened(header_file) as (stream, _):
        kind, start = read_start(header_file, stream)
        if is_analyze(kind, start):
            header = analyze_header(header_file, start)
        else:
            header = as_single(kind, start + stream.read(LARGEST_REST))
    size = _content_size(header_file, header, max_voxels, pair=True)
    with opened(voxel_file) as (stream, compressed):
        content = _read_content(voxel_file, header, stream, b"", size, compressed)
    return header, content[:size]


def _content_size(path: Path, header: Any, max_voxels: int, *, pair: bool = False) -> int:
    """Return the bytes from the start of a file to its last voxel."""
    shape = checked_shape(path, header, max_voxels)
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise InputFileError(
            f"read {path}",
            expected="real voxels",
            got=f"type {dtype}",
            remedy="split complex or colour data into volumes",
        )
    return voxel_offset(path, header, pair=pair) + math.prod(shape) * int(dtype.itemsize)


def _read_content(
    path: Path, header: Any, stream: IO[bytes], start: bytes, size: int, compressed: bool
) -> bytes:
    """Read up to the last voxel; of a compressed file to the end, which holds the checksum."""
    held = path.stat().st_size * (_DEFLATE_LIMIT if compressed else 1)
    content = b""
    if size <= held:
        content = start + stream.read(size - len(start) + compressed * (LARGEST_REST + 1))
    if len(content) < size:
        shape = " × ".join(map(str, header.get_data_shape()))
        raise InputFileError(
            f"read {path}",
            expected=f"{size:,} bytes for {shape} voxels of {header.get_data_dtype()}",
            got="fewer",
            remedy="the file is cut short",
        )
    if len(content) > size + LARGEST_REST:
        raise InputFileError(
            f"read {path}",
            expected=f"{size:,} bytes",
            got="many more",
            remedy="the header is wrong",
        )
    return content
