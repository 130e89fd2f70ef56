"""The table of file formats: `convnd.io.read` and `convnd.io.write` look up suffixes in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from convnd.errors import InputFileError, UsageError
from convnd.io.conversions import conversion_advice
from convnd.registry import Registry

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = [
    "FORMATS",
    "SIGNAL_METADATA",
    "Format",
    "Reader",
    "Writer",
    "find_format",
    "is_written",
    "readable_format",
    "register",
    "spatial_dims",
    "suffixes",
    "writable_format",
]


class Reader(Protocol):
    """Reads one format."""

    def __call__(self, path: Path, *, max_pixels: int | None) -> Grid:
        """Return the content of a file.

        Errors of libraries go through `convnd.io.reading.translate_errors`.

        Args:
            path: an existing file.
            max_pixels: largest number of positions; None for the default of the format.
        """


class Writer(Protocol):
    """Writes one format."""

    def __call__(
        self, path: Path, grid: Grid, *, provenance: Mapping[str, str], quality: int | None
    ) -> None:
        """Write a grid into an empty temporary file.

        Args:
            path: the temporary file.
            grid: what to write; the writer drops metadata that the format cannot store.
            provenance: how the result was made; empty for none.
            quality: 1 to 100, or None for the default.
        """


SIGNAL_METADATA = (
    "names of leads",
    "units",
    "start time",
    "time of the first sample",
    "annotations",
    "gain and baseline",
    "leads of other rates",
)
"""Metadata of a recording besides values and sampling rate, see `convnd.io.lost_metadata`."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """One file format.

    Args:
        name: common name of the format ("JPEG").
        suffixes: lower case, with the dot; compound ones (".nii.gz") are allowed.
        spatial_dims: number of spatial axes of each such file; None if it varies.
        read: the reader.
        write: the writer; None if the format can only be read.
        companions: suffixes of further files that the writer may put beside its own, with the same
            stem; the writer gets a path with the stem of the result.
        folder: whether it is a folder of files; only one format can be.
        unsupported_metadata: metadata of signals that it cannot store, see
            `convnd.io.lost_metadata`.
        read_provenance: reads the provenance that ``write`` stored in the file; None if the format
            cannot store it, so that it goes into a sidecar file.
    """

    name: str
    suffixes: tuple[str, ...]
    spatial_dims: int | None
    read: Reader
    write: Writer | None
    companions: tuple[str, ...] = ()
    folder: bool = False
    unsupported_metadata: tuple[str, ...] = ()
    read_provenance: Callable[[Path], Mapping[str, str]] | None = None


FORMATS = Registry[Format]("file format")
_BY_SUFFIX: dict[str, Format] = {}


def register(entry: Format) -> Format:
    """Add a format to the table and return it.

    Raises:
        UsageError: its name or one of its suffixes is in the table already.
    """
    for suffix in entry.suffixes:
        if suffix in _BY_SUFFIX:
            raise UsageError(
                f"file format {entry.name}: expected new suffixes, got {suffix!r}, which "
                f"{_BY_SUFFIX[suffix].name} has; choose another"
            )
    FORMATS.add(entry.name, entry)
    _BY_SUFFIX.update(dict.fromkeys(entry.suffixes, entry))
    return entry


def suffixes() -> list[str]:
    """List all suffixes that can be read, in the order of registration."""
    return list(_BY_SUFFIX)


def is_written(suffix: str) -> bool:
    """Tell whether files of this suffix (lower case, with the dot) can be written.

    >>> import convnd.io
    >>> convnd.io.is_written(".png"), convnd.io.is_written(".dcm")
    (True, False)
    """
    entry = _BY_SUFFIX.get(suffix)
    return entry is not None and entry.write is not None


def find_format(path: str | os.PathLike[str]) -> Format | None:
    """Return the format whose longest suffix ends the name, in any case; None if there is none.

    A folder without a known suffix has the format that is a folder.
    """
    name = Path(path).name.lower()
    matches = [suffix for suffix in _BY_SUFFIX if name.endswith(suffix)]
    if not matches and os.path.isdir(path):  # noqa: PTH112 - which never raises
        return next((FORMATS[key] for key in FORMATS if FORMATS[key].folder), None)
    return _BY_SUFFIX[max(matches, key=len)] if matches else None


def spatial_dims(path: str | os.PathLike[str]) -> int | None:
    """Return the number of spatial axes of a file, from its suffix alone; it need not exist.

    Returns:
        None if files of this suffix differ in it (``.npy``).

    Raises:
        InputFileError: the suffix is unknown.

    >>> import convnd.io
    >>> convnd.io.spatial_dims("photo.JPG"), convnd.io.spatial_dims("scan.nii.gz")
    (2, 3)
    """
    return readable_format(path).spatial_dims


def readable_format(path: str | os.PathLike[str]) -> Format:
    """Return the format of a file to read.

    Raises:
        InputFileError: the suffix is unknown.
    """
    entry = find_format(path)
    if entry is None:
        raise InputFileError(
            f"read {path}",
            expected=f"a name ending in {', '.join(_BY_SUFFIX)}",
            got=repr(Path(path).name),
            remedy=conversion_advice(path),
        )
    return entry


def writable_format(path: str | os.PathLike[str]) -> tuple[Format, Writer]:
    """Return the format of a file to write, and its writer.

    Raises:
        UsageError: no format is written under this suffix.
    """
    entry = find_format(path)
    if entry is None or entry.write is None:
        written = [suffix for suffix in _BY_SUFFIX if is_written(suffix)]
        raise UsageError(
            f"write {path}",
            expected=f"a name ending in {', '.join(written)}",
            got=repr(Path(path).name),
            remedy="choose one of these",
        )
    return entry, entry.write
