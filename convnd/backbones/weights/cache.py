"""The cache folder for weights: complete files only, written by one process at a time.

Each file is in safetensors format and carries the sha256 of its own tensors in its metadata.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import filelock
import platformdirs
import safetensors
from safetensors.torch import load_file, save_file

from convnd.backbones.weights.conversion import State
from convnd.backbones.weights.integrity import check_finite, damaged_error, tensors_sha256
from convnd.errors import ConvndError, InputFileError, OutputFileError, ResourceError
from convnd.io.atomic import atomic_path, error_text
from convnd.io.reading import check_file

__all__ = [
    "Progress",
    "cache_folder",
    "check_online",
    "check_space",
    "is_offline",
    "load_intact",
    "load_or_make",
    "lock_weights",
    "no_progress",
    "read_metadata",
    "save",
    "translate_disk_errors",
    "user_names",
    "user_path",
]

Progress = Callable[[str, int, int | None], None]
"""Callback for progress: a text that names the step, bytes done, and total bytes if known."""

_RESERVE = 16 << 20
"""Bytes of the disk that must stay free."""

_LOCK_TIMEOUT = 3600.0
"""Seconds to wait for another process; longer than a slow download of the largest file."""


def no_progress(_text: str, _done: int, _total: int | None) -> None:
    """Show nothing; the default `Progress`."""


def cache_folder() -> Path:
    """Return the folder for downloaded and converted weights.

    It is ``CONVND_HOME``, or the platform's cache folder, which on Linux is ``~/.cache/convnd``.
    """
    override = os.environ.get("CONVND_HOME")
    return Path(override) if override else Path(platformdirs.user_cache_dir("convnd"))


def user_names() -> list[str]:
    """List the names of the weights that the user has added to the cache folder."""
    paths = cache_folder().glob("user-*.safetensors")
    return sorted(path.stem.removeprefix("user-") for path in paths)


def user_path(name: str) -> Path:
    """Return the file in the cache folder for weights that the user adds as ``name``."""
    return cache_folder() / f"user-{name}.safetensors"


def is_offline() -> bool:
    """Whether ``CONVND_OFFLINE`` forbids the network: any value but ``0``, ``no`` and ``false``."""
    return os.environ.get("CONVND_OFFLINE", "").lower() not in ("", "0", "no", "false")


def check_online(name: str, remedy: str) -> None:
    """Check that the network may be used.

    Args:
        name: name of the weights, for the message.
        remedy: the command that downloads them, for the message.

    Raises:
        InputFileError: ``CONVND_OFFLINE`` forbids it.
    """
    if is_offline():
        raise InputFileError(
            f"weights {name}",
            expected="them in the cache folder",
            got=("none, and the network is switched off (CONVND_OFFLINE, --offline)"),
            remedy=f"with a network, run: {remedy}",
        )


@contextlib.contextmanager
def lock_weights(
    name: str, *, required: bool = True, progress: Progress = no_progress
) -> Iterator[Path | None]:
    """Lock the files of ``name`` in the cache folder against other processes.

    The system releases the lock of a process that ends or is killed.

    Args:
        name: name of the weights that are read, made or removed.
        required: whether a folder that cannot be written to is an error.
        progress: callback that is called if another process holds the lock.

    Yields:
        The folder; None if it cannot be written to and is not required.

    Raises:
        OutputFileError: the folder is required and cannot be written to.
        ResourceError: another process has held the lock for an hour.
    """
    folder = cache_folder()
    lock: filelock.BaseFileLock | None = None
    try:
        # Lock files stay, in a folder of their own: removing one would break the lock for a
        # process that already waits for it.
        (folder / "locks").mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / "locks" / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            progress(f"waiting for another process that fetches {name}", 0, None)
            lock.acquire(timeout=_LOCK_TIMEOUT)
    except filelock.Timeout as error:
        raise ResourceError(
            f"weights {name}",
            expected="the download by another process to end",
            got="no end within an hour",
            remedy=f"end it, or set CONVND_HOME to another folder than {folder}",
        ) from error
    except (OSError, NotImplementedError) as error:
        if required:
            raise OutputFileError(
                f"weights {name}",
                expected="a cache folder that takes files",
                got=f"{folder}: '{error_text(error)}'",
                remedy="set CONVND_HOME to another folder",
            ) from error
        lock = None
    try:
        yield None if lock is None else folder
    finally:
        if lock is not None:
            lock.release()


def load_or_make(
    name: str,
    make: Callable[[Path | None], State],
    *,
    required: bool = False,
    progress: Progress = no_progress,
    metadata: Mapping[str, str] | None = None,
) -> State:
    """Load weights from the cache folder; make and save them if they are missing or damaged.

    If several processes ask for the same weights, one makes them and the others wait.

    Args:
        name: file name without suffix; must differ for different sources.
        make: function that makes the weights. Its argument is the cache folder, or None if it
            cannot be written to.
        required: whether a folder that cannot be written to is an error. If not, the weights are
            made again next time.
        progress: callback for progress.
        metadata: entries to save with the weights.

    Raises:
        OutputFileError: the folder cannot be written to, and ``required`` is set.
        Exception: any error of ``make``.
    """
    path = cache_folder() / f"{name}.safetensors"
    with contextlib.suppress(InputFileError):
        return load_intact(path)
    with lock_weights(name, required=required, progress=progress) as folder:
        with contextlib.suppress(InputFileError):
            return load_intact(path)  # another process made them while this one waited
        state = make(folder)
        check_finite(path, state)
        if folder is not None:
            try:
                save(path, state, metadata or {})
            except OutputFileError:
                if required:
                    raise
        return state


def save(path: Path, state: State, metadata: Mapping[str, str]) -> None:
    """Write weights and the sha256 of their tensors, completely or not at all.

    Args:
        path: the file.
        state: tensors by name.
        metadata: entries to save with them.

    Raises:
        OutputFileError: the folder cannot be written to, or the disk is full.
    """
    check_space(path.parent, sum(tensor.nbytes for tensor in state.values()))
    try:
        with atomic_path(path, overwrite=True) as part:
            mode = part.stat().st_mode
            save_file(state, part, metadata={**metadata, "sha256": tensors_sha256(state)})
            part.chmod(mode)  # safetensors makes its files private
    except safetensors.SafetensorError as error:
        raise _disk_error(path.parent, error_text(error)) from error


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata that `save` wrote; empty for a file that another program wrote.

    Raises:
        InputFileError: the file is missing or damaged.
    """
    try:
        check_file(path)
        with safetensors.safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise damaged_error(path, error_text(error)) from error


def load_intact(path: Path) -> State:
    """Load a file that `save` wrote, and compare its tensors with the sha256 in its metadata.

    Raises:
        InputFileError: the file is missing or damaged, records no sha256, or holds values that
            are not finite.
    """
    recorded_sha256 = read_metadata(path).get("sha256", "none")
    try:
        state = load_file(path)
    except Exception as error:  # safetensors has its own errors, and torch may lack a type
        raise damaged_error(path, error_text(error)) from error
    sha256 = tensors_sha256(state)
    if sha256 != recorded_sha256:
        raise damaged_error(
            path, f"tensors of sha256 {sha256[:12]}… where {recorded_sha256[:12]} is recorded"
        )
    check_finite(path, state)
    return state


def check_space(folder: Path, size: int) -> None:
    """Check that the disk has room for a file.

    Args:
        folder: folder of the file.
        size: bytes of the file.

    Raises:
        OutputFileError: less than ``size`` bytes and a reserve of 16 MiB are free.
    """
    try:
        free = shutil.disk_usage(folder).free
    except OSError:  # free space is unknown; a full disk raises an error when the file is written
        return
    if free < size + _RESERVE:
        raise _disk_error(
            folder, f"{free / 2**20:.0f} MiB free where {size / 2**20:.0f} are needed"
        )


@contextlib.contextmanager
def translate_disk_errors(folder: Path) -> Iterator[None]:
    """Return a context that raises an `OutputFileError` for an error of the operating system."""
    try:
        yield
    except ConvndError:
        raise
    except OSError as error:
        raise _disk_error(folder, error_text(error)) from error


def _disk_error(folder: Path, got: str) -> OutputFileError:
    return OutputFileError(
        "weights",
        expected=f"a disk with room for them in {folder}",
        got=f"'{got}'",
        remedy="free some of it, or set CONVND_HOME to a folder elsewhere",
    )
