"""Decodes files of ``torch.save``, in the child process of `convnd.io.worker.client`.

Such a file is a pickle. torch's restricted reader runs no code of the file, but a few bytes can
keep it busy for minutes or fill the memory.
"""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["MEMORY", "SECONDS", "check_plain", "serve"]

MEMORY = 2**30
"""Bytes of addresses that decoding may take in addition to those for the file: torch maps more of
its code than it holds in memory, and starts threads."""

SECONDS = 15
"""Seconds of computing that a file may take, besides the time for its length."""

_PER_BYTE = 8  # bytes of memory for each byte of the file: the tensors, and copies in float32
_MOST_VALUES = 2  # for each byte of the file: layers may share values

importlib.import_module("torch")  # the code of a library does not count as memory of a file


def serve(
    path: Path, _parameters: Mapping[str, Any], reserve_memory: Callable[[int], None]
) -> Iterator[tuple[str, dict[str, Any], NDArray[Any] | None]]:
    """Yield the values of each tensor, flat, then the shapes of all by name."""
    import torch

    reserve_memory(_PER_BYTE * path.stat().st_size)
    state = _load(path)
    shapes = {name: list(tensor.shape) for name, tensor in state.items()}
    for name, tensor in state.items():
        if tensor.numel():
            if tensor.is_floating_point() and tensor.dtype != torch.float64:
                tensor = tensor.float()  # NumPy has no bfloat16
            yield "array", {"name": name}, tensor.detach().contiguous().flatten().numpy()
    yield "end", {"shapes": shapes}, None


def _load(path: Path) -> dict[str, Tensor]:
    import torch

    try:
        _check_stored(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    # The unpickler may raise anything, and its message would advise weights_only=False.
    except Exception as error:
        raise InputFileError(
            "weights",
            expected=f"tensors and nothing else in {path}",
            got=f"other objects ({type(error).__name__})",
            remedy="convert it to safetensors where you trust it",
        ) from error
    if not (
        isinstance(state, Mapping)
        and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items())
    ):
        raise InputFileError(
            "weights",
            expected=f"tensors by name in {path}",
            got=type(state).__name__,
            remedy="save the state_dict alone",
        )
    check_plain(path, state)
    size, length = sum(value.nbytes for value in state.values()), path.stat().st_size
    if size > _MOST_VALUES * length:
        raise InputFileError(
            "weights",
            expected=f"tensors of at most {_MOST_VALUES * length:,} bytes in {path}",
            got=f"{size:,}, of names that share their values",
            remedy="save copies of them",
        )
    return dict(state)


def _check_stored(path: Path) -> None:
    """Check that an archive of ``torch.save`` is not compressed, and so as large as its content."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("a compressed archive")


def check_plain(path: Path, state: Mapping[str, Tensor]) -> None:
    """Check that weights are dense tensors of real numbers that own their values.

    Sparse, quantised, complex, nested and meta tensors and expanded views are refused.

    Args:
        path: the file, for the message.
        state: tensors by name.

    Raises:
        InputFileError: a tensor is of such a kind.
    """
    import torch

    for name, tensor in state.items():
        kind = ""
        if tensor.layout != torch.strided or tensor.is_nested:
            kind = f"layout {tensor.layout}"
        elif tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
            kind = "no values" if tensor.is_meta else f"type {tensor.dtype}"
        elif tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
            kind = f"shape {tuple(tensor.shape)} of fewer numbers"
        if kind:
            raise InputFileError(
                "weights",
                expected=f"tensors of real numbers in {path}",
                got=f"{name} with {kind}",
                remedy="convert it and save it again",
            )
