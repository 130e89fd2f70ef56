"""The table of file formats: `convnd.io.read` and `convnd.io.write` look up suffixes in it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from convnd.errors import ConvndError, InputFileError, UsageError
from convnd.io.conversions import conversion_advice
from convnd.io.missing import missing_file_error
from convnd.registry import Registry

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = [
    "FORMATS",
    "SIGNAL_METADATA",
    "Format",
    "Reader",
    "Writer",
    "files_read",
    "files_written",
    "find_format",
    "is_folder_name",
    "is_written",
    "known_suffix",
    "may_hold",
    "parts_of",
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
        is_series: whether a file also holds a series of such grids, which is read with a channel
            for each frame, see `convnd.io.volumes.series`.
        read: the reader.
        write: the writer; None if the format can only be read.
        companions: suffixes of further files that the writer may put beside its own, with the same
            stem; the writer gets a path with the stem of the result.
        parts: lists the further files that an existing file is read from; None if there are none.
        folder: whether it is a folder of files; only one format can be.
        unsupported_metadata: what it cannot store of signals and pictures besides values, see
            `convnd.io.lost_metadata`.
        read_provenance: reads the provenance that ``write`` stored in the file; None if the format
            cannot store it, so that it goes into a sidecar file.
        recognizes: tells from the first bytes of a file without a known suffix whether it is of
            this format; None if only suffixes tell.
        check: checks, before any work, that a grid can be written under a name; None to try it
            with a corner of the grid.
        count_axes: reads the number of spatial axes from an existing file; None if the format
            decides it.
        video: whether its grids are pictures in time, and no volumes.
    """

    name: str
    suffixes: tuple[str, ...]
    spatial_dims: int | None
    read: Reader
    write: Writer | None
    is_series: bool = False
    companions: tuple[str, ...] = ()
    parts: Callable[[Path], Sequence[Path]] | None = None
    folder: bool = False
    unsupported_metadata: tuple[str, ...] = ()
    read_provenance: Callable[[Path], Mapping[str, str]] | None = None
    recognizes: Callable[[bytes], bool] | None = None
    check: Callable[[Path, Grid], None] | None = None
    count_axes: Callable[[Path], int] | None = None
    video: bool = False

    def holds(self, spatial_dims: int | None, videos: bool = True) -> bool:
        """Whether files hold grids of so many axes, or a series whose frames are one of them."""
        own = self.spatial_dims
        if own is None or spatial_dims is None or (self.video and not videos):
            return videos or not self.video
        return spatial_dims == own or (self.is_series and spatial_dims == own + 1)


_START = 256  # bytes that formats are recognized by

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
                f"file format {entry.name}",
                expected="new suffixes",
                got=f"{suffix!r}, which {_BY_SUFFIX[suffix].name} has",
                remedy="choose another",
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

    A folder has the format that is a folder, whatever its name; a file without a known suffix, the
    format that recognizes its first bytes.
    """
    if os.path.isdir(path):  # noqa: PTH112 - which never raises
        return next((FORMATS[key] for key in FORMATS if FORMATS[key].folder), None)
    return _format_of_name(path) or _format_of_content(path)


def known_suffix(path: str | os.PathLike[str]) -> str:
    """Return the longest suffix of a known format that ends a name, in small letters; or "".

    >>> import convnd.io
    >>> known_suffix("scan.NII.gz"), known_suffix("notes.docx")
    ('.nii.gz', '')
    """
    name = Path(path).name.lower()
    return max((suffix for suffix in _BY_SUFFIX if name.endswith(suffix)), key=len, default="")


def _format_of_name(path: str | os.PathLike[str]) -> Format | None:
    return _BY_SUFFIX.get(known_suffix(path))


def _format_of_content(path: str | os.PathLike[str]) -> Format | None:
    start = b""
    with contextlib.suppress(OSError, ValueError):
        if os.path.isfile(path):  # noqa: PTH113 - which never raises
            with Path(path).open("rb") as file:
                start = file.read(_START)
    for key in FORMATS:
        recognizes = FORMATS[key].recognizes
        if start and recognizes is not None and recognizes(start):
            return FORMATS[key]
    return None


def parts_of(path: str | os.PathLike[str]) -> list[Path]:
    """List the further files that an existing file is read from, such as its voxels.

    Raises:
        InputFileError: its header cannot be read.
    """
    entry = find_format(path)
    return [] if entry is None or entry.parts is None else list(entry.parts(Path(path)))


def files_read(path: str | os.PathLike[str]) -> list[Path]:
    """List an existing input and all files that it is read from, if its header can be read."""
    file, parts = Path(path), list[Path]()
    with contextlib.suppress(ConvndError, OSError):
        parts = [part for part in file.iterdir() if part.is_file()] if file.is_dir() else []
        parts += parts_of(path)
    return [file, *parts]


def files_written(path: str | os.PathLike[str]) -> list[Path]:
    """List an output and the further files that its format may put beside it."""
    entry = _format_of_name(path)
    companions = () if entry is None else entry.companions
    return [Path(path), *(Path(path).with_suffix(suffix) for suffix in companions)]


def spatial_dims(path: str | os.PathLike[str]) -> int | None:
    """Return the number of spatial axes of a file, from its suffix; it need not exist.

    If the format allows several numbers, an existing file is opened to find out.

    Returns:
        None if the number varies and the file does not exist (``.npy``).

    Raises:
        InputFileError: the suffix is unknown.

    >>> import convnd.io
    >>> convnd.io.spatial_dims("photo.JPG"), convnd.io.spatial_dims("scan.nii.gz")
    (2, 3)
    """
    entry = readable_format(path)
    if entry.count_axes is not None and os.path.isfile(path):  # noqa: PTH113 - which never raises
        return entry.count_axes(Path(path))
    return entry.spatial_dims


def may_hold(path: str | os.PathLike[str], dim: int) -> bool:
    """Return whether a file may hold a number of spatial axes, from its suffix.

    A series of volumes holds four, too. A format that allows several numbers is opened if it
    exists.

    Raises:
        InputFileError: the suffix is unknown.

    >>> import convnd.io
    >>> may_hold("scan.nii", 3), may_hold("scan.nii", 4), may_hold("scan.nrrd", 4)
    (True, True, False)
    """
    entry = readable_format(path)
    if entry.count_axes is not None and os.path.isfile(path):  # noqa: PTH113 - which never raises
        return entry.count_axes(Path(path)) == dim
    return entry.holds(dim)


def readable_format(path: str | os.PathLike[str]) -> Format:
    """Return the format of a file to read.

    Raises:
        InputFileError: the suffix is unknown, and no file of the name has a known content.
    """
    entry = find_format(path)
    if entry is None:
        if not os.path.exists(path):  # noqa: PTH110 - which never raises
            raise missing_file_error(path)
        raise InputFileError(
            f"read {path}",
            expected="a known suffix, such as .png, .jpg, .csv, .edf, .nii.gz, .dcm, .npy or .mp4",
            got=repr(Path(path).name),
            remedy=f"{conversion_advice(path)} (convnd formats lists all formats)",
        )
    return entry


def is_folder_name(path: str | os.PathLike[str]) -> bool:
    """Whether an output is a folder of DICOM files: its name has no suffix of a known format.

    Folders of scans are often named after UIDs, which contain points.

    >>> is_folder_name("ct_stylized"), is_folder_name("1.2.840_stylized"), is_folder_name("a.foo")
    (True, True, False)
    """
    looks_like_a_file = re.fullmatch(r"\.[A-Za-z]{1,6}[0-9]?", Path(path).suffix) is not None
    return _format_of_name(path) is None and not looks_like_a_file


def writable_format(
    path: str | os.PathLike[str],
    spatial_dims: int | None = None,
    *,
    dicom: bool = False,
    videos: bool = True,
) -> tuple[Format, Writer]:
    """Return the format of a file to write, and its writer.

    Args:
        path: the output; its suffix selects the format.
        spatial_dims: number of spatial axes that the format has to hold, or None for any.
        dicom: whether the data come from DICOM files, and may become one such file or a folder.
        videos: whether the data may be written as a video.

    Raises:
        UsageError: no format for so many axes is written under this suffix.
    """
    entry = _format_of_name(path)
    if dicom and (is_folder_name(path) or (entry is not None and entry.name == "DICOM")):
        entry = next((FORMATS[key] for key in FORMATS if FORMATS[key].folder), None)
    if entry is None or entry.write is None or not entry.holds(spatial_dims, videos):
        written = {end: known for end, known in _BY_SUFFIX.items() if is_written(end)}
        suffixes = [end for end, known in written.items() if known.holds(spatial_dims, videos)]
        name = Path(path).name
        usual = [end for end in suffixes if _BY_SUFFIX[end].spatial_dims == spatial_dims]
        remedy = f"for example {Path(name).stem or 'result'}{(usual or suffixes)[0]}"
        if spatial_dims is not None and is_folder_name(name):
            remedy += f", or {path}{os.sep} for a folder"
        raise UsageError(
            f"write {path}",
            expected=f"a name ending in {', '.join(suffixes)}",
            got=repr(name),
            remedy=remedy,
        )
    return entry, entry.write
