"""Asks a child process for the tensors of a file that ``torch.save`` wrote."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from convnd.io.reading import translate_errors
from convnd.io.worker.client import request

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["request_tensors"]


def request_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name; floats of less than 32 bits as float32.

    Args:
        path: an existing file.

    Raises:
        InputFileError: it holds anything but tensors by name, or tensors that `check_plain`
            refuses; or its decoder hangs, dies, or asks for too much memory.
    """
    import torch

    length = path.stat().st_size
    parameters, values = {"decoder": "weights.decoder"}, {}
    with (
        translate_errors(path, "a file of weights"),
        request(path, parameters, max_values=2 * length, reuse=True) as messages,
    ):
        for fields, array in messages:
            if array is not None:
                values[str(fields["name"])] = torch.from_numpy(array)
        shapes = {name: tuple(map(int, shape)) for name, shape in fields["shapes"].items()}
        return {
            name: values[name].reshape(shape) if math.prod(shape) else torch.zeros(shape)
            for name, shape in shapes.items()
        }
