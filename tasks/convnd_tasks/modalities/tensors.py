"""Conversion of arrays in memory to tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from convnd.errors import UsageError

__all__ = ["as_tensor"]


def as_tensor(data: Any, operation: str, *, remedy: str = "convert the data first") -> Tensor:
    """Convert an array to a tensor; its numbers may have any order of bytes, axes and elements.

    Args:
        data: a tensor, which is returned as it is, unless it was made in inference mode and can
            have no gradient; or an array, which is copied.
        operation: name of the caller, for the error.
        remedy: what the error advises.

    Raises:
        UsageError: the data are no real numbers.

    >>> as_tensor(np.arange(3.0, dtype=">f4")[::-1], "stylize")
    tensor([2., 1., 0.])
    """
    if isinstance(data, Tensor):
        return data.clone() if data.is_inference() else data
    try:
        array = np.asarray(data)
        if array.dtype.kind in "biuf":
            return torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))
    except (TypeError, ValueError, RuntimeError):  # lists of different lengths, 128-bit floats
        pass
    raise UsageError(
        operation,
        expected="a tensor or an array of real numbers",
        got=type(data).__name__,
        remedy=remedy,
    )
