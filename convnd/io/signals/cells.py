"""Cells of binary tables (Parquet, Excel) as text, and back in their types."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convnd.io.signals.request import LARGEST_TEXT

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["cell_text", "from_json", "to_json", "typed_cells"]


def to_json(cells: Sequence[Any]) -> NDArray[Any]:
    """Encode cells or rows as JSON, in an array of bytes."""
    import numpy as np

    encoded = json.dumps(cells).encode()
    if len(encoded) > LARGEST_TEXT:
        raise ValueError(f"{len(encoded):,} bytes of text")
    return np.frombuffer(encoded, np.uint8)


def from_json(text: NDArray[Any]) -> list[Any]:
    """Decode cells or rows from an array that `to_json` made.

    Raises:
        ValueError: it is not a list.
    """
    content = json.loads(text.tobytes())
    if not isinstance(content, list):
        raise ValueError("no list of cells")
    return content


def typed_cells(cells: Sequence[str]) -> list[Any]:
    """Convert the texts of a column to whole numbers, numbers or times if all of them allow it."""
    from datetime import datetime

    for parse in (int, float, datetime.fromisoformat):
        with contextlib.suppress(ValueError):
            typed: list[Any] = [parse(cell) if cell else None for cell in cells]
            # Neither a float nor a datetime holds nanoseconds since 1970.
            texts = [
                cell if value is None else cell_text(value)
                for value, cell in zip(typed, cells, strict=True)
            ]
            if parse is not datetime.fromisoformat or all(map(_same_time, texts, cells)):
                return typed
    return list(cells)


def _same_time(one: str, other: str) -> bool:
    """Whether two texts of a date are the same but for zeros at the end."""
    return one.rstrip("0.") == other.rstrip("0.")


def cell_text(value: Any) -> str:
    """Return the text of a cell, exact to the last digit."""
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    return repr(value) if isinstance(value, float) else str(value)
