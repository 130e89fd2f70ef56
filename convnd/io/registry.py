"""Which file format serves a name: the table that `read` and `write` consult."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from convnd.errors import (
    ConvndError,
    InputFileError,
    OutputFileError,
    ResourceError,
    ShapeError,
    UsageError,
)
from convnd.io.atomic import (
    atomic_path,
    check_disk_space,
    check_target,
    error_text,
    exists_error,
    folder_lock,
)
from convnd.io.provenance import check_sidecar, read_sidecar, remove_sidecar, write_sidecar
from convnd.io.reading import check_file, translate_errors
from convnd.registry import Registry

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = [
    "FORMATS",
    "SIGNAL_METADATA",
    "Format",
    "Reader",
    "Writer",
    "check_output",
    "dry_run_write",
    "find_format",
    "is_written",
    "read",
    "read_provenance",
    "register",
    "spatial_dims",
    "suffixes",
    "write",
]

NO_PROVENANCE: Mapping[str, str] = MappingProxyType({})


class Reader(Protocol):
    """Reads one format. ``max_pixels`` is None for the format's own default."""

    def __call__(self, path: Path, *, max_pixels: int | None) -> Grid:
        """The file's content; a library's own errors go through `translate_errors`."""


class Writer(Protocol):
    """Writes one format into a temporary file, which exists and is empty."""

    def __call__(
        self, path: Path, grid: Grid, *, provenance: Mapping[str, str], quality: int | None
    ) -> None:
        """Write ``grid``; what the format has no place for is left out."""


SIGNAL_METADATA = (
    "names of leads",
    "units",
    "start time",
    "annotations",
    "gain and baseline",
    "channels of other rates",
)
"""What a recording knows beside its values and its sampling rate, see `convnd.io.lost_metadata`."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """One file format.

    Args:
        name: as its owners call it ("JPEG").
        suffixes: lower case, with the dot; compound ones (".nii.gz") are allowed.
        spatial_dims: the rank of every such file; None when the suffix serves several.
        read: the reader.
        write: the writer; None when the format can only be read.
        companions: suffixes of further files that the writer may put beside its own, under the
            same stem; the file itself is named as the result will be.
        folder: whether it is a folder of files; there can be one such format.
        unsupported_metadata: what of a signal it has no place for, see `convnd.io.lost_metadata`.
        provenance: reads back the provenance that ``write`` stored in the file; None if the
            format has no place for it, so that it lies in a sidecar file.
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
    """Add a format; returns it.

    Raises:
        UsageError: its name or one of its suffixes is taken.
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
    """All suffixes that can be read, in the order of registration."""
    return list(_BY_SUFFIX)


def is_written(suffix: str) -> bool:
    """Whether files of this suffix (lower case, with the dot) can be written.

    >>> import convnd.io
    >>> convnd.io.is_written(".png"), convnd.io.is_written(".dcm")
    (True, False)
    """
    entry = _BY_SUFFIX.get(suffix)
    return entry is not None and entry.write is not None


def find_format(path: str | os.PathLike[str]) -> Format | None:
    """The format whose longest suffix ends the name, whatever its case; None if there is none.

    A folder whose name tells nothing is of the one format that has folders.
    """
    name = Path(path).name.lower()
    fitting = [suffix for suffix in _BY_SUFFIX if name.endswith(suffix)]
    if not fitting and os.path.isdir(path):  # noqa: PTH112 - which never raises
        return next((FORMATS[each] for each in FORMATS if FORMATS[each].folder), None)
    return _BY_SUFFIX[max(fitting, key=len)] if fitting else None


def spatial_dims(path: str | os.PathLike[str]) -> int | None:
    """Rank of a file's grid, told by its suffix alone: the file is not opened, nor need it exist.

    Returns:
        None when files of this suffix come in several ranks (``.npy``).

    Raises:
        InputFileError: the suffix is unknown.

    >>> import convnd.io
    >>> convnd.io.spatial_dims("photo.JPG"), convnd.io.spatial_dims("scan.nii.gz")
    (2, 3)
    """
    return _readable(path).spatial_dims


def read(path: str | os.PathLike[str], *, max_pixels: int | None = None) -> Grid:
    """Read a file as a grid, with all that is needed to write it back.

    Args:
        path: an existing file; its suffix selects the format.
        max_pixels: largest number of grid positions (pixels, voxels, samples) to accept, told
            from the file's header before anything is decoded. None: the format's own limit,
            which guards against files that declare more than they hold.

    Returns:
        Values as the format's module says, on the CPU.

    Raises:
        InputFileError: missing, unreadable, damaged, too large, or not what its suffix says.
        ResourceError: there is not enough memory for it.
    """
    entry = _readable(path)
    if not entry.folder:
        check_file(path)
    return entry.read(Path(path), max_pixels=max_pixels)


def read_provenance(path: str | os.PathLike[str]) -> dict[str, str]:
    """How a result was made, as `write` has kept it; of a folder of pictures, that of the first.

    Returns:
        Nothing where there is no record.

    Raises:
        InputFileError: the file is missing, damaged, or of no known kind.
    """
    from convnd.io.provenance import is_provenance

    found = Path(path)
    if found.is_dir():
        found = next((each for each in sorted(found.iterdir()) if find_format(each)), found)
    entry = _readable(found)
    check_file(found)
    with translate_errors(found, "a file with a record"):
        held = (
            read_sidecar(found) if entry.read_provenance is None else entry.read_provenance(found)
        )
    return {key: value for key, value in held.items() if is_provenance(key, value)}


def check_output(
    path: str | os.PathLike[str], *, overwrite: bool = False, provenance: bool = False
) -> None:
    """Prove, before any work, that a result can be written here.

    Args:
        path: the output to be; its suffix selects the format.
        overwrite: whether an existing file may be replaced.
        provenance: whether a record will be kept with it.

    Raises:
        OutputExistsError: it exists and ``overwrite`` is false, or another file lies where its
            record is to go.
        UsageError: no format is written under its suffix.
        OutputFileError: its folder is missing, is a file or takes no new files; or the path is a
            folder or a device.
    """
    entry, _ = _writable(path)
    check_target(path, overwrite=overwrite)
    for suffix in entry.companions:
        check_target(Path(path).with_suffix(suffix), overwrite=overwrite)
    if provenance and entry.read_provenance is None:
        check_sidecar(Path(path))


def dry_run_write(path: str | os.PathLike[str], grid: Grid) -> None:
    """Prove, before any work, that a format holds such data: a corner is written and thrown away.

    Args:
        path: the output to be; nothing appears there.
        grid: of the result's kind; of its values only counts whether there are gaps (NaN).

    Raises:
        ConvndError: see `write`.
    """
    corner, gaps = grid.values, bool(grid.values.isnan().any())
    for axis in range(2, corner.ndim):
        corner = corner.narrow(axis, 0, min(2, corner.shape[axis]))
    corner = corner.nan_to_num()
    if gaps and corner.shape[-1] > 1:
        corner[..., -1] = float("nan")
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / Path(path).name, dataclasses.replace(grid, values=corner))


def write(
    path: str | os.PathLike[str],
    grid: Grid,
    *,
    overwrite: bool = False,
    provenance: Mapping[str, str] | None = None,
    quality: int | None = None,
) -> None:
    """Write a grid so that the file appears whole or not at all.

    Args:
        path: the output; its suffix selects the format.
        grid: what to write; its header, when it came from a file of the same kind, is restored.
        overwrite: whether an existing file may be replaced.
        provenance: how the result was made, kept inside the file where the format has a place for
            text, and in ``<name>.json`` beside it elsewhere (CSV, EDF, npy, BMP).
        quality: 1 to 100, for the formats that trade quality for size (JPEG, WebP, AVIF; 95 when
            None); the others have none to lose and do not look at it.

    Raises:
        OutputExistsError: it exists and ``overwrite`` is false.
        OutputFileError: as `check_output`; the disk is full; or the format cannot hold the grid.
        ShapeError: the format holds another rank, or other channels.
        NumericalError: the values are not finite, and were when they were read.
        UsageError: no format is written under its suffix, or ``quality`` is outside 1 … 100.
    """
    entry, writer = _writable(path)
    if quality is not None and not 1 <= quality <= 100:
        raise UsageError(
            f"write {path}: expected quality from 1 to 100, got {quality}; 95 is the default"
        )
    if entry.spatial_dims is not None and grid.ndim != entry.spatial_dims:
        raise ShapeError(
            f"write {path}: expected {entry.spatial_dims} spatial dims for {entry.name}, got "
            f"{grid.ndim} (shape {grid.shape}); choose a suffix that holds them, such as .npz"
        )
    kept = NO_PROVENANCE if provenance is None else provenance
    aside = kept and entry.read_provenance is None
    if aside:
        check_sidecar(Path(path))
    if not entry.companions:
        with contextlib.ExitStack() as stack:
            with atomic_path(path, overwrite=overwrite) as temporary, _translate_write_errors(path):
                writer(temporary, grid, provenance=kept, quality=quality)
                if entry.read_provenance is None:  # its sidecar must not lie beside another's
                    stack.enter_context(folder_lock(Path(path).parent))
            if aside:
                write_sidecar(Path(path), kept)
            elif entry.read_provenance is None:
                remove_sidecar(Path(path))
        return
    check_output(path, overwrite=overwrite)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / Path(path).name
        with _translate_write_errors(path):
            writer(made, grid, provenance=kept, quality=quality)
            for each in Path(folder).iterdir():
                check_disk_space(each)
        _place_all(made, Path(path), entry.companions, overwrite=overwrite)


def _place_all(made: Path, path: Path, companions: Sequence[str], *, overwrite: bool) -> None:
    """Copy a file with its companions to where they belong: all of them or none.

    Companions of a replaced file that the new one does not have go with it.
    """
    whole = {path.with_name(each.name): each
             for each in (made, *map(made.with_suffix, companions))}  # fmt: skip
    with contextlib.ExitStack() as held:
        with contextlib.ExitStack() as stack:
            # All are filled before any takes its place; the last to be opened is the first to do
            # so, and the file itself comes last, so that it never names what is not there.
            for target, file in whole.items():
                if file.is_file():
                    temporary = stack.enter_context(atomic_path(target, overwrite=overwrite))
                    with _translate_write_errors(path):
                        shutil.copyfile(file, temporary)
            held.enter_context(folder_lock(path.parent))
            if not overwrite and any(target.exists() for target in whole):
                raise exists_error(path)
        for target, file in whole.items():
            if not file.is_file():
                target.unlink(missing_ok=True)


@contextlib.contextmanager
def _translate_write_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except ConvndError:
        raise
    except MemoryError as error:
        raise ResourceError(
            f"write {path}: expected memory to encode the result, got none; free some"
        ) from error
    except (OSError, ValueError, OverflowError) as error:
        raise OutputFileError(
            f"write {path}: expected to encode and store the result, got '{error_text(error)}'; "
            "choose another folder or format"
        ) from error


def _readable(path: str | os.PathLike[str]) -> Format:
    entry = find_format(path)
    if entry is None:
        raise InputFileError(
            f"read {path}: expected a name ending in {', '.join(_BY_SUFFIX)}, "
            f"got {Path(path).name!r}; convert the file"
        )
    return entry


def _writable(path: str | os.PathLike[str]) -> tuple[Format, Writer]:
    entry = find_format(path)
    if entry is None or entry.write is None:
        known = [suffix for suffix, entry in _BY_SUFFIX.items() if entry.write is not None]
        raise UsageError(
            f"write {path}: expected a name ending in {', '.join(known)}, "
            f"got {Path(path).name!r}; choose one of these"
        )
    return entry, entry.write
