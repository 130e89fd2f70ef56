"""The state of unfinished work in a file: written completely or not at all, and read to the bit.

The file is one of safetensors. A field that several processes share is stored as one tensor for
each slab, so that no process ever holds more than a slab; any other number of processes can read
its own slabs from them.
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

from convnd.errors import UsageError
from convnd.io.atomic import atomic_path
from convnd.io.reading import check_file
from convnd.optimize.distributed import Box, ProcessGroup, ShardedField
from convnd.optimize.offload import release_pages
from convnd.optimize.state import state_errors

__all__ = ["fingerprint", "is_checkpoint", "load_checkpoint", "save_checkpoint"]

_KIND = "convnd checkpoint "
_FORMAT = f"{_KIND}6"
_MOST_SLABS = 1024

_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Types of tensors that a state may hold, and their names in safetensors."""


def save_checkpoint(
    path: str | os.PathLike[str], state: object, mark: str, *shards: ShardedField
) -> None:
    """Write a state; an existing checkpoint stays valid until the new one is complete.

    Args:
        path: the file, replaced if it exists.
        state: tensors, numbers, strings and None in nested dicts and lists.
        mark: `fingerprint` of everything that the work depends on.
        shards: distribution of the fields in ``state`` over processes, one for each size. All
            processes must call this function; rank 0 writes.

    Raises:
        OutputFileError: see `convnd.io.atomic.atomic_path`.
    """
    tensors: list[Tensor] = []
    structure = json.dumps(_extract_tensors(state, tensors, shards))
    pieces = list(_pieces(tensors, shards))
    group = shards[0].group if shards else ProcessGroup()
    if group.rank != 0:
        for piece in pieces:
            if piece.owner == group.rank:
                group.exchange({0: tensors[piece.number].contiguous()}, {})
        return
    with atomic_path(path, overwrite=True) as name, name.open("wb") as file:
        _write_header(file, pieces, {"format": _FORMAT, "mark": mark, "state": structure})
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
    """Read a state that `save_checkpoint` wrote.

    Args:
        path: the file.
        mark: `fingerprint` that the file has to be written with.
        group: the processes that continue, however many wrote it. Each receives its slab of the
            fields that they share. None is this process alone.

    Raises:
        InputFileError: the file is missing, damaged, or no checkpoint.
        UsageError: it belongs to other inputs or options.
        ResourceError: there is not enough memory for it.
    """
    # The file may come from anywhere: its signature is compared before the rest is parsed.
    with state_errors(f"a complete checkpoint in {path}"):
        check_file(path)
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ValueError("another kind of file")
            if metadata["mark"] != mark:
                raise UsageError(
                    "resume",
                    expected="the checkpoint of these inputs and options",
                    got=f"that of others in {Path(path).name}",
                    remedy="give the same ones, or remove it to start from the beginning",
                )
            structure = json.loads(metadata["state"])
            group = ProcessGroup() if group is None else group
            return _Reader(file, group).insert_tensors(structure)


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Return whether `save_checkpoint` may replace what is at a path: a checkpoint, or nothing."""
    if not os.path.lexists(path):
        return True
    if Path(path).is_symlink():
        return False
    try:
        check_file(path)
        with safetensors.safe_open(path, "pt") as file:
            return str((file.metadata() or {}).get("format")).startswith(_KIND)
    except (OSError, safetensors.SafetensorError):
        return False


def fingerprint(parts: Iterable[object]) -> str:
    """Return the sha256 of tensors (type, shape and every bit) and of the text of other objects.

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
    """A tensor of the file: a tensor of the state, or one process's slab of it."""

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
        field = _field_of(values, shards)
        if field is not None:
            for owner, box in enumerate(field.boxes):
                shape = (*values.shape[:2], *(stop - start for start, stop in box))
                yield _Piece(number, owner, f"{number}.{owner}", shape, values.dtype)
        else:
            yield _Piece(number, 0, str(number), tuple(values.shape), values.dtype)


def _field_of(values: Tensor, shards: Sequence[ShardedField]) -> ShardedField | None:
    """Return the field that a tensor is a slab of; None for a tensor of this process alone."""
    for field in shards:
        if values.ndim == 2 + len(field.size) and field.is_local_part(values):
            return field
    return None


def _write_header(file: BinaryIO, pieces: list[_Piece], metadata: dict[str, str]) -> None:
    # The format is described at https://github.com/huggingface/safetensors; its own writer needs
    # all tensors in memory at once.
    header: dict[str, object] = {"__metadata__": metadata}
    offset = 0
    for piece in pieces:
        header[piece.name] = {
            "dtype": _TYPES[piece.dtype],
            "shape": piece.shape,
            "data_offsets": (offset, offset + piece.size),
        }
        offset += piece.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)


def _bytes(values: Tensor) -> memoryview:
    flat = values.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _extract_tensors(
    value: object, tensors: list[Tensor], shards: Sequence[ShardedField]
) -> object:
    """Move the tensors of a state to a list; return the rest as JSON can hold it.

    Dicts become lists of pairs, so that keys can be of any kind.
    """
    if isinstance(value, Tensor):
        tensors.append(value.detach())
        name = str(len(tensors) - 1)
        field = _field_of(value, shards)
        if field is not None:
            return {"tensor": name, "size": field.size, "boxes": field.boxes}
        return {"tensor": name}
    if isinstance(value, dict):
        pairs = value.items()
        return {"dict": [[key, _extract_tensors(item, tensors, shards)] for key, item in pairs]}
    if isinstance(value, list | tuple):
        return [_extract_tensors(item, tensors, shards) for item in value]
    return value


class _Reader:
    """Puts the tensors of a file back into a state: the reverse of `_extract_tensors`.

    Args:
        file: an open file of safetensors.
        group: the processes that receive slabs.
    """

    def __init__(self, file: Any, group: ProcessGroup) -> None:
        self._file = file
        self._group = group
        self._names: set[str] = set()

    def insert_tensors(self, value: Any) -> Any:
        """Return a state, or a part of one, with its tensors."""
        if isinstance(value, dict):
            if "boxes" in value:
                self._use(value["tensor"])
                return self._read_slab(value["tensor"], value["size"], value["boxes"])
            if "tensor" in value:
                self._use(value["tensor"])
                # A copy is aligned as any tensor: on some CPUs sums depend on the alignment.
                whole: Tensor = self._file.get_tensor(value["tensor"]).clone()
                if whole.dtype not in _TYPES:
                    raise ValueError(f"values of {whole.dtype}")
                return whole
            return {key: self.insert_tensors(item) for key, item in value["dict"]}
        if isinstance(value, list):
            return [self.insert_tensors(item) for item in value]
        return value

    def _use(self, name: str) -> None:
        # A state names each tensor once; one that is named a million times would fill the memory.
        if name in self._names:
            raise ValueError(f"tensor {name} twice")
        self._names.add(name)

    def _read_slab(self, name: str, size: list[int], boxes: list[Box]) -> Tensor:
        """Read this process's slab of a field out of the slabs in the file."""
        field = ShardedField(size, self._group)
        slices = [self._file.get_slice(f"{name}.{number}") for number in range(len(boxes))]
        extents = [list(slab.get_shape())[2:] for slab in slices]
        if not field.is_tiled_by(boxes[:_MOST_SLABS]) or extents != [
            [stop - start for start, stop in box] for box in boxes
        ]:
            raise ValueError(f"slabs of tensor {name} that do not fit together")

        def read(number: int, index: tuple[slice, ...]) -> Tensor:
            values: Tensor = slices[number][index]
            return values

        return field.assemble([(box, partial(read, number)) for number, box in enumerate(boxes)])
