"""Names of results that would replace each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convnd import io

__all__ = ["distinct_names"]


def distinct_names(names: Sequence[str]) -> list[str]:
    """Add a number to the second of two equal names, in any case of letters, and to further ones.

    >>> distinct_names(["a.png", "b.png", "A.png", "a-2.png"])
    ['a.png', 'b.png', 'A-3.png', 'a-2.png']
    """
    given, taken, distinct = {name.lower() for name in names}, set[str](), []
    for name in names:
        number, free = 1, name
        while free.lower() in (taken if number == 1 else taken | given):
            number += 1
            free = io.extend_stem(Path(name), str(number)).name
        taken.add(free.lower())
        distinct.append(free)
    return distinct
