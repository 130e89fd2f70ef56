"""One column of a table: its name, its unit and the numbers of its cells."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["GAPS", "Column", "cell_value", "grouping_hint", "name_and_unit"]

GAPS = {"", "nan", "na", "n/a", "#n/a", "null", "none", "-", "-nan", "?"}
"""Cells in lower case that stand for a missing value."""

_GROUPED = re.compile(r"[+-]?\d{1,3}([.,' ’]\d{3})+([.,]\d*)?|=?\(?\"[^\"]*\"\)?")
_LONGEST = 40  # characters of a number
_BRACKETS = re.compile(r"[\(\)\[\]]")


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        name: without its unit; "" if the table has no names.
        unit: the text in brackets, or None.
        cells: text of the cell in each row.
    """

    name: str
    unit: str | None
    cells: Sequence[str]


def name_and_unit(cell: str) -> tuple[str, str | None]:
    """Split the cell of a header, in time linear in its length.

    >>> name_and_unit("II (mV)"), name_and_unit(" aVR [uV] "), name_and_unit("time")
    (('II', 'mV'), ('aVR', 'uV'), ('time', None))
    """
    cell = cell.strip().strip("'\"")
    start = max(cell.rfind("("), cell.rfind("["))
    if start < 0 or cell[-1] not in ")]" or _BRACKETS.search(cell[start + 1 : -1]):
        return cell, None
    return cell[:start].strip(), cell[start + 1 : -1].strip()


def cell_value(cell: str, decimal: str = ".") -> float | None:
    """The number of a cell, NaN for a gap, or None for anything else.

    With decimal commas, a point may separate thousands, so a cell with a point is not a number.

    >>> cell_value("1,5", ","), cell_value("n/a"), cell_value("N"), cell_value("1.234", ",")
    (1.5, nan, None, None)
    """
    if cell.lower() in GAPS:
        return math.nan
    if decimal == "," and "." in cell:
        return None
    try:
        return float(cell.replace(",", ".") if decimal == "," else cell)
    except ValueError:
        return None


def grouping_hint(cells: Iterable[str]) -> str:
    """Return the remedy for numbers with thousands separators or in quotes; "" for other cells.

    >>> grouping_hint(["a", "1.234,5"])
    "write numbers such as '1.234,5' plain, without separators between thousands and quotes"
    >>> grouping_hint(["12.345"]), grouping_hint(["word"])
    ("write numbers such as '12.345' plain, without separators between thousands and quotes", '')
    """
    for cell in cells:
        if len(cell) < _LONGEST and _GROUPED.fullmatch(cell.strip()):
            return (
                f"write numbers such as {cell.strip()!r} plain, without separators between "
                "thousands and quotes"
            )
    return ""
