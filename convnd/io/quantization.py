"""Values in the integer type that a file had, and what rounding to it costs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convnd.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["IntegerEncoding", "integer_codes", "quantize"]


@dataclass(frozen=True)
class IntegerEncoding:
    """How a file holds its values: ``value = slope · integer + intercept``.

    Args:
        dtype: name of the integer type, in the machine's byte order.
        slope: not 0.
        intercept: added afterwards.
    """

    dtype: str
    slope: float = 1.0
    intercept: float = 0.0


def quantize(grid: Grid) -> tuple[Grid, float, int]:
    """The grid with values that its file's integer type holds, to be written as such.

    Args:
        grid: came from a file of integers, whose reader left ``header["integer_encoding"]``.

    Returns:
        The grid, rounded and marked to be written in that type; the largest rounding error, at
        most half the slope; and how many values were out of the type's range and clipped, which
        that error does not count.

    Raises:
        UsageError: the file did not hold integers.
    """
    import numpy as np
    import torch

    encoding = grid.header.get("integer_encoding")
    if not isinstance(encoding, IntegerEncoding):
        raise UsageError(
            "integer output: expected an input that holds integers, got other numbers; "
            "leave it float32"
        )
    values = grid.values.detach().to("cpu").numpy()
    limits = np.iinfo(encoding.dtype)
    exact = (values.astype(np.float64) - encoding.intercept) / encoding.slope
    outside = (exact < limits.min - 0.5) | (exact > limits.max + 0.5)
    codes = np.clip(np.round(exact), limits.min, limits.max)
    error = np.abs(codes - exact)[~outside].max(initial=0.0) * abs(encoding.slope)
    rounded = torch.from_numpy((codes * encoding.slope + encoding.intercept).astype(np.float32))
    header = {**grid.header, "quantized": True}
    result = dataclasses.replace(grid, values=rounded, header=header)
    return result, float(error), int(outside.sum())


def integer_codes(grid: Grid) -> tuple[NDArray[Any], IntegerEncoding] | None:
    """The integers of a grid that `quantize` has marked ``(C, *S)``; None for any other."""
    import numpy as np

    encoding = grid.header.get("integer_encoding")
    if not grid.header.get("quantized") or not isinstance(encoding, IntegerEncoding):
        return None
    values = grid.values.detach().to("cpu").numpy()[0].astype(np.float64)
    codes = np.round((values - encoding.intercept) / encoding.slope)
    limits = np.iinfo(encoding.dtype)
    return np.clip(codes, limits.min, limits.max).astype(encoding.dtype), encoding
