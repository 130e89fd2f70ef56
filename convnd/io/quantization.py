"""Values as the integers that a file stores, and the error of rounding to them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convnd.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = [
    "IntegerEncoding",
    "decode",
    "integer_codes",
    "integer_header",
    "is_exact",
    "plain_integers",
    "quantize",
]

_EXACT = 2**22  # steps of an encoding that float32 tells apart with certainty


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
        count them. Unchanged values keep the integers that the file holds.

    Raises:
        UsageError: the file did not store integers.
    """
    import numpy as np
    import torch

    encoding = grid.header.get("integer_encoding")
    if not isinstance(encoding, IntegerEncoding):
        raise UsageError(
            "integer output",
            expected="an input that holds integers",
            got="other numbers",
            remedy="leave it float32",
        )
    exact = _exact_codes(grid, encoding)
    limits = np.iinfo(encoding.dtype)
    outside = (exact < limits.min - 0.5) | (exact > limits.max + 0.5)
    codes, untouched = _nearest_codes(grid, encoding)
    error = np.abs(codes - exact)[~(outside | untouched)].max(initial=0.0) * abs(encoding.slope)
    header = {**grid.header, "quantized": True}
    values = torch.from_numpy(decode(codes, encoding))[None]
    result = dataclasses.replace(grid, values=values, header=header)
    return result, float(error), int((outside & ~untouched).sum())


def integer_codes(grid: Grid) -> tuple[NDArray[Any], IntegerEncoding] | None:
    """Return the integers ``(C, *S)`` of a grid that `quantize` has rounded; None for others."""
    encoding = grid.header.get("integer_encoding")
    if not grid.header.get("quantized") or not isinstance(encoding, IntegerEncoding):
        return None
    return _nearest_codes(grid, encoding)[0], encoding


def plain_integers(grid: Grid) -> NDArray[Any] | None:
    """Return the integers ``(C, *S)`` of a rounded grid if they are its values; None for others.

    Formats without slope and intercept can hold no other integers.
    """
    codes = integer_codes(grid)
    is_plain = codes is not None and (codes[1].slope, codes[1].intercept) == (1, 0)
    return codes[0] if codes is not None and is_plain else None


def integer_header(codes: NDArray[Any], encoding: IntegerEncoding) -> dict[str, object]:
    """Return the header entries of a grid that was read from integers.

    Args:
        codes: the integers of the file, ``(C, *S)``.
        encoding: how they become values.

    Returns:
        ``integer_encoding``; and ``integer_codes`` if the values as float32 do not tell the
        integers apart, so that `quantize` can give unchanged values their own integers.
    """
    header: dict[str, object] = {"integer_encoding": encoding}
    if not is_exact(encoding, int(codes.min()), int(codes.max())):
        header["integer_codes"] = codes
    return header


def is_exact(encoding: IntegerEncoding, low: int, high: int) -> bool:
    """Whether float32 tells the values of all integers from ``low`` to ``high`` apart."""
    ends = [code * encoding.slope + encoding.intercept for code in (low, high)]
    largest = max(*map(abs, ends), *(abs(code * encoding.slope) for code in (low, high)))
    return largest <= _EXACT * abs(encoding.slope)


def decode(codes: NDArray[Any], encoding: IntegerEncoding) -> NDArray[Any]:
    """Return the values of integers, as float32."""
    import numpy as np

    if (encoding.slope, encoding.intercept) == (1, 0):
        return codes.astype(np.float32)
    return (codes * np.float64(encoding.slope) + encoding.intercept).astype(np.float32)


def _exact_codes(grid: Grid, encoding: IntegerEncoding) -> NDArray[Any]:
    """Return the values ``(C, *S)`` in steps of the encoding, not rounded."""
    import numpy as np

    values = grid.values.detach().to("cpu").numpy()[0].astype(np.float64)
    return np.asarray((values - encoding.intercept) / encoding.slope)


def _nearest_codes(grid: Grid, encoding: IntegerEncoding) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the nearest integers ``(C, *S)``, and where the file's own were taken."""
    import numpy as np

    limits = np.iinfo(encoding.dtype)
    # Of the ends of 64 bits float64 knows only neighbours; the upper one is too large.
    high = limits.max if limits.bits < 64 else np.nextafter(np.float64(limits.max), 0)
    exact = _exact_codes(grid, encoding)
    codes = np.clip(np.round(exact), limits.min, high).astype(encoding.dtype)
    stored = grid.header.get("integer_codes")
    if not isinstance(stored, np.ndarray) or stored.shape != codes.shape:
        return codes, np.zeros(codes.shape, bool)
    untouched = decode(stored, encoding) == grid.values.detach().to("cpu").numpy()[0]
    codes[untouched] = stored[untouched]
    return codes, untouched
