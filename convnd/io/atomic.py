"""Writes files so that they appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from convnd.errors import ConvndError, OutputExistsError, OutputFileError
from convnd.io.locks import defer_signals

__all__ = [
    "atomic_path",
    "check_disk_space",
    "check_target",
    "disk_full_errors",
    "error_text",
    "exists_error",
    "extend_stem",
    "next_free_path",
    "output_errors",
    "renamed_errors",
    "sync",
    "temporary_folder",
]

_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_BLOCK = 4096
_MAX_TEXT = 200  # characters; some libraries quote the file


def _exists_error(operation: str, got: str, action: str) -> OutputExistsError:
    return OutputExistsError(
        operation,
        expected="a new file",
        got=got,
        remedy=f"choose another name, or {action} (--overwrite)",
    )


def check_target(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Check that a file can be written here, before the work that fills it.

    A file is created in the folder and removed: permission bits say little for root, on a read-only
    mount, or under a quota.

    Args:
        path: the output.
        overwrite: whether an existing file may be replaced.

    Returns:
        The file itself, with symbolic links resolved: the target of a link gets replaced.

    Raises:
        OutputExistsError: it exists and ``overwrite`` is false.
        OutputFileError: its folder is missing, is a file or takes no new files; or the path is a
            folder or a device.

    >>> check_target(".", overwrite=True)
    Traceback (most recent call last):
    ...
    convnd.errors.OutputFileError: write .: expected a file, got a folder; name a file in it
    """
    name = f"write {path}"
    try:
        target = Path(os.path.realpath(path))
        mode = _mode(target)
        if mode is None:
            if Path(path).is_symlink() and not overwrite:
                raise _exists_error(name, f"a link to {target}, which is missing", "write there")
            _check_folder(name, Path(path).parent)
        elif stat.S_ISDIR(mode):
            raise OutputFileError(
                name, expected="a file", got="a folder", remedy="name a file in it"
            )
        elif not stat.S_ISREG(mode):
            raise OutputFileError(
                name, expected="an ordinary file", got="a device or pipe", remedy="write to a file"
            )
        elif not overwrite:
            raise _exists_error(name, "one that exists", "replace it")
        with defer_signals():
            _create_temporary(target).unlink()
    except ConvndError:
        raise
    except (OSError, ValueError) as error:
        raise OutputFileError(
            name,
            expected="a folder that takes new files",
            got=f"'{error_text(error)}'",
            remedy="choose another folder",
        ) from error
    return target


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], *, overwrite: bool) -> Iterator[Path]:
    """Yield a new file in the folder of ``path``; it replaces ``path`` if the block succeeds.

    The data reach the disk before the name does. If the block fails, or is interrupted, the new
    file is removed, and an existing ``path`` keeps its content and mode. The new file gets the mode
    of the file that it replaces, else what the umask leaves.

    Args:
        path: the output.
        overwrite: whether an existing file may be replaced; one that appears while the block
            runs is not replaced either.

    Yields:
        The temporary file: empty, in the same folder and with the same suffixes.

    Raises:
        OutputExistsError: it exists (now, or when the block has ended).
        OutputFileError: as `check_target`; or the disk is full, also if the block notices first.
            Other errors of the block pass unchanged.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder, "a.txt"), overwrite=False) as file:
    ...         _ = file.write_text("all of it")
    ...     Path(folder, "a.txt").read_text(), len(list(Path(folder).iterdir()))
    ('all of it', 1)
    """
    target = check_target(path, overwrite=overwrite)
    mode = _mode(target)
    temporary: Path | None = None
    try:
        with defer_signals(), output_errors(path):
            temporary = _create_temporary(target)
        with renamed_errors(temporary, path), disk_full_errors(path):
            yield temporary
        with output_errors(path):
            check_disk_space(temporary)
            if mode is not None:
                temporary.chmod(stat.S_IMODE(mode))
            sync(temporary)
            _move_into_place(temporary, target, overwrite=overwrite)
    finally:
        with defer_signals():
            if temporary is not None:
                temporary.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not every system can sync a folder
        sync(target.parent)


@contextlib.contextmanager
def renamed_errors(
    temporary: str | os.PathLike[str], path: str | os.PathLike[str]
) -> Iterator[None]:
    """Name the result, rather than a temporary file or folder of ours, in errors of the block."""
    try:
        yield
    except ConvndError as error:
        error.rename(os.fspath(temporary), os.fspath(path))
        error.rename(Path(temporary).name, Path(path).name)
        raise


@contextlib.contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """Make a private folder; it is deleted after the block.

    Args:
        parent: the folder to make it in; None is the system's folder for temporary files.

    Raises:
        OutputFileError: it takes no new folders, or there is none.
    """
    folder: Path | None = None
    try:
        with defer_signals():
            try:
                folder = Path(tempfile.mkdtemp(prefix=".convnd-", dir=parent))
            except OSError as error:
                raise OutputFileError(
                    "temporary folder",
                    expected=f"a place that takes one ({parent or 'TMPDIR'})",
                    got=f"'{error_text(error)}'",
                    remedy="free the disk, or set TMPDIR to a folder that takes files",
                ) from error
        yield folder
    finally:
        with defer_signals():
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def output_errors(
    path: str | os.PathLike[str],
    expected: str = "a disk that takes the file",
    remedy: str = "choose another folder",
) -> Iterator[None]:
    """Turn any error of the system into an `OutputFileError` with this message."""
    try:
        yield
    except ConvndError:
        raise
    except OSError as error:
        raise OutputFileError(
            f"write {path}", expected=expected, got=f"'{error_text(error)}'", remedy=remedy
        ) from error


@contextlib.contextmanager
def disk_full_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn errors of the system for a full disk, a quota or a limit into one of ours.

    Raises:
        OutputFileError: the block raised one of them.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, ConvndError) or error.errno not in _FULL_ERRNOS:
            raise
        raise OutputFileError(
            f"write {path}",
            expected="a disk with room for all of it",
            got=f"'{error_text(error)}'",
            remedy="free some, or choose another folder",
        ) from error


def check_disk_space(path: Path) -> None:
    """Check that the disk has room, by letting a written file grow for a moment.

    Several libraries do not check that the system took their last bytes (numpy's ``tofile``,
    OpenCV, NRRD's, edflib). If it did not, it does not take more bytes either.

    Raises:
        OSError: the disk is full.
    """
    with path.open("r+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            byte_count = file.write(bytes(_BLOCK))
        finally:
            file.truncate(size)
    if byte_count != _BLOCK:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def exists_error(path: Path) -> OutputExistsError:
    """Return the error for a file that another process created during the work."""
    return OutputExistsError(
        f"write {path}",
        expected="a new file",
        got="one made meanwhile by someone else",
        remedy="choose another name, or replace it (--overwrite)",
    )


def error_text(error: BaseException) -> str:
    """Return the message of an error of a library or the system, as one line without paths."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = " ".join(text.split()) or type(error).__name__
    return line if len(line) <= _MAX_TEXT else line[:_MAX_TEXT] + "…"


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _check_folder(name: str, folder: Path) -> None:
    if not folder.exists():
        raise OutputFileError(
            name,
            expected="an existing folder",
            got=f"{str(folder)!r}, which is missing",
            remedy="create it",
        )
    if not folder.is_dir():
        raise OutputFileError(
            name,
            expected="an existing folder",
            got=f"{str(folder)!r}, which is a file",
            remedy="choose another folder",
        )


def _create_temporary(target: Path) -> Path:
    # Files of `tempfile` are private (0600); ours get the permissions of the umask. The name is
    # short, since that of the target may be as long as the system allows.
    suffixes = "".join(target.suffixes[-2:])[-16:]
    path = target.with_name(f".convnd-{os.urandom(6).hex()}{suffixes}")
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return path


def _move_into_place(temporary: Path, target: Path, *, overwrite: bool) -> None:
    if overwrite:
        temporary.replace(target)
        return
    # A link, unlike a rename, fails if the name exists by now.
    try:
        target.hardlink_to(temporary)
    except FileExistsError:
        raise exists_error(target) from None
    except OSError:  # a file system without hard links
        temporary.replace(target)


def sync(path: Path) -> None:
    """Wait until a file or folder has reached the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def extend_stem(path: Path, note: str) -> Path:
    """Return the path with a note added to its stem; the suffix may be compound (``.nii.gz``).

    >>> extend_stem(Path("scan.nii.gz"), "2").name, extend_stem(Path("a.b.png"), "2").name
    ('scan-2.nii.gz', 'a.b-2.png')
    """
    count = 2 if path.suffix.lower() == ".gz" else 1
    ending = "".join(path.suffixes[-count:])
    if not ending.replace(".", "").isalnum():  # 1.2.840_stylized has no suffix
        ending = ""
    return path.with_name(f"{path.name[: len(path.name) - len(ending)]}-{note}{ending}")


def next_free_path(path: Path) -> Path:
    """Return the path itself, or the first of ``name-2``, ``name-3``, … that does not exist."""
    candidate, number = path, 1
    while os.path.lexists(candidate):  # a link to nothing is no free name
        number += 1
        candidate = extend_stem(path, str(number))
    return candidate
