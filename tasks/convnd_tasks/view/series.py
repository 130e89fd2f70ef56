"""Folders of DICOM files that a page stores."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from io import BufferedIOBase
from pathlib import Path

from convnd import io
from convnd.errors import UsageError
from convnd.io.volumes.dicom_dataset import is_dicom
from convnd_tasks.view.folder import INPUTS, LARGEST_UPLOAD, ViewFolder, plain_name
from convnd_tasks.view.guard import RequestError

__all__ = ["MOST_FILES", "copy_series", "receive_series"]

MOST_FILES = 4096
"""Most files of a folder that is sent or copied."""

_LONGEST_LIST = 2**17
_BLOCK = 2**20
_START = 256  # bytes that tell whether a file is a DICOM file


def receive_series(folder: ViewFolder, name: str, body: BufferedIOBase, length: int) -> Path:
    """Store the files of a folder that was sent, in a folder below that of the inputs.

    Args:
        folder: the folder of the page.
        name: the folder's name at its sender.
        body: the stream: a line with the list of the files' lengths as JSON, and the files.
        length: number of bytes of the stream.

    Raises:
        RequestError: the files are too many or too large, or others than the list says.
    """
    line = body.readline(min(_LONGEST_LIST, length))
    try:
        sizes = json.loads(line)
    except (ValueError, RecursionError):
        sizes = None
    is_list = isinstance(sizes, list) and all(type(size) is int and size >= 0 for size in sizes)
    if not is_list or length != len(line) + sum(sizes):
        raise RequestError(HTTPStatus.BAD_REQUEST, "a list of the files' lengths is needed")

    def pieces(size: int) -> Iterator[bytes]:
        while size > 0:
            block = body.read(min(size, _BLOCK))
            if not block:
                raise RequestError(HTTPStatus.BAD_REQUEST, "the folder ended early")
            size -= len(block)
            yield block

    return _store(folder, name, sizes, map(pieces, sizes))


def copy_series(folder: ViewFolder, path: Path) -> Path:
    """Copy the files of a folder on this computer, as `receive_series` does; links are left out.

    Args:
        folder: the folder of the page.
        path: the folder with the files; those in folders below are not taken.

    Raises:
        UsageError: it holds no DICOM files.
        RequestError: the files are too many or too large.
    """
    with os.scandir(path) as entries:
        paths = [Path(entry) for entry in entries if entry.is_file(follow_symlinks=False)]
    files = [file for file in sorted(paths) if _starts_as_dicom(file)]
    if not files:
        raise UsageError(
            str(path),
            expected="a folder of DICOM files, or files",
            got="another folder",
            remedy="name its files, or show its results with -o",
        )
    contents = (iter([file.read_bytes()]) for file in files)
    return _store(folder, path.name, [file.stat().st_size for file in files], contents)


def _starts_as_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return is_dicom(file.read(_START))


def _store(
    folder: ViewFolder, name: str, sizes: list[int], files: Iterable[Iterable[bytes]]
) -> Path:
    """Write files into a new folder, which appears when it is complete."""
    if not 0 < len(sizes) <= MOST_FILES:
        text = f"a folder of {len(sizes)} files; 1 to {MOST_FILES} are taken"
        raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
    if sum(sizes) > LARGEST_UPLOAD:
        text = f"a folder of more than {LARGEST_UPLOAD >> 20} MiB; use the command line"
        raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
    inputs = folder.make(INPUTS)
    temporary = Path(tempfile.mkdtemp(dir=inputs, prefix=".upload-"))
    try:
        for number, pieces in enumerate(files):
            with (temporary / f"{number:05d}.dcm").open("xb") as target:
                target.writelines(pieces)
        return temporary.rename(io.next_free_path(inputs / (plain_name(name) or "series")))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
