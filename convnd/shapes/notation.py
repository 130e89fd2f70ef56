"""Layers and shapes as people type them.

The notation of a layer is its kind, its kernel, the filters of a convolution, and options::

    conv:5:16                                  5 taps along every axis, 16 filters
    conv:5x3x3:16,stride=2,padding=same        5×3×3 taps, one size per axis
    conv:3:8,dilation=2,groups=4,bias=no
    conv:4:8,padding=1/2                       1 before and 2 after every axis
    maxpool:2   avgpool:3,stride=2             the default stride is the kernel
    maxpool:3,stride=2,ceil_mode=yes           a last window may reach beyond the end
    convtranspose:4:8,stride=2,padding=1,output_padding=1

A number applies to all axes; numbers joined by ``x`` apply to one axis each: ``2x1x1``,
``1/2x0x0``. ``pool`` means ``maxpool``. A shape is its axes and then its channels: ``14x14x3``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convnd.errors import ShapeError, UsageError
from convnd.registry import check_name, unknown_name
from convnd.shapes.layer import KINDS, Layer

__all__ = ["is_count_text", "parse_layer", "parse_shape"]

_DIGITS = 18  # what 64 bits hold
_ALIASES = {"pool": "maxpool"}


def is_count_text(text: str) -> bool:
    """Whether a text is a whole number of at least 0 and at most 18 digits.

    `str.isdigit` accepts superscripts as digits, and Python converts only numbers up to a limit of
    digits.

    >>> is_count_text("12"), is_count_text("-1"), is_count_text("²"), is_count_text("9" * 5000)
    (True, False, False, False)
    """
    return text.isdecimal() and len(text) <= _DIGITS


def parse_shape(text: str, spatial_dims: int | None = None) -> tuple[tuple[int, ...], int]:
    """Parse ``S1x…xSNxC`` into size and channels.

    Args:
        text: the sizes of the axes, then the number of channels.
        spatial_dims: the expected number of axes; None means any.

    Raises:
        UsageError: the text is not positive whole numbers joined by ``x``.
        ShapeError: the number of axes differs from ``spatial_dims``.

    >>> parse_shape("14x14x3")
    ((14, 14), 3)
    """
    pieces = text.lower().replace("×", "x").split("x")
    for piece in pieces:
        if not is_count_text(piece) or int(piece) < 1:
            raise UsageError(
                f"shape {text!r}",
                expected="positive whole numbers with x between them",
                got=repr(piece),
                remedy="write for example 14x14x3",
            )
    *size, channels = (int(piece) for piece in pieces)
    if not size or len(size) != (len(size) if spatial_dims is None else spatial_dims):
        axes = "at least 1 axis" if spatial_dims is None else f"{spatial_dims} axes"
        example = "x".join(["14"] * (spatial_dims or 1))
        raise ShapeError(
            f"shape {text!r}",
            expected=f"{axes} and then the channels",
            got=f"{len(size)} and the channels",
            remedy=f"write for example {example}x1",
        )
    return tuple(size), channels


def parse_layer(text: str, spatial_dims: int) -> Layer:
    """Parse a layer from its notation, see `convnd.shapes.notation`.

    Args:
        text: for example ``conv:5:16,stride=2``.
        spatial_dims: number of spatial axes.

    Raises:
        UnknownNameError: unknown kind or option; the message suggests the nearest one.
        UsageError: a part is malformed; the message quotes it.
        ShapeError: the numbers do not fit the number of axes.

    >>> parse_layer("conv:5x3:16,stride=2,padding=1/2", 2).padding
    ((1, 2), (1, 2))
    >>> str(parse_layer("pool:2", 3))
    'maxpool:2'
    """
    head, *options = text.split(",")
    kind, *numbers = head.split(":")
    kind = _ALIASES.get(kind, kind)
    if kind not in KINDS:
        raise unknown_name(f"layer {text!r}", kind, [*KINDS, *_ALIASES])
    pooling = kind.endswith("pool")
    if len(numbers) != (1 if pooling else 2):
        shape = f"{kind}:KERNEL" if pooling else f"{kind}:KERNEL:FILTERS"
        example = f"{kind}:2" if pooling else f"{kind}:5:16"
        raise UsageError(
            f"layer {text!r}", expected=shape, got=repr(head), remedy=f"write for example {example}"
        )
    arguments: dict[str, Any] = {"kernel": _sizes(text, numbers[0])}
    if not pooling:
        arguments["channels"] = _number(text, numbers[1])
    for option in options:
        key, equals, value = option.partition("=")
        check_name(f"layer {text!r}: option", key, _READERS)
        if not equals or not value:
            raise UsageError(
                f"layer {text!r}",
                expected=f"{key}=VALUE",
                got=repr(option),
                remedy="give the option a value",
            )
        if key in arguments:
            raise UsageError(
                f"layer {text!r}",
                expected=f"{key} once",
                got=f"it again in {option!r}",
                remedy="keep one",
            )
        arguments[key] = _READERS[key](text, value)
    if len(arguments.get("padding", "several")) == 1:
        arguments["padding"] *= spatial_dims
    try:
        return Layer.build(kind, spatial_dims, **arguments)
    except ShapeError as error:
        operation = f"layer {text!r}: {error.operation}"
        raise ShapeError(
            operation, expected=error.expected, got=error.got, remedy=error.remedy
        ) from None


def _number(text: str, piece: str) -> int:
    if not is_count_text(piece):
        raise UsageError(
            f"layer {text!r}",
            expected="a whole number",
            got=repr(piece),
            remedy="write for example conv:5:16",
        )
    return int(piece)


def _sizes(text: str, piece: str) -> int | tuple[int, ...]:
    numbers = tuple(_number(text, item) for item in piece.split("x"))
    return numbers[0] if len(numbers) == 1 else numbers


def _padding(text: str, piece: str) -> str | tuple[tuple[int, int], ...]:
    if piece.isalpha():  # `pad_pairs` knows the words
        return piece
    pairs = []
    for item in piece.split("x"):
        low, slash, high = item.partition("/")
        pairs.append((_number(text, low), _number(text, high if slash else low)))
    return tuple(pairs)


def _switch(text: str, piece: str) -> bool:
    if piece not in ("yes", "no"):
        raise UsageError(
            f"layer {text!r}",
            expected="yes or no",
            got=repr(piece),
            remedy="write for example bias=no",
        )
    return piece == "yes"


_READERS: dict[str, Callable[[str, str], object]] = {
    "stride": _sizes,
    "dilation": _sizes,
    "padding": _padding,
    "groups": _number,
    "bias": _switch,
    "output_padding": _sizes,
    "ceil_mode": _switch,
}
