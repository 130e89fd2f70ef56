"""Writes folders of files so that they appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from convnd.errors import OutputExistsError, OutputFileError
from convnd.io.atomic import (
    check_disk_space,
    check_target,
    disk_full_errors,
    output_errors,
    renamed_errors,
    sync,
)
from convnd.io.locks import defer_signals, folder_lock

__all__ = ["atomic_folder", "check_folder", "check_folder_target", "merged_folder"]

_NUMBERED = re.compile(r"[0-9]+\.dcm")
_EXPECTED, _REMEDY = "a folder that takes new files", "choose another (--output)"


def check_folder(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Check that files can be written into this folder, before the work that makes them.

    Args:
        path: the output, a folder or a free name.
        overwrite: whether the folder may hold files already.

    Returns:
        The folder itself, with symbolic links resolved.

    Raises:
        OutputExistsError: it holds files and ``overwrite`` is false.
        OutputFileError: it takes no new files.
    """
    target = Path(os.path.realpath(path))
    if not os.path.isdir(target):  # noqa: PTH112 - False where the name is too long
        return check_target(path, overwrite=False)
    _check_empty(path, target, overwrite=overwrite)
    check_target(target / ".convnd-test", overwrite=True)
    return target


def _check_empty(
    path: str | os.PathLike[str], folder: Path, *, overwrite: bool, temporary: Path | None = None
) -> None:
    if not overwrite and any(file != temporary for file in folder.iterdir()):
        raise OutputExistsError(
            f"write {path}",
            expected="a new or empty folder",
            got="one with files in it",
            remedy="choose another name, or replace them (--overwrite)",
        )


def check_folder_target(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Check that a folder of files can be written here, before the work that fills it.

    Args:
        path: the output, a new or empty folder.
        overwrite: whether a folder that holds nothing but numbered DICOM files, as a result does,
            may be replaced.

    Returns:
        The folder itself, with symbolic links resolved.

    Raises:
        OutputExistsError: it holds files and ``overwrite`` is false.
        OutputFileError: it holds other files; or the folder that it goes into is missing or takes
            no new files.
    """
    target = Path(os.path.realpath(path))
    if not os.path.isdir(target):  # noqa: PTH112 - False where the name is too long
        return check_target(path, overwrite=False)
    _check_empty(path, target, overwrite=overwrite)
    names = sorted(file.name for file in target.iterdir())
    other_names = [name for name in names if not _NUMBERED.fullmatch(name)]
    if other_names:
        raise OutputFileError(
            f"write {path}",
            expected="a folder of numbered DICOM files to replace",
            got=f"{other_names[0]!r} among them",
            remedy="choose another name",
        )
    check_target(target.with_name(".convnd-test"), overwrite=True)
    return target


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str], *, overwrite: bool) -> Iterator[Path]:
    """Yield a new folder beside ``path``; it replaces ``path`` if the block succeeds.

    Args:
        path: the output, see `check_folder_target`.
        overwrite: whether an existing folder of results may be replaced.

    Yields:
        The temporary folder, empty.

    Raises:
        OutputExistsError: it exists (now, or when the block has ended).
        OutputFileError: see `check_folder_target`; or the disk is full.
    """
    target = check_folder_target(path, overwrite=overwrite)
    old = target.with_name(f".convnd-{os.urandom(6).hex()}")
    try:
        with _new_folder(path, target.parent) as temporary:
            yield temporary
            with output_errors(path):
                for file in temporary.iterdir():
                    check_disk_space(file)
                    sync(file)
            with defer_signals(), folder_lock(target.parent):
                check_folder_target(path, overwrite=overwrite)
                with output_errors(path):
                    if target.exists():
                        target.rename(old)
                    temporary.rename(target)
    finally:
        with defer_signals():
            if old.exists() and not target.exists():
                old.rename(target)
            shutil.rmtree(old, ignore_errors=True)
    with contextlib.suppress(OSError):  # not every system can sync a folder
        sync(target.parent)


@contextlib.contextmanager
def merged_folder(path: str | os.PathLike[str], *, overwrite: bool) -> Iterator[Path]:
    """Yield a new folder, whose files move into the folder ``path`` if the block succeeds.

    Args:
        path: the output, a folder or a free name.
        overwrite: whether the folder may hold files. Those of the same names are replaced, and all
            others stay.

    Yields:
        The temporary folder, empty.

    Raises:
        OutputExistsError: it holds files (now, or when the block has ended), and ``overwrite`` is
            false.
        OutputFileError: it takes no new files.
    """
    target = check_folder(path, overwrite=overwrite)
    # The folder itself may be a mount point; files can only be moved within one file system.
    with _new_folder(path, target if target.exists() else target.parent) as temporary:
        yield temporary
        with output_errors(path, _EXPECTED, _REMEDY):
            if not target.exists():
                temporary.rename(target)
                return
            with folder_lock(target):
                _check_empty(path, target, overwrite=overwrite, temporary=temporary)
                for file in sorted(file for file in temporary.rglob("*") if file.is_file()):
                    destination = target / file.relative_to(temporary)
                    destination.parent.mkdir(parents=True, exist_ok=True)
                    file.replace(destination)


@contextlib.contextmanager
def _new_folder(path: str | os.PathLike[str], parent: Path) -> Iterator[Path]:
    """Yield a temporary folder for the files of ``path``; what is left of it is removed."""
    temporary = parent / f".convnd-{os.urandom(6).hex()}"
    try:
        with output_errors(path, _EXPECTED, _REMEDY), defer_signals():
            temporary.mkdir()
        with renamed_errors(temporary, path), disk_full_errors(path):
            yield temporary
    finally:
        with defer_signals():
            shutil.rmtree(temporary, ignore_errors=True)
