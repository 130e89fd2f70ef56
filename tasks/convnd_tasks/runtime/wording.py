"""Counts and lists in sentences."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["count_text", "join_words"]


def count_text(number: int, noun: str) -> str:
    """Write a count with its noun.

    Args:
        number: the count.
        noun: the noun in the plural.

    >>> count_text(1, "steps"), count_text(2, "steps"), count_text(1, "patches")
    ('1 step', '2 steps', '1 patch')
    """
    if number != 1:
        return f"{number} {noun}"
    return f"1 {noun.removesuffix('es') if noun.endswith('ches') else noun.removesuffix('s')}"


def join_words(words: Sequence[str]) -> str:
    """Join words with commas and "and".

    >>> join_words(["a"]), join_words(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join([*([", ".join(words[:-1])] if len(words) > 1 else []), words[-1]])
