"""The folder that weights are kept in: whole files only, one process at a time.

A kept file is one of safetensors that carries the sha256 of its own tensors, so that a file and
what is known about it cannot disagree.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import filelock
import platformdirs
import safetensors
import torch
from safetensors.torch import load_file, save_file

from convnd.backbones.weights.convert import State
from convnd.errors import ConvndError, InputFileError, OutputFileError, ResourceError
from convnd.io.atomic import atomic_path, error_text

__all__ = [
    "Progress",
    "added",
    "added_path",
    "cache_folder",
    "cached",
    "check_hash",
    "check_intact",
    "check_space",
    "claim",
    "disk_errors",
    "facts",
    "is_offline",
    "keep",
    "sha256_of",
    "silent",
]

Progress = Callable[[str, int, int | None], None]
"""Is told what is going on, how many bytes are there, and of how many where that is known."""

_SPARE = 16 << 20
"""Bytes of a disk that stay free."""

_PATIENCE = 3600.0
"""Seconds to wait for another process: longer than a slow download of the largest file."""


def silent(_what: str, _done: int, _total: int | None) -> None:
    """The `Progress` that nobody watches."""


def cache_folder() -> Path:
    """Folder for converted and downloaded weights.

    ``CONVND_HOME`` overrides the platform's own (on Linux ``~/.cache/convnd``); ``CONVND_CACHE``,
    its earlier name, is still read.
    """
    override = os.environ.get("CONVND_HOME") or os.environ.get("CONVND_CACHE")
    return Path(override) if override else Path(platformdirs.user_cache_dir("convnd"))


def added() -> list[str]:
    """Names of the weights that the user has added to the cache folder."""
    return sorted(
        path.stem.removeprefix("own-") for path in cache_folder().glob("own-*.safetensors")
    )


def added_path(name: str) -> Path:
    """Where weights that the user adds as ``name`` are kept."""
    return cache_folder() / f"own-{name}.safetensors"


def is_offline() -> bool:
    """Whether ``CONVND_OFFLINE`` forbids the network; empty, ``0``, ``no`` and ``false`` do not."""
    return os.environ.get("CONVND_OFFLINE", "").lower() not in ("", "0", "no", "false")


@contextlib.contextmanager
def claim(
    name: str, *, required: bool = True, progress: Progress = silent
) -> Iterator[Path | None]:
    """The cache folder, for one process at a time as far as ``name`` goes.

    The system takes the lock back from a process that ends in whatever way.

    Args:
        name: what is going to be read, made or removed.
        required: whether the work is pointless without the folder.
        progress: is told when another process has to be waited for.

    Yields:
        The folder; None where it cannot be written to and is not required.

    Raises:
        OutputFileError: it is required and cannot be written to.
        ResourceError: another process has held ``name`` for an hour.
    """
    folder = cache_folder()
    lock: filelock.BaseFileLock | None = None
    try:
        # In a folder of their own: a lock that were removed after use would no longer be one for
        # a process that waits on it, so they stay.
        (folder / "locks").mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / "locks" / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            progress(f"waiting for another process that fetches {name}", 0, None)
            lock.acquire(timeout=_PATIENCE)
    except filelock.Timeout as error:
        raise ResourceError(
            f"weights {name}",
            expected="the other process that fetches them to end",
            got="none in an hour",
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


def cached(
    name: str,
    make: Callable[[Path | None], State],
    *,
    required: bool = False,
    progress: Progress = silent,
    about: Mapping[str, str] | None = None,
) -> State:
    """The weights called ``name`` out of the cache folder, made and put there when missing.

    A damaged file is made anew. Of several processes one makes it, the others wait.

    Args:
        name: file name without suffix; must change when the source does.
        make: gives the weights; gets the cache folder, or None where it cannot be written to.
        required: whether a folder that cannot be written to stops the job, not only costs time.
        progress: is told what is going on.
        about: facts to keep with them.

    Raises:
        OutputFileError: the folder takes no file, and ``required``. What ``make`` raises passes.
    """
    path = cache_folder() / f"{name}.safetensors"
    with contextlib.suppress(OSError, safetensors.SafetensorError):
        return load_file(path)
    with claim(name, required=required, progress=progress) as folder:
        with contextlib.suppress(OSError, safetensors.SafetensorError):
            return load_file(path)  # made by another process meanwhile
        state = make(folder)
        if folder is not None:
            try:
                keep(path, state, about or {})
            except OutputFileError:
                if required:
                    raise
        return state


def keep(path: Path, state: State, about: Mapping[str, str]) -> None:
    """Write weights with the sha256 of their tensors, whole or not at all.

    Raises:
        OutputFileError: the folder or the disk does not take them.
    """
    check_space(path.parent, sum(each.nbytes for each in state.values()))
    try:
        with atomic_path(path, overwrite=True) as part:
            mode = part.stat().st_mode
            save_file(state, part, metadata={**about, "sha256": _tensors_sha256(state)})
            part.chmod(mode)  # safetensors puts a private file there
    except safetensors.SafetensorError as error:
        raise _disk(path.parent, error_text(error)) from error


def facts(path: Path) -> dict[str, str]:
    """What `keep` wrote about the weights in a file; empty for one by somebody else.

    Raises:
        InputFileError: there is no such file, or it is damaged.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise _damaged(path, error_text(error)) from error


def check_intact(path: Path) -> None:
    """Compare the tensors in a kept file with the sha256 that was taken when they were written.

    Raises:
        InputFileError: it is missing, damaged, or carries no sha256.
    """
    recorded = facts(path).get("sha256", "none")
    try:
        found = _tensors_sha256(load_file(path))
    except (OSError, safetensors.SafetensorError) as error:
        raise _damaged(path, error_text(error)) from error
    if found != recorded:
        raise _damaged(path, f"tensors of sha256 {found[:12]}… where {recorded[:12]} is recorded")


def check_hash(path: Path, sha256: str) -> None:
    """Compare a file with its published sha256.

    Args:
        path: the file.
        sha256: hexadecimal, all of it or its first digits.

    Raises:
        InputFileError: it cannot be read, or its sha256 is another.
    """
    found = sha256_of(path)
    if not found.startswith(sha256):
        raise InputFileError(
            "weights",
            expected=f"sha256 {sha256[:12]}… for {path.name}",
            got=f"{found[:12]}…",
            remedy="the file is damaged or another version, fetch it again",
        )


def sha256_of(path: Path) -> str:
    """The sha256 of a file, hexadecimal.

    Raises:
        InputFileError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputFileError(
            "weights",
            expected="a file",
            got=f"{path}: {error_text(error)}",
            remedy="fetch it again",
        ) from error


def check_space(folder: Path, size: int) -> None:
    """See that a disk has room, before it is filled.

    Raises:
        OutputFileError: it has less free than ``size`` bytes and a margin.
    """
    try:
        free = shutil.disk_usage(folder).free
    except OSError:  # the disk says nothing, and will say so itself when it is full
        return
    if free < size + _SPARE:
        raise _disk(folder, f"{free / 2**20:.0f} MiB free where {size / 2**20:.0f} are needed")


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn what the system says about a disk into our error."""
    try:
        yield
    except ConvndError:
        raise
    except OSError as error:
        raise _disk(folder, error_text(error)) from error


def _disk(folder: Path, got: str) -> OutputFileError:
    return OutputFileError(
        "weights",
        expected=f"a disk that takes them in {folder}",
        got=f"'{got}'",
        remedy="free some of it, or set CONVND_HOME to a folder elsewhere",
    )


def _damaged(path: Path, got: str) -> InputFileError:
    return InputFileError(
        "weights",
        expected=f"intact ones in {path}",
        got=f"'{got}'",
        remedy=("remove them and get them again (convnd weights remove, convnd weights get)"),
    )


def _tensors_sha256(state: State) -> str:
    """The sha256 of names, types, shapes and values; how a library lays them out does not count."""
    found = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].contiguous()
        found.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
