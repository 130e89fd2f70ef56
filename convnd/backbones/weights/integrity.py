"""Checks of files of weights: their sha256, and that their values are finite."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from convnd.backbones.weights.conversion import State
from convnd.errors import InputFileError
from convnd.io.provenance import file_sha256
from convnd.io.reading import check_file, translate_errors

__all__ = ["check_finite", "check_hash", "damaged_error", "sha256_of", "tensors_sha256"]


def check_finite(path: Path, state: State) -> None:
    """Check that weights are floating-point numbers without NaN and infinities.

    Args:
        path: file of the weights, for the message.
        state: tensors by name.

    Raises:
        InputFileError: a tensor has another type, or a value that is not finite.
    """
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            raise damaged_error(path, f"{name} of type {tensor.dtype}")
        if tensor.numel() and not torch.stack(torch.aminmax(tensor)).isfinite().all():
            raise damaged_error(path, f"{name} with values that are not finite")


def check_hash(path: Path, sha256: str) -> None:
    """Compare a file with its published sha256.

    Args:
        path: the file.
        sha256: hexadecimal, complete or only its first digits.

    Raises:
        InputFileError: the file cannot be read, or has another sha256.
    """
    actual = sha256_of(path)
    if not actual.startswith(sha256):
        raise InputFileError(
            "weights",
            expected=f"sha256 {sha256[:12]}… for {path.name}",
            got=f"{actual[:12]}…",
            remedy="the file is damaged or another version, fetch it again",
        )


def sha256_of(path: Path) -> str:
    """Compute the sha256 of a file, hexadecimal.

    Raises:
        InputFileError: the file cannot be read.
    """
    check_file(path)
    with translate_errors(path, "a file of weights"):
        return file_sha256(path)


def damaged_error(path: Path, got: str) -> InputFileError:
    """Make the error for a damaged file of weights.

    Args:
        path: the file.
        got: the damage.
    """
    return InputFileError(
        "weights",
        expected=f"intact weights in {path}",
        got=f"'{got}'",
        remedy="find their name (convnd weights verify), remove them and get them again",
    )


def tensors_sha256(state: Mapping[str, Tensor]) -> str:
    """Compute the sha256 of names, types, shapes and values, whatever the layout of the file."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
