"""Conversion of results in floating point to the type of an input."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["in_floating_point", "to_type"]


def in_floating_point(x: Tensor) -> Tensor:
    """Convert whole numbers and booleans to floating point: to float64 what float32 would round."""
    if x.is_floating_point() or x.is_complex():
        return x
    return x.to(torch.float32 if x.element_size() < 4 else torch.float64)


def to_type(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert values to a type: whole numbers are rounded and kept in its range.

    >>> to_type(torch.tensor([-3.0, 1.6, 300.0]), torch.uint8).tolist()
    [0, 2, 255]
    """
    if dtype.is_floating_point or dtype.is_complex:
        return values.to(dtype)
    if dtype == torch.bool:
        return values >= 0.5
    limits = torch.iinfo(dtype)
    rounded = values.round()
    if dtype != torch.int64:  # whose limits no floating point has
        rounded = rounded.clamp(limits.min, limits.max)
    return rounded.to(dtype)
