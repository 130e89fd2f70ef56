"""Amounts of memory as text."""

from __future__ import annotations

import re

from convnd.errors import UsageError

__all__ = ["gib", "parse_memory"]


def parse_memory(text: str) -> int | None:
    """Parse an amount of memory.

    Args:
        text: "auto", or a number followed by B, KiB, MiB, GiB, TiB, or KB, MB, GB, TB (powers of
            1000); upper or lower case.

    Returns:
        Bytes; None for "auto".

    Raises:
        UsageError: the text has another form, or the amount is 0.

    >>> parse_memory("1.5GiB"), parse_memory("2 gb"), parse_memory("auto")
    (1610612736, 2000000000, None)
    """
    if text == "auto":
        return None
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?)\s*(?:([KMGT]I?)?B)\s*", text.upper())
    if match is None or not 0 < float(match[1]) < 2**53:
        raise UsageError(
            "memory",
            expected="auto, or a size above 0 with its unit",
            got=f"{text!r}",
            remedy="for example 4GiB or 500MB",
        )
    prefix = match[2] or ""
    power = " KMGT".index(prefix[0]) if prefix else 0
    return int(float(match[1]) * (1024 if prefix.endswith("I") else 1000) ** power)


def gib(size: float) -> str:
    """Return an amount in GiB, or in MiB below a tenth of one.

    >>> gib(3 * 2**29), gib(5 * 2**20)
    ('1.5 GiB', '5 MiB')
    """
    if 0 < size < 2**30 / 10:
        return f"{max(1, round(size / 2**20))} MiB"
    return f"{size / 2**30:.1f} GiB"
