"""Parsing of rates and times, which may be fractions."""

from __future__ import annotations

import re
from fractions import Fraction

from convnd.errors import UsageError

__all__ = ["parse_fraction"]


def parse_fraction(option: str, text: str) -> Fraction:
    """Parse a decimal number or a fraction exactly.

    Args:
        option: the option as it is typed, for the error.
        text: digits with at most one point, or two whole numbers with a slash between.

    Raises:
        UsageError: the text is not such a number.

    >>> parse_fraction("--rate", "30000/1001"), parse_fraction("--from", "2.5")
    (Fraction(30000, 1001), Fraction(5, 2))
    """
    # No exponents: Fraction would work out the digits of 1e99999999.
    if re.fullmatch(r"\s*\d{1,10}(\.\d{0,12}|/0*[1-9]\d{0,8})?\s*", text, re.ASCII):
        return Fraction(text.strip().rstrip("."))
    raise UsageError(
        option, expected="a number from 0 to 999999999", got=repr(text), remedy="for example 2.5"
    )
