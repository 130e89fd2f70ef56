"""Tables as text, and receptive fields as plain data."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from fractions import Fraction

from convnd.shapes import ReceptiveField

__all__ = ["align_columns", "receptive_field_record"]


def align_columns(rows: Sequence[Sequence[str]], *, numbers: Container[int] = ()) -> list[str]:
    """Format a table as lines of text with aligned columns.

    Args:
        rows: the cells of each row; every row has the same number of cells.
        numbers: indices of the columns that are aligned to the right.

    >>> align_columns([("a", "10"), ("bcd", "5")], numbers=[1])
    ['a    10', 'bcd   5']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index in numbers else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def receptive_field_record(field: ReceptiveField) -> dict[str, list[int | str]]:
    """Convert a receptive field to data for JSON; a fraction becomes text such as ``"1/2"``."""
    return {
        "span": list(field.span),
        "size": _plain(field.size),
        "stride": _plain(field.stride),
        "offset": _plain(field.offset),
    }


def _plain(values: Iterable[int | Fraction]) -> list[int | str]:
    return [value if isinstance(value, int) else str(value) for value in values]
