"""What every reader does before and around a library that decodes a file."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from convnd.errors import DependencyError, InputFileError, ResourceError, UsageError
from convnd.io.atomic import error_text
from convnd.shapes import is_count

__all__ = [
    "LIMIT_HINT",
    "check_file",
    "check_positions",
    "size_limit",
    "too_large_error",
    "translate_errors",
]

LIMIT_HINT = "allow more (convnd --max-pixels N, or max_pixels in Python)"
"""Remedy where a limit on size was met."""

# What the system says of a file that was there a moment ago; that of a file's bytes is other.
_IO_ERRNOS = {
    getattr(errno, name)
    for name in (
        *("ENOENT", "EIO", "ESTALE", "ENXIO", "ENODEV", "ETIMEDOUT", "ENOTCONN", "ECONNRESET"),
        *("ECONNABORTED", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "EREMOTEIO"),
    )
    if hasattr(errno, name)
}


def check_file(path: str | os.PathLike[str]) -> None:
    """Refuse what is no ordinary file with something in it, before a library opens it.

    Raises:
        InputFileError: missing, empty, a folder, a device, or not to be read.
    """
    name = f"read {path}"
    try:
        status = Path(path).stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputFileError(f"{name}: expected a file, got a folder; name a file in it")
        if not stat.S_ISREG(status.st_mode):
            # Opening a pipe could wait for ever, reading a device never end.
            raise InputFileError(
                f"{name}: expected an ordinary file, got a device or pipe; save to a file first"
            )
        if status.st_size == 0:
            raise InputFileError(f"{name}: expected content, got an empty file; save it again")
        with Path(path).open("rb"):
            pass
    except InputFileError:
        raise
    except FileNotFoundError as error:
        raise InputFileError(
            f"{name}: expected an existing file, got none; check the spelling"
        ) from error
    except PermissionError as error:
        raise InputFileError(
            f"{name}: expected a file that may be read, got 'permission denied'; "
            "change its permissions"
        ) from error
    except (OSError, ValueError) as error:
        raise InputFileError(
            f"{name}: expected a file that can be opened, got '{error_text(error)}'; check the path"
        ) from error


@contextlib.contextmanager
def translate_errors(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a library raises on a file's bytes into our one-line errors.

    Args:
        path: the file, for the message.
        what: what it should have been, with its article ("a picture").

    Raises:
        InputFileError: the library raised anything at all: on damaged bytes, decoders raise
            errors of any class (``SyntaxError``, ``struct.error``, ``KeyError``, …).
        ResourceError: the library raised ``MemoryError``.
    """
    try:
        yield
    except (InputFileError, ResourceError, DependencyError):
        raise
    except MemoryError as error:
        raise ResourceError(
            f"read {path}: expected memory for the whole of {what}, got none; "
            "free some or make the file smaller"
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _IO_ERRNOS:
            raise InputFileError(
                f"read {path}: expected a file that stays while it is read, got "
                f"'{error_text(error)}'; check the disk or the network, and try again"
            ) from error
        raise InputFileError(
            f"read {path}: expected {what}, got a damaged or unsupported file "
            f"('{error_text(error)}'); save it again"
        ) from error


def too_large_error(path: Path) -> InputFileError:
    """The error for a file that asks for more memory than its decoder is given."""
    return InputFileError(
        f"read {path}: expected a file that can be held in memory, got one that asks for more than "
        "there is; it is damaged, or save it smaller"
    )


def size_limit(asked: int | None, usual: int) -> int:
    """How many positions a file may have: what is asked for, ``CONVND_MAX_PIXELS``, or the usual.

    Raises:
        UsageError: the variable of the environment is no number above 0.
    """
    if asked is not None:
        return asked
    said = os.environ.get("CONVND_MAX_PIXELS", "")
    if said and not (is_count(said) and int(said) > 0):
        raise UsageError(
            f"CONVND_MAX_PIXELS: expected a whole number above 0, got {said!r}; correct it"
        )
    return int(said) if said else usual


def check_positions(path: Path, shape: tuple[int, ...], limit: int) -> None:
    """Refuse a grid for its size before anything is decoded.

    Raises:
        InputFileError: it has no positions, or more than ``limit``.
    """
    size = " × ".join(str(extent) for extent in shape)
    count = 1
    for extent in shape:
        count *= extent
    if min(shape, default=1) < 1:
        raise InputFileError(
            f"read {path}: expected at least one sample along every axis, got {size}; save it again"
        )
    if count > limit:
        raise InputFileError(
            f"read {path}: expected at most {limit:,} pixels, got {size} = {count:,}; "
            f"make it smaller, or {LIMIT_HINT}"
        )
