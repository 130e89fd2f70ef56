"""Checks and error handling that all readers share."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convnd.errors import (
    DependencyError,
    InputFileError,
    ResourceError,
    UsageError,
    import_failure,
)
from convnd.io.atomic import error_text
from convnd.io.missing import foreign_name_error, missing_file_error
from convnd.io.silence import silence_libraries

__all__ = [
    "LIMIT_HINT",
    "check_file",
    "check_limit",
    "check_partner",
    "check_path",
    "check_positions",
    "import_optional",
    "size_limit",
    "too_large_error",
    "translate_errors",
]

LIMIT_HINT = "allow more (convnd --max-pixels N, or max_pixels in Python)"
"""Remedy for files beyond a limit on size."""

# Errors of the system for a file that disappears while it is read; damaged bytes cause others.
_IO_ERRNOS = {
    getattr(errno, name)
    for name in (
        *("ENOENT", "EIO", "ESTALE", "ENXIO", "ENODEV", "ETIMEDOUT", "ENOTCONN", "ECONNRESET"),
        *("ECONNABORTED", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "EREMOTEIO"),
    )
    if hasattr(errno, name)
}


def check_file(path: str | os.PathLike[str]) -> None:
    """Refuse anything but an ordinary file with content, before a library opens it.

    Raises:
        InputFileError: missing, empty, a folder, a device, or without permission to read.
    """
    name = f"read {path}"
    try:
        status = Path(path).stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputFileError(
                name, expected="a file", got="a folder", remedy="name a file in it"
            )
        if not stat.S_ISREG(status.st_mode):
            # Opening a pipe could wait forever; reading a device could never end.
            raise InputFileError(
                name,
                expected="an ordinary file",
                got="a device or pipe",
                remedy="save to a file first",
            )
        if status.st_size == 0:
            raise InputFileError(
                name, expected="content", got="an empty file", remedy="save it again"
            )
        with Path(path).open("rb"):
            pass
    except InputFileError:
        raise
    except FileNotFoundError as error:
        raise missing_file_error(path) from error
    except PermissionError as error:
        raise InputFileError(
            name,
            expected="a file that may be read",
            got="'permission denied'",
            remedy="change its permissions",
        ) from error
    except (OSError, ValueError) as error:
        raise InputFileError(
            name,
            expected="a file that can be opened",
            got=f"'{error_text(error)}'",
            remedy="check the path",
        ) from error


def check_partner(path: Path, partner: Path) -> None:
    """Refuse a further file of an input if it is a link out of the folder, or not ordinary.

    An archive can contain such links. A private file of the user would become part of the result.

    Args:
        path: the input.
        partner: the file beside it.

    Raises:
        InputFileError: it is such a link, not an ordinary file, missing or empty.
    """
    if partner.resolve().parent != path.resolve().parent:
        raise InputFileError(
            f"read {path}",
            expected=f"{partner.name} in the folder of {path.name}",
            got="a link to another one",
            remedy="copy both into one folder",
        )
    check_file(partner)


def check_path(name: str) -> None:
    """Refuse names that no file can have, and paths that cannot be followed.

    Raises:
        UsageError: the name is empty, for example from a shell variable that is not set.
        InputFileError: it is too long, holds a NUL, lies in a folder that may not be entered, or is
            an address of the network or ``-``.
    """
    if not name:
        raise UsageError(
            "input", expected="the name of a file", got="an empty one", remedy="type one"
        )
    try:
        os.lstat(name)
    except (FileNotFoundError, NotADirectoryError) as error:
        foreign = foreign_name_error(name)
        if foreign is not None:
            raise foreign from error
    except (OSError, ValueError) as error:
        raise InputFileError(
            f"read {name if len(name) < 300 else name[:300] + '…'}",
            expected="a path that can be followed",
            got=f"'{error_text(error)}'",
            remedy="check it",
        ) from error


@contextlib.contextmanager
def translate_errors(path: Path, what: str) -> Iterator[None]:
    """Turn any error that a library raises for a file into one of ours.

    Args:
        path: the file, for the message.
        what: what the file should be, with its article ("a picture").

    Raises:
        InputFileError: the library raised an error of any class; for damaged bytes, decoders raise
            ``SyntaxError``, ``struct.error``, ``KeyError`` and others.
        ResourceError: the library raised ``MemoryError``.
        DependencyError: a package is missing, or cannot be loaded.
    """
    try:
        yield
    except (InputFileError, ResourceError, DependencyError):
        raise
    except ImportError as error:
        raise import_failure(error) from error
    except MemoryError as error:
        raise ResourceError(
            f"read {path}",
            expected=f"memory for the whole of {what}",
            got="none",
            remedy="free some or make the file smaller",
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _IO_ERRNOS:
            raise InputFileError(
                f"read {path}",
                expected="a file that stays while it is read",
                got=f"'{error_text(error)}'",
                remedy="check the disk or the network, and try again",
            ) from error
        raise InputFileError(
            f"read {path}",
            expected=str(what),
            got=f"a damaged or unsupported file ('{error_text(error)}')",
            remedy="save it again",
        ) from error


def too_large_error(path: Path) -> InputFileError:
    """Return the error for a file that asks for more memory than its decoder may take."""
    return InputFileError(
        f"read {path}",
        expected="a file that can be held in memory",
        got="one that asks for more than there is",
        remedy="it is damaged, or save it smaller",
    )


def size_limit(limit: int | None, default: int) -> int:
    """Return the number of positions that a file may have.

    Args:
        limit: the caller's choice; None for ``CONVND_MAX_PIXELS`` of the environment.
        default: used if that variable is not set.

    Raises:
        UsageError: the variable is not a number above 0.
    """
    if limit is not None:
        return limit
    from convnd.shapes import is_count_text  # a decoding child never gets here

    text = os.environ.get("CONVND_MAX_PIXELS", "")
    if text and not (is_count_text(text) and int(text) > 0):
        raise UsageError(
            "CONVND_MAX_PIXELS",
            expected="a whole number above 0",
            got=repr(text[:40]),
            remedy="unset it",
        )
    return int(text) if text else default


def check_limit(path: Path, count: int, limit: int, what: str, remedy: str) -> None:
    """Refuse a file that holds more of something than is read.

    Args:
        path: the file, for the message.
        count: the number that the file holds.
        limit: largest number that is accepted.
        what: plural noun for what is counted.
        remedy: what the user can do.

    Raises:
        InputFileError: ``count`` is larger than ``limit``.
    """
    if count > limit:
        raise InputFileError(
            f"read {path}", expected=f"at most {limit:,} {what}", got=f"{count:,}", remedy=remedy
        )


def check_positions(path: Path, shape: tuple[int, ...], limit: int) -> None:
    """Refuse a grid because of its size, before anything is decoded.

    Raises:
        InputFileError: the grid has no positions, or more than ``limit``.
    """
    size = " × ".join(str(extent) for extent in shape)
    count = 1
    for extent in shape:
        count *= extent
    if min(shape, default=1) < 1:
        raise InputFileError(
            f"read {path}",
            expected="at least one sample along every axis",
            got=size,
            remedy="save it again",
        )
    if count > limit:
        raise InputFileError(
            f"read {path}",
            expected=f"at most {limit:,} pixels",
            got=f"{size} = {count:,}",
            remedy=f"make it smaller, or {LIMIT_HINT}",
        )


def import_optional(package: str, what: str, extra: str = "signals") -> Any:
    """Import a package that only some formats need.

    Args:
        package: name of the module to import.
        what: the operation that needs it, for the message.
        extra: the optional dependencies of this package that include it.

    Raises:
        DependencyError: it is not installed, and the message holds the command that installs it;
            or it cannot be loaded.
    """
    try:
        with silence_libraries():
            return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise DependencyError(
            str(what),
            expected=f"the package {package.split('.')[0]}",
            got="none installed",
            remedy=f'pip install "convnd-toolkit[{extra}]"',
        ) from error
    except ImportError as error:
        raise import_failure(error) from error
