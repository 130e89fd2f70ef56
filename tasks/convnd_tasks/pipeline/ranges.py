"""Ranges of numbers among options: each stands once, for library, command line and messages."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from convnd.errors import UsageError

__all__ = [
    "SEED",
    "STEPS",
    "WEIGHT",
    "Range",
    "check_range",
    "check_ranges",
    "numeric",
    "ranges_of",
    "reader",
]


@dataclass(frozen=True)
class Range:
    """From where to where a number may lie, both ends included.

    A field ``steps: Annotated[int, Range(0, 100)]`` is checked by `check_ranges`.

    >>> 3 in Range(1, 4), math.nan in Range(1, 4), 5 in Range(1, 4)
    (True, False, False)
    """

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return math.isfinite(value) and self.low <= value <= self.high


WEIGHT, STEPS, SEED = Range(0, 1e12), Range(0, 10_000_000), Range(0, 2**63 - 1)


def check_ranges(options: Any) -> None:
    """Refuse a dataclass of options with a number outside of its field's `Range`.

    Raises:
        UsageError: field, range and number are named.
    """
    for name, allowed in ranges_of(type(options)).items():
        check_range(name, getattr(options, name), allowed)


def check_range(name: str, value: float | None, allowed: Range) -> None:
    """The same for one number; None, which is no number, is allowed."""
    if value is not None and value not in allowed:
        raise UsageError(
            f"{name}: expected {allowed.low:g} <= {name} <= {allowed.high:g}, got {value:g}; "
            "correct it"
        )


def ranges_of(options: type[Any]) -> Mapping[str, Range]:
    """The fields of a dataclass that have a range."""
    return {
        name: each
        for name, hint in get_type_hints(options, include_extras=True).items()
        if get_origin(hint) is Annotated
        for each in get_args(hint)[1:]
        if isinstance(each, Range)
    }


def numeric(
    kind: type[int] | type[float], low: float, high: float, *names: str, **more: Any
) -> Any:
    """A ``typer.Option`` that takes a number; the range is named when something else is typed.

    Args:
        kind: ``int`` or ``float``.
        low: the smallest.
        high: the largest.
        names: as they are typed; made from the parameter's name when left out.
        more: for ``typer.Option``.
    """
    return typer.Option(*names, **{**reader(kind, Range(low, high), strict=True), **more})


def reader(kind: Any, allowed: Range, *, strict: bool = False) -> dict[str, Any]:
    """What ``typer.Option`` is to be told for a number to be read.

    Args:
        kind: of the field; where None is among its types, "auto" may be typed for it.
        allowed: its range.
        strict: numbers outside of it are refused here, and not left to `check_ranges`.
    """
    (plain,) = [each for each in get_args(kind) or (kind,) if each is not NoneType]
    auto = NoneType in get_args(kind)
    convert: Callable[[str], float] = int if plain is int else float
    what = ("auto or " if auto else "") + ("a whole number" if plain is int else "a number")

    def parse(text: str) -> float | None:
        if auto and text == "auto":
            return None
        try:
            value: float | None = convert(text)
        except ValueError:
            value = None
        if value is None or (strict and value not in allowed):
            raise typer.BadParameter(
                f"expected {what} from {allowed.low:g} to {allowed.high:g}, got {text!r}"
            )
        return value

    return {"parser": parse, "metavar": f"<{plain.__name__}>"}
