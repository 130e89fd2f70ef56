"""Work in progress in a file: written whole or not at all, and read back bit by bit.

The file is one of safetensors. Of a field that several processes share, each slab is a tensor of
its own, so that nobody ever holds more than a slab of it; any other number of processes reads from
them what is theirs.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
import torch
from torch import Tensor

from convnd.errors import InputFileError, UsageError
from convnd.io.atomic import atomic_path
from convnd.optimize.distributed.process_group import ProcessGroup
from convnd.optimize.distributed.sharded_field import Box, ShardedField
from convnd.optimize.offload import release_pages

__all__ = ["fingerprint", "load_checkpoint", "save_checkpoint"]

_FORMAT = "convnd checkpoint 6"

_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Of tensors that a state may hold, and their names in safetensors."""


def save_checkpoint(
    path: str | os.PathLike[str], state: object, mark: str, *shards: ShardedField
) -> None:
    """Write a state; an older checkpoint stays valid until the new one is on the disk.

    Args:
        path: replaced when it exists.
        state: tensors, numbers, strings and None in dicts and lists, nested.
        mark: `fingerprint` of what the work depends on.
        shards: of the fields in ``state`` that several processes share, one for each size; all of
            them have to call this, and process 0 writes.

    Raises:
        OutputFileError: see `convnd.io.atomic.atomic_path`.
    """
    tensors: list[Tensor] = []
    plan = json.dumps(_packed(state, tensors, shards))
    pieces = list(_pieces(tensors, shards))
    group = shards[0].group if shards else ProcessGroup()
    if group.rank != 0:
        for piece in pieces:
            if piece.owner == group.rank:
                group.exchange({0: tensors[piece.number].contiguous()}, {})
        return
    with atomic_path(path, overwrite=True) as name, name.open("wb") as file:
        _write_header(file, pieces, {"format": _FORMAT, "mark": mark, "state": plan})
        for piece in pieces:
            values = tensors[piece.number]
            if piece.owner != 0:
                values = values.new_empty(piece.shape)
                group.exchange({}, {piece.owner: values})
            file.write(_bytes(values))
            release_pages(values)


def load_checkpoint(
    path: str | os.PathLike[str], mark: str, group: ProcessGroup | None = None
) -> Any:
    """The state that `save_checkpoint` wrote.

    Args:
        path: the file.
        mark: must be the one that it was written with.
        group: the processes that go on together, however many wrote it; each gets its part of the
            fields that they share. None is this one alone.

    Raises:
        InputFileError: it is missing, damaged, or no checkpoint.
        UsageError: it belongs to other inputs or options.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            found = file.metadata() or {}
            if found.get("format") != _FORMAT:
                raise ValueError("another kind of file")
            plan = json.loads(found["state"])
            if found["mark"] != mark:
                raise UsageError(
                    "resume: expected the checkpoint of these inputs and options, got that of "
                    f"others in {Path(path).name}; give the same ones, or remove it to start anew"
                )
            return _unpacked(plan, file, ProcessGroup() if group is None else group)
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
            digest.update(_bytes(part))
        else:
            digest.update(f"{part!r};".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Piece:
    """A tensor of the file: one of the state's, or a process's part of one."""

    number: int
    owner: int
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _pieces(tensors: list[Tensor], shards: Sequence[ShardedField]) -> Iterator[_Piece]:
    for number, values in enumerate(tensors):
        sharing = _sharing(values, shards)
        if sharing is not None:
            for owner, box in enumerate(sharing.boxes):
                shape = (*values.shape[:2], *(stop - start for start, stop in box))
                yield _Piece(number, owner, f"{number}.{owner}", shape, values.dtype)
        else:
            yield _Piece(number, 0, str(number), tuple(values.shape), values.dtype)


def _sharing(values: Tensor, shards: Sequence[ShardedField]) -> ShardedField | None:
    """Those that a tensor is a part of; None where each process has one of its own."""
    fits = (
        each for each in shards if values.ndim == 2 + len(each.size) and each.is_local_part(values)
    )
    return next(fits, None)


def _write_header(file: BinaryIO, pieces: list[_Piece], metadata: dict[str, str]) -> None:
    # As https://github.com/huggingface/safetensors describes it; its own writer wants all tensors
    # in memory at once.
    header: dict[str, object] = {"__metadata__": metadata}
    at = 0
    for piece in pieces:
        header[piece.name] = {
            "dtype": _TYPES[piece.dtype],
            "shape": piece.shape,
            "data_offsets": (at, at + piece.size),
        }
        at += piece.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)


def _bytes(values: Tensor) -> memoryview:
    flat = values.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _packed(value: object, tensors: list[Tensor], shards: Sequence[ShardedField]) -> object:
    """The same with tensors taken out, as JSON can hold it; dicts keep keys of any kind."""
    if isinstance(value, Tensor):
        tensors.append(value.detach())
        name = str(len(tensors) - 1)
        sharing = _sharing(value, shards)
        if sharing is not None:
            return {"tensor": name, "size": sharing.size, "boxes": sharing.boxes}
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[key, _packed(each, tensors, shards)] for key, each in value.items()]}
    if isinstance(value, list | tuple):
        return [_packed(each, tensors, shards) for each in value]
    return value


def _unpacked(value: Any, file: Any, group: ProcessGroup) -> Any:
    if isinstance(value, dict):
        if "boxes" in value:
            return _part(value["tensor"], ShardedField(value["size"], group), value["boxes"], file)
        if "tensor" in value:
            # Memory of its own, aligned as any: on some CPUs sums depend on the alignment.
            whole: Tensor = file.get_tensor(value["tensor"]).clone()
            return whole
        return {key: _unpacked(each, file, group) for key, each in value["dict"]}
    if isinstance(value, list):
        return [_unpacked(each, file, group) for each in value]
    return value


def _part(name: str, shards: ShardedField, boxes: list[Box], file: Any) -> Tensor:
    """What this process owns of a field, out of the slabs that it was written in."""

    def read(number: int, place: tuple[slice, ...]) -> Tensor:
        values: Tensor = file.get_slice(f"{name}.{number}")[place]
        return values

    return shards.assemble([(box, partial(read, number)) for number, box in enumerate(boxes)])
