"""Parameters that several commands have in common, and the parsing of numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args

import typer

from convnd.options import OUTPUT, Range, number_text

__all__ = ["Dim", "Json", "Overwrite", "Quiet", "Report", "Verbose", "numeric", "reader"]


def numeric(
    kind: type[int] | type[float], low: float, high: float, *names: str, **more: Any
) -> Any:
    """Make a ``typer.Option`` that takes a number; its error for anything else names the range.

    Args:
        kind: ``int`` or ``float``.
        low: the smallest number.
        high: the largest number.
        names: names of the option; made from the parameter's name when left out.
        more: further arguments of ``typer.Option``.
    """
    return typer.Option(*names, **{**reader(kind, Range(low, high), strict=True), **more})


def reader(kind: Any, allowed: Range, *, strict: bool = False) -> dict[str, Any]:
    """Make the arguments of ``typer.Option`` that parse a number.

    Args:
        kind: type of the field; where None is among its types, "auto" may be typed for it.
        allowed: range of the number.
        strict: whether numbers outside the range are refused here, or later by `check_fields`.
    """
    (plain,) = [member for member in get_args(kind) or (kind,) if member is not NoneType]
    auto = NoneType in get_args(kind)
    convert: Callable[[str], float] = int if plain is int else float
    expected = ("auto or " if auto else "") + ("a whole number" if plain is int else "a number")

    def parse(text: str) -> float | None:
        if auto and text == "auto":
            return None
        try:
            value: float | None = convert(text)
        except ValueError:
            value = None
        if value is None or (strict and value not in allowed):
            raise typer.BadParameter(
                f"expected {expected} from {number_text(allowed.low)} to "
                f"{number_text(allowed.high)}, got {text!r}"
            )
        return value

    return {"parser": parse, "metavar": "N"}


# Options of several commands.
Dim = Annotated[
    int | None,
    numeric(
        int,
        1,
        16,
        "--dim",
        help="Number of spatial axes: 1 signals, 2 pictures, 3 volumes and videos. "
        "Inferred from the files when left out.",
        show_default=False,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace existing results.", rich_help_panel=OUTPUT)
]
Report = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write a report, one HTML file.",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one line of JSON, for programs, and nothing else on stdout.",
        rich_help_panel=OUTPUT,
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "-v",
        "--verbose",
        help="Also show versions, device, precision, tiles and memory.",
        rich_help_panel=OUTPUT,
    ),
]
"""``Json`` and ``Verbose`` are added by `convnd_tasks.pipeline.output.with_json_output`."""
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", help="Show no progress.", rich_help_panel=OUTPUT)
]
