"""The one folder that a page may read and write."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from http import HTTPStatus
from io import BufferedIOBase
from pathlib import Path
from typing import BinaryIO

from convnd import io
from convnd.errors import OutputFileError, UsageError
from convnd_tasks.view.guard import RequestError

__all__ = ["INPUTS", "LARGEST_UPLOAD", "STATE", "ViewFolder", "plain_name"]

LARGEST_UPLOAD = 512 * 2**20
"""Bytes of the largest file that a page may send."""

INPUTS = "inputs"
"""Folder of the files that were sent, below the folder of the results."""

STATE = ".convnd-view"
"""Folder of the jobs, below the folder of the results."""

_COMPANIONS = (".dat", ".atr")
"""Endings of files that another file names: samples and annotations of WFDB."""

_BLOCK = 2**20
_PLAIN = re.compile(r"[^\w.() -]")


class ViewFolder:
    """A folder, and the names of files in it that a page may use.

    Args:
        root: the folder.
        read_only: whether nothing in it may change.

    Raises:
        UsageError: it is no folder.
    """

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        if not root.is_dir():
            raise UsageError(
                str(root), expected="a folder", got="none", remedy="make it, or name another"
            )
        self.root = root.resolve()
        self.read_only = read_only

    def find(self, name: str, *, series: bool = False) -> Path:
        """Return the path of a file in the folder.

        Args:
            name: its path relative to the folder, with slashes.
            series: whether it may be a folder of DICOM files that a page has stored.

        Raises:
            RequestError: the name leads out of the folder, also by a link, or to nothing.
        """
        parts = name.split("/")
        is_plain = all(
            part and part[0] != "." and not {"\\", "\0", ":"} & set(part) for part in parts
        )
        if is_plain:
            path = self.root.joinpath(*parts)
            with contextlib.suppress(OSError, ValueError):
                is_inside = path.resolve(strict=True).is_relative_to(self.root)
                if is_inside and (path.is_file() or (series and self._is_series(path))):
                    return path
        raise RequestError(HTTPStatus.NOT_FOUND, "no such file in the folder of this page")

    def _is_series(self, path: Path) -> bool:
        """Whether a path is a folder directly below that of the inputs, without links."""
        if path.parent != self.root / INPUTS or path.is_symlink() or not path.is_dir():
            return False
        with os.scandir(path) as entries:
            return not any(entry.is_symlink() for entry in entries)

    def name(self, path: Path) -> str:
        """Return the name of a file in the folder, as `find` takes it."""
        return path.resolve().relative_to(self.root).as_posix()

    def files(self) -> list[Path]:
        """List the files directly in the folder that convnd reads, the newest first."""
        suffixes = tuple(suffix for suffix in io.suffixes() if suffix not in _COMPANIONS)
        files: list[tuple[float, Path]] = []
        with contextlib.suppress(OSError):
            for entry in os.scandir(self.root):
                is_file = entry.is_file(follow_symlinks=False)
                if (
                    is_file
                    and not entry.name.startswith(".")
                    and entry.name.lower().endswith(suffixes)
                ):
                    files.append((entry.stat().st_mtime, self.root / entry.name))
        return [path for _, path in sorted(files, reverse=True)]

    def check_writable(self) -> None:
        """Refuse a request that changes something, if the folder is read-only."""
        if self.read_only:
            raise RequestError(HTTPStatus.FORBIDDEN, "this page only shows results (--read-only)")

    def make(self, name: str) -> Path:
        """Make a folder in the folder, if there is none, and return its path."""
        self.check_writable()
        path = self.root / name
        try:
            path.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputFileError(
                str(path), expected="a folder", got=error.strerror, remedy="choose another folder"
            ) from error
        if path.resolve() != self.root / name:
            raise RequestError(HTTPStatus.FORBIDDEN, f"{name} leads out of the folder")
        return path

    def store(self, name: str, body: BufferedIOBase, length: int) -> Path:
        """Store a file that was sent; one with the same name and contents stays as it is.

        Args:
            name: the file's name at its sender.
            body: the stream, of which ``length`` bytes are read.
            length: number of bytes.

        Raises:
            RequestError: the file is too large, its name has no known ending, or it ends early.
        """
        if length > LARGEST_UPLOAD:
            raise RequestError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"a file of more than {LARGEST_UPLOAD >> 20} MiB; put it into the folder instead",
            )
        plain = plain_name(name)
        if not plain.lower().endswith((*io.suffixes(), *_COMPANIONS)):
            raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a file of an unknown kind")
        folder = self.make(INPUTS)
        with _temporary_file(folder) as (file, temporary):
            digest = hashlib.sha256()
            while length > 0:
                block = body.read(min(length, _BLOCK))
                if not block:
                    raise RequestError(HTTPStatus.BAD_REQUEST, "the file ended early")
                length -= len(block)
                digest.update(block)
                file.write(block)
            file.flush()
            return _place(temporary, folder / plain, digest.hexdigest())


def plain_name(name: str) -> str:
    """Return the last part of a name, of letters, digits, dots, brackets, spaces and hyphens.

    >>> plain_name("scans/a?b.dcm"), plain_name("../.x")
    ('a_b.dcm', 'x')
    """
    return _PLAIN.sub("_", name.replace("\\", "/").rpartition("/")[2]).lstrip(". ")[-120:]


def _place(temporary: Path, path: Path, digest: str) -> Path:
    """Give a complete file a free name; the same file under its name serves as well."""
    if path.is_file() and not path.is_symlink() and io.digest(path) == digest:
        return path
    target = io.next_free_path(path)
    os.link(temporary, target)  # never replaces a file
    return target


@contextlib.contextmanager
def _temporary_file(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Open a temporary file in a folder, and remove that name at the end."""
    number, name = tempfile.mkstemp(dir=folder, prefix=".upload-")
    path = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            yield file, path
    finally:
        path.unlink(missing_ok=True)
