"""Reading and writing files of every registered format."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convnd.errors import ConvndError, OutputFileError, ResourceError, ShapeError, UsageError
from convnd.io.atomic import (
    atomic_path,
    check_disk_space,
    check_target,
    error_text,
    exists_error,
    renamed_errors,
    temporary_folder,
)
from convnd.io.atomic_folder import atomic_folder, check_folder_target
from convnd.io.locks import folder_lock
from convnd.io.provenance import (
    check_sidecar,
    is_provenance,
    read_sidecar,
    remove_sidecar,
    write_sidecar,
)
from convnd.io.reading import check_file, translate_errors
from convnd.io.registry import (
    Format,
    Writer,
    find_format,
    is_folder_name,
    readable_format,
    writable_format,
)
from convnd.io.volumes.series import axis_to_frames

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["check_output", "dry_run_write", "is_dicom_output", "read", "read_provenance", "write"]


def read(path: str | os.PathLike[str], *, max_pixels: int | None = None) -> Grid:
    """Read a file as a grid, with all that is needed to write it back.

    Args:
        path: an existing file; its suffix selects the format.
        max_pixels: largest number of grid positions (pixels, voxels, samples) to accept; the file's
            header is checked before anything is decoded. None: the limit of the format, which
            guards against files that declare more than they hold.

    Returns:
        Values on the CPU; their units and range are documented in the module of the format.

    Raises:
        InputFileError: missing, unreadable, damaged, too large, or not what its suffix says.
        ResourceError: there is not enough memory for it.
    """
    entry = readable_format(path)
    if not entry.folder:
        check_file(path)
    return entry.read(Path(path), max_pixels=max_pixels)


def read_provenance(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the provenance that `write` stored; a folder has that of its first picture.

    Returns:
        Empty if the file has no provenance.

    Raises:
        InputFileError: the file is missing, damaged, or of an unknown format.
    """
    file = Path(path)
    if file.is_dir():
        file = next((child for child in sorted(file.iterdir()) if find_format(child)), file)
    entry = readable_format(file)
    check_file(file)
    with translate_errors(file, "a file with a record"):
        read_text = read_sidecar if entry.read_provenance is None else entry.read_provenance
        text = read_text(file) or read_sidecar(file)  # an animated WebP has a sidecar
    return {key: value for key, value in text.items() if is_provenance(key, value)}


def check_output(
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    provenance: bool = False,
    dicom: bool = False,
    spatial_dims: int | None = None,
    videos: bool = True,
) -> None:
    """Check, before any work, that a result can be written here.

    Args:
        path: the output; its suffix selects the format.
        overwrite: whether an existing file may be replaced.
        provenance: whether provenance will be stored with it.
        dicom: whether the result is a volume from DICOM files, which can go into a folder.
        spatial_dims: number of spatial axes of the result, or None if it is not known yet.
        videos: whether the result may be written as a video.

    Raises:
        OutputExistsError: it exists and ``overwrite`` is false, or another file has the name of its
            sidecar.
        UsageError: no format for so many axes is written under its suffix.
        OutputFileError: its folder is missing, is a file or takes no new files; or the path is a
            folder or a device.
    """
    entry, _ = writable_format(path, spatial_dims, dicom=dicom, videos=videos)
    if entry.folder and is_folder_name(path):
        check_folder_target(path, overwrite=overwrite)
        return
    check_target(path, overwrite=overwrite)
    for suffix in entry.companions:
        check_target(Path(path).with_suffix(suffix), overwrite=overwrite)
    if provenance and entry.read_provenance is None:
        check_sidecar(Path(path))


def is_dicom_output(path: str | os.PathLike[str], grid: Grid) -> bool:
    """Whether `write` makes DICOM files: the grid was read from such, and the name allows it."""
    return writable_format(path, dicom="dicom" in grid.header)[0].folder


def dry_run_write(path: str | os.PathLike[str], grid: Grid) -> None:
    """Check, before any work, that a format can hold such data: write a corner to a temporary file.

    Args:
        path: the output; nothing appears there.
        grid: has the shape and metadata of the result; of its values, only gaps (NaN) matter.

    Raises:
        ConvndError: see `write`.
    """
    entry, _ = writable_format(path, dicom="dicom" in grid.header)
    if entry.check is not None:
        entry.check(Path(path), grid)
        return
    corner, has_gaps = grid.values, bool(grid.values.isnan().any())
    for axis in range(2, corner.ndim):
        corner = corner.narrow(axis, 0, min(2, corner.shape[axis]))
    corner = corner.nan_to_num()
    if has_gaps and corner.shape[-1] > 1:
        corner[..., -1] = float("nan")
    with temporary_folder() as folder:
        trial = folder / Path(path).name
        with renamed_errors(trial, path):
            write(trial, dataclasses.replace(grid, values=corner))


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
        grid: what to write; metadata that it has from a file of the same format is restored.
        overwrite: whether an existing file may be replaced.
        provenance: how the result was made; stored in the file if the format has a place for text,
            else in ``<name>.json`` beside it (CSV, EDF, npy, BMP).
        quality: 1 to 100, for formats that trade quality for size (JPEG, WebP, AVIF); None for 95.
            Other formats ignore it.

    Raises:
        OutputExistsError: it exists and ``overwrite`` is false.
        OutputFileError: as `check_output`; the disk is full; or the format cannot hold the grid.
        ShapeError: the format holds another number of axes or channels.
        NumericalError: the values are not finite, and were when they were read.
        UsageError: no format is written under its suffix, or ``quality`` is outside 1 … 100.
    """
    entry, writer = writable_format(path, dicom="dicom" in grid.header)
    if quality is not None and not 1 <= quality <= 100:
        raise UsageError(
            f"write {path}",
            expected="quality from 1 to 100",
            got=str(quality),
            remedy="95 is the default",
        )
    if entry.is_series and grid.ndim == 4 and grid.values.shape[1] == 1:
        grid = axis_to_frames(grid)
    if entry.spatial_dims is not None and grid.ndim != entry.spatial_dims:
        raise ShapeError(
            f"write {path}",
            expected=f"{entry.spatial_dims} spatial dims for {entry.name}",
            got=f"{grid.ndim} (shape {grid.shape})",
            remedy="choose a suffix that holds them, such as .npz",
        )
    text = dict(provenance or {})
    if entry.folder and is_folder_name(path):
        with atomic_folder(path, overwrite=overwrite) as temporary, _translate_write_errors(path):
            writer(temporary, grid, provenance=text, quality=quality)
        return
    if not entry.companions:
        _write_one(Path(path), grid, entry, writer, text, overwrite=overwrite, quality=quality)
        return
    if text and entry.read_provenance is None:
        check_sidecar(Path(path))
    check_output(path, overwrite=overwrite)
    with temporary_folder() as folder:
        temporary = folder / Path(path).name
        with renamed_errors(temporary, path), _translate_write_errors(path):
            writer(temporary, grid, provenance=text, quality=quality)
            for file in folder.iterdir():
                check_disk_space(file)
        _place_all(temporary, Path(path), entry.companions, overwrite=overwrite)


def _write_one(
    path: Path,
    grid: Grid,
    entry: Format,
    writer: Writer,
    provenance: Mapping[str, str],
    *,
    overwrite: bool,
    quality: int | None,
) -> None:
    """Write a format of one file, with its sidecar if the format cannot store provenance."""
    needs_sidecar = entry.read_provenance is None
    if provenance and needs_sidecar:
        check_sidecar(path)
    with contextlib.ExitStack() as stack:
        with atomic_path(path, overwrite=overwrite) as temporary, _translate_write_errors(path):
            writer(temporary, grid, provenance=provenance, quality=quality)
            if needs_sidecar:  # another writer must not put its file beside our sidecar
                stack.enter_context(folder_lock(path.parent))
        if provenance and needs_sidecar:
            write_sidecar(path, provenance)
        elif needs_sidecar:
            remove_sidecar(path)


def _place_all(temporary: Path, path: Path, companions: Sequence[str], *, overwrite: bool) -> None:
    """Copy a file and its companions to their places: all of them or none.

    Companions of a replaced file that the new one does not have are removed.
    """
    sources = {
        path.with_name(file.name): file
        for file in (temporary, *map(temporary.with_suffix, companions))
    }
    with contextlib.ExitStack() as lock:
        with contextlib.ExitStack() as stack:
            # All are filled before any takes its place. The last to be opened takes its place
            # first, and the file itself last, so that it never names a file that does not exist.
            for target, file in sources.items():
                if file.is_file():
                    copy = stack.enter_context(atomic_path(target, overwrite=overwrite))
                    with _translate_write_errors(path):
                        shutil.copyfile(file, copy)
            lock.enter_context(folder_lock(path.parent))
            if not overwrite and any(target.exists() for target in sources):
                raise exists_error(path)
        for target, file in sources.items():
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
            f"write {path}", expected="memory to encode the result", got="none", remedy="free some"
        ) from error
    except (OSError, ValueError, OverflowError) as error:
        raise OutputFileError(
            f"write {path}",
            expected="to encode and store the result",
            got=f"'{error_text(error)}'",
            remedy="choose another folder or format",
        ) from error
