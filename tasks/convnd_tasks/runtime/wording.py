"""Counts and lists in sentences."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["counted", "listed"]


def counted(number: int, noun: str) -> str:
    """Write a count with its noun.

    Args:
        number: the count.
        noun: the noun in the plural.

    >>> counted(1, "steps"), counted(2, "steps"), counted(1, "patches")
    ('1 step', '2 steps', '1 patch')
    """
    if number != 1:
        return f"{number} {noun}"
    return f"1 {noun.removesuffix('es') if noun.endswith('ches') else noun.removesuffix('s')}"


def listed(words: Sequence[str]) -> str:
    """Join words with commas and "and".

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join([*([", ".join(words[:-1])] if len(words) > 1 else []), words[-1]])
