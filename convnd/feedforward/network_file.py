"""Files of trained networks: weights, styles and record of the training, in safetensors.

A file may come from anywhere. Nothing of it is executed; its header is checked before its tensors
are read, and no more memory is taken than the file is large.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from convnd.backbones.weights.integrity import tensors_sha256
from convnd.errors import ConvndError, InputFileError
from convnd.feedforward.look_net import LookNet, LookShape
from convnd.feedforward.network_shape import NetworkShape
from convnd.feedforward.transform_net import TransformNet
from convnd.grid import Grid
from convnd.io.atomic import atomic_path, error_text
from convnd.io.reading import check_file

__all__ = ["StyleNetwork", "is_look_network", "network_rank", "read_network", "write_network"]

_FORMAT, _LOOK_FORMAT = "convnd style network 1", "convnd look network 1"
_LARGEST = 64 << 20
_MOST_STYLES = 16
_LONGEST_TEXT = 2**16


@dataclass(frozen=True, kw_only=True, eq=False)
class StyleNetwork:
    """A trained network and what it was trained for.

    Args:
        network: the network, in evaluation mode.
        kind: name of the kind of data, see ``convnd_tasks.modalities``.
        styles: the styles of its training; a file may hold them reduced, and pictures with 8 bits.
        record: options, inputs and losses of its training as text, by name.
    """

    network: TransformNet | LookNet
    kind: str
    styles: Sequence[Grid]
    record: Mapping[str, str] = field(default_factory=dict)


def write_network(path: str | os.PathLike[str], trained: StyleNetwork, *, overwrite: bool) -> None:
    """Write a network, whole or not at all.

    Args:
        path: path of the file.
        trained: the network with its styles and its record.
        overwrite: whether an existing file may be replaced.

    Raises:
        OutputExistsError: the file exists and may not be replaced.
        OutputFileError: the file cannot be written there.
    """
    tensors = {
        f"network.{name}": tensor.detach().cpu().contiguous()
        for name, tensor in trained.network.state_dict().items()
    }
    descriptions = []
    for number, style in enumerate(trained.styles):
        tensors[f"style.{number}"] = _encode_style(style)
        descriptions.append(
            {
                "spacing": style.spacing,
                "units": style.units,
                "axes": style.axes,
                "channels": style.channels,
                "header": {key: value for key, value in style.header.items() if _is_plain(value)},
            }
        )
    metadata = {
        "format": _LOOK_FORMAT if isinstance(trained.network, LookNet) else _FORMAT,
        "kind": trained.kind,
        "shape": json.dumps(trained.network.shape.record()),
        "styles": json.dumps(descriptions),
        "record": json.dumps(dict(trained.record)),
        "sha256": tensors_sha256(tensors),
    }
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(_with_sorted_metadata(save(tensors, metadata=metadata)))


def _with_sorted_metadata(file: bytes) -> bytes:
    """Sort the metadata of a safetensors file: its writer changes their order from run to run."""
    start = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + file[start:]


def read_network(path: str | os.PathLike[str]) -> StyleNetwork:
    """Read a network that `write_network` wrote.

    Raises:
        InputFileError: the file is missing, damaged or too large, or holds no such network.
    """
    with _read_errors(path):
        metadata, shape = _read_header(path)
        with safetensors.safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in _names(file, path)}
        if tensors_sha256(tensors) != metadata["sha256"]:
            raise ValueError("other tensors than were written")
        for name, tensor in tensors.items():
            if tensor.dtype == torch.uint8 and name.startswith("style."):
                continue
            if tensor.dtype != torch.float32 or not bool(torch.isfinite(tensor).all()):
                raise ValueError(f"{name[:60]} without finite float32 values")
        with torch.device("meta"):
            network = LookNet(shape) if isinstance(shape, LookShape) else TransformNet(shape)
        state = {
            name.removeprefix("network."): tensor
            for name, tensor in tensors.items()
            if name.startswith("network.")
        }
        if {name: tensor.shape for name, tensor in state.items()} != {
            name: tensor.shape for name, tensor in network.state_dict().items()
        }:
            raise ValueError("layers of another shape than the header says")
        network.load_state_dict(state, assign=True)
        record = json.loads(metadata["record"])
        if not isinstance(record, dict) or not all(
            isinstance(text, str) for pair in record.items() for text in pair
        ):
            raise ValueError("a record that is no text")
        return StyleNetwork(
            network=network.eval().requires_grad_(requires_grad=False),
            kind=metadata["kind"],
            styles=_styles(json.loads(metadata["styles"]), tensors, shape.spatial_dims),
            record=record,
        )


def network_rank(path: str | os.PathLike[str]) -> int:
    """Read the number of spatial axes of a network from the header of its file.

    Raises:
        InputFileError: the file is missing or damaged, or holds no network of `write_network`.
    """
    with _read_errors(path):
        return _read_header(path)[1].spatial_dims


def is_look_network(path: str | os.PathLike[str]) -> bool:
    """Read from the header of a network's file whether it is a `LookNet`.

    Raises:
        InputFileError: see `network_rank`.
    """
    with _read_errors(path):
        return isinstance(_read_header(path)[1], LookShape)


@contextlib.contextmanager
def _read_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn any error that a damaged or foreign file may raise into one about the file."""
    try:
        yield
    except InputFileError:
        raise
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, RecursionError),
        *(ConvndError, safetensors.SafetensorError),
    ) as error:
        raise InputFileError(
            f"network {path}",
            expected="a file that convnd train has written",
            got=f"'{error_text(error)}'",
            remedy="train one (convnd train), or name another file",
        ) from error


def _read_header(
    path: str | os.PathLike[str],
) -> tuple[Mapping[str, str], NetworkShape | LookShape]:
    """Read the metadata of a file and the shape of its network, without its tensors."""
    check_file(path)
    size = Path(path).stat().st_size
    if size > _LARGEST:
        raise ValueError(f"{size >> 20} MiB, more than {_LARGEST >> 20}")
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    if metadata.get("format") not in (_FORMAT, _LOOK_FORMAT):
        raise ValueError("another kind of safetensors")
    if any(len(metadata[key]) > _LONGEST_TEXT * 16 for key in ("shape", "styles", "record")):
        raise ValueError("a header of unusual length")
    numbers = json.loads(metadata["shape"])
    if not isinstance(numbers, dict) or not all(type(value) is int for value in numbers.values()):
        raise ValueError("a shape that is no set of whole numbers")
    kind = LookShape if metadata["format"] == _LOOK_FORMAT else NetworkShape
    return metadata, kind(**numbers)


def _names(file: Any, path: str | os.PathLike[str]) -> list[str]:
    """Read the names of the tensors, and check that they are no larger than the file."""
    names = list(file.keys())
    most = Path(path).stat().st_size
    if sum(math.prod(file.get_slice(name).get_shape()) for name in names) > most:
        raise ValueError("tensors larger than the file")
    return names


def _styles(
    descriptions: object, tensors: Mapping[str, Tensor], spatial_dims: int
) -> Sequence[Grid]:
    if not isinstance(descriptions, list) or not 1 <= len(descriptions) <= _MOST_STYLES:
        raise ValueError("no list of styles")
    styles = []
    for number, entry in enumerate(descriptions):
        values = tensors[f"style.{number}"]
        fields = {name: tuple(entry[name]) for name in ("units", "axes", "channels")}
        spacing = tuple(float(step) for step in entry["spacing"])
        names = [text for entries in fields.values() for text in entries]
        if not all(isinstance(text, str) and len(text) < 100 for text in names):
            raise ValueError("names that are no text")
        header = entry["header"]
        if not isinstance(header, dict) or not all(map(_is_plain, header.values())):
            raise ValueError("a header that is no text")
        if values.ndim - 2 > spatial_dims:
            raise ValueError("a style of more axes than the network")
        if values.dtype == torch.uint8:
            values = values.float() / 255
        styles.append(Grid(values=values, spacing=spacing, header=header, **fields))
    return styles


def _encode_style(style: Grid) -> Tensor:
    """Return the stored values of a style: 8 bits for a picture, float32 for other data."""
    values = style.values.detach().cpu().float().contiguous()
    if style.channels == ("R", "G", "B"):
        return (values.clamp(0, 1) * 255).round().to(torch.uint8)
    return values


def _is_plain(value: object) -> bool:
    """Return whether an entry of a header is short text, a number, or a list of these."""
    if isinstance(value, list | tuple):
        return len(value) <= 256 and all(_is_plain(item) for item in value)
    if isinstance(value, str):
        return len(value) < 1000
    return isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
