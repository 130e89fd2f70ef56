"""Work in progress in a file: written whole or not at all, and read back bit by bit."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from convnd.errors import InputFileError, UsageError
from convnd.io.atomic import atomic_path

__all__ = ["fingerprint", "load_checkpoint", "save_checkpoint"]

_FORMAT = "convnd checkpoint 1"


def save_checkpoint(path: str | os.PathLike[str], state: object, mark: str) -> None:
    """Write a state; an older checkpoint stays valid until the new one is on the disk.

    Args:
        path: replaced when it exists.
        state: tensors, numbers, strings and None in dicts and lists, nested.
        mark: `fingerprint` of what the work depends on.

    Raises:
        OutputFileError: see `convnd.io.atomic.atomic_path`.
    """
    tensors: dict[str, Tensor] = {}
    plan = json.dumps(_packed(state, tensors))
    with atomic_path(path, overwrite=True) as file:
        save_file(tensors, file, {"format": _FORMAT, "mark": mark, "state": plan})


def load_checkpoint(path: str | os.PathLike[str], mark: str) -> Any:
    """The state that `save_checkpoint` wrote.

    Args:
        path: the file.
        mark: must be the one that it was written with.

    Raises:
        InputFileError: it is missing, damaged, or no checkpoint.
        UsageError: it belongs to other inputs or options.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            found = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if found.get("format") != _FORMAT:
            raise ValueError("another kind of file")
        plan = json.loads(found["state"])
        if found["mark"] != mark:
            raise UsageError(
                f"resume: expected the checkpoint of these inputs and options, got that of others "
                f"in {Path(path).name}; give the same ones, or remove it to start anew"
            )
        return _unpacked(plan, tensors)
    except (OSError, safetensors.SafetensorError, ValueError, KeyError) as error:
        if isinstance(error, UsageError):
            raise
        raise InputFileError(
            f"resume: expected a whole checkpoint in {path}, got {error}; remove it to start anew"
        ) from error


def fingerprint(parts: Iterable[object]) -> str:
    """The sha256 of tensors, by type, shape and every bit, and of the text of all else.

    >>> fingerprint([torch.zeros(2), 1]) == fingerprint([torch.zeros(2), 1])
    True
    >>> fingerprint([torch.zeros(2), 1]) == fingerprint([-torch.zeros(2), 1])
    False
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            digest.update(f"{part.dtype} {tuple(part.shape)};".encode())
            digest.update(part.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        else:
            digest.update(f"{part!r};".encode())
    return digest.hexdigest()


def _packed(value: object, tensors: dict[str, Tensor]) -> object:
    """The same with tensors taken out, as JSON can hold it; dicts keep keys of any kind."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()  # no two share memory
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[key, _packed(each, tensors)] for key, each in value.items()]}
    if isinstance(value, list | tuple):
        return [_packed(each, tensors) for each in value]
    return value


def _unpacked(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if "tensor" in value:
            # Memory of its own, aligned as any: on some CPUs sums depend on the alignment.
            return tensors[value["tensor"]].clone()
        return {key: _unpacked(each, tensors) for key, each in value["dict"]}
    if isinstance(value, list):
        return [_unpacked(each, tensors) for each in value]
    return value
