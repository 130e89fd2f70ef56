"""Values as the integers that a file stores, and the error of rounding to them."""

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
    """How a file stores values as integers: ``value = slope · integer + intercept``.

    Args:
        dtype: name of the integer type, in the machine's byte order.
        slope: factor, not 0.
        intercept: offset, in the units of the values.
    """

    dtype: str
    slope: float = 1.0
    intercept: float = 0.0


def quantize(grid: Grid) -> tuple[Grid, float, int]:
    """Round a grid to the integers of the file that it came from; `convnd.io.write` stores them.

    Args:
        grid: read from a file of integers, so that it has ``header["integer_encoding"]``.

    Returns:
        The rounded grid; the largest rounding error, at most half the slope; and the number of
        values outside the range of the integer type. Those are clipped, and the error does not
        count them.

    Raises:
        UsageError: the file did not store integers.
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
    """Return the integers ``(C, *S)`` of a grid that `quantize` has rounded; None for others."""
    import numpy as np

    encoding = grid.header.get("integer_encoding")
    if not grid.header.get("quantized") or not isinstance(encoding, IntegerEncoding):
        return None
    values = grid.values.detach().to("cpu").numpy()[0].astype(np.float64)
    codes = np.round((values - encoding.intercept) / encoding.slope)
    limits = np.iinfo(encoding.dtype)
    return np.clip(codes, limits.min, limits.max).astype(encoding.dtype), encoding
