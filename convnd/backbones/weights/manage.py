"""What can be done with weights by name: fetch, find, check, remove."""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from convnd.backbones.weights.catalogue import entry_of, state_of
from convnd.backbones.weights.origins import Packaged, Shipped
from convnd.backbones.weights.store import (
    Progress,
    added,
    added_path,
    cache_folder,
    check_hash,
    check_intact,
    claim,
    disk_errors,
    facts,
    silent,
)
from convnd.errors import InputFileError, UsageError

__all__ = ["Status", "fetch", "find", "locate", "remove", "status_of", "verify"]


@dataclass(frozen=True, kw_only=True)
class Status:
    """What is known about weights on this machine.

    Args:
        name: of the weights.
        source: where they come from.
        licence: theirs; empty if nobody said.
        size: of the file if it is here, else of what would be fetched, in bytes.
        path: the file; None if it is not here.
        state: whether it is here and its sha256 is right.
        detail: what is wrong with it.
    """

    name: str
    source: str
    licence: str
    size: int
    path: Path | None
    state: Literal["verified", "damaged", "absent"]
    detail: str = ""


def fetch(name: str, *, progress: Progress = silent) -> Path:
    """The file of the weights called ``name``, fetched and converted where it is not there.

    A damaged one is fetched again.

    Raises:
        OutputFileError: the cache folder or the disk does not take it. Else as `state_of`.
    """
    entry = entry_of(name) if name not in added() else None
    if entry is None or isinstance(entry.origin, Shipped):
        verify(name)
        return added_path(name) if entry is None else entry.path
    with claim(entry.key, progress=progress):
        try:
            check_intact(entry.path)
        except InputFileError:
            with disk_errors(entry.path.parent):
                entry.path.unlink(missing_ok=True)
    state_of(name, required=True, progress=progress)
    return entry.path


def locate(name: str) -> Path | None:
    """The file of the weights called ``name``, or the one they would be made of; None if neither.

    Raises:
        UnknownNameError: no such weights.
    """
    if name in added():
        return added_path(name)
    entry = entry_of(name)
    if entry.path.is_file():
        return entry.path
    return entry.origin.installed() if isinstance(entry.origin, Packaged) else None


def status_of(name: str) -> Status:
    """What is known about the weights called ``name``; reads all of their file.

    Raises:
        UnknownNameError: no such weights.
    """
    path = locate(name)
    about = _facts(path) if name in added() else {}
    entry = None if name in added() else entry_of(name)
    source = about.get("source", "a local file") if entry is None else str(entry.origin)
    licence = "" if entry is None else entry.licence
    if path is None:
        size = 0 if entry is None else entry.origin.size
        return Status(
            name=name, source=source, licence=licence, size=size, path=None, state="absent"
        )
    detail = ""
    try:
        if entry is not None and (path != entry.path or isinstance(entry.origin, Shipped)):
            check_hash(path, entry.origin.sha256)
        else:
            check_intact(path)
    except InputFileError as error:
        detail = str(error)
    return Status(
        name=name,
        source=source,
        licence=licence,
        size=path.stat().st_size,
        path=path,
        state="damaged" if detail else "verified",
        detail=detail,
    )


def find(name: str) -> Path:
    """The file of the weights called ``name``, as `locate`.

    Raises:
        UnknownNameError: no such weights.
        InputFileError: they are not here; the message holds the command that fetches them.
    """
    path = locate(name)
    if path is None:
        raise InputFileError(
            f"weights {name}",
            expected=f"them in {cache_folder()}",
            got="none",
            remedy=f"run: convnd weights get {name}",
        )
    return path


def verify(name: str) -> Path:
    """Read all of the weights called ``name`` and compare their sha256.

    Returns:
        The file.

    Raises:
        UnknownNameError: no such weights.
        InputFileError: they are not here, or damaged.
    """
    path = find(name)
    found = status_of(name)
    if found.state != "verified":
        raise InputFileError(found.detail)
    return path


def remove(name: str) -> list[Path]:
    """Remove the weights called ``name`` from the cache folder, and broken downloads of them.

    What processes that were killed more than a day ago have left there goes as well.

    Returns:
        What was removed.

    Raises:
        UnknownNameError: no such weights.
        UsageError: they are part of this package.
        OutputFileError: the folder does not let go of them.
    """
    if name in added():
        with claim(added_path(name).stem):
            return _unlink([added_path(name)])
    entry = entry_of(name)
    if isinstance(entry.origin, Shipped):
        raise UsageError(
            f"weights {name}",
            expected="weights in the cache folder",
            got="a part of this package",
            remedy="they stay as long as it is installed",
        )
    with claim(entry.key):
        folder = cache_folder()
        # Those of other versions of their source are of no use either.
        kept = set(folder.glob(f"{entry.stem}-*.safetensors"))
        kept |= set(folder.glob(f"{name}-{entry.origin.sha256[:8]}.*"))
        return _unlink(sorted(kept | _abandoned(folder)))


def _facts(path: Path | None) -> dict[str, str]:
    with contextlib.suppress(InputFileError):
        return {} if path is None else facts(path)
    return {}


def _abandoned(folder: Path) -> set[Path]:
    """What killed processes have left under names of their own; nobody works on those for a day."""
    return {
        path for path in folder.glob(".convnd-*") if path.stat().st_mtime < time.time() - 86_400
    }


def _unlink(paths: list[Path]) -> list[Path]:
    for path in paths:
        with disk_errors(path.parent):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    return paths
