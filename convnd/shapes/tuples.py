"""Arguments of layers as one number or one pair per axis."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterable, Sequence
from typing import Any, SupportsIndex, TypeVar

from convnd.errors import ShapeError
from convnd.registry import unknown_name

__all__ = ["Padding", "Pairs", "ntuple", "pad_pairs", "single"]

T = TypeVar("T")

Padding = str | SupportsIndex | Sequence[SupportsIndex | Sequence[SupportsIndex]]
"""``"same"``, ``"causal"``, ``"valid"``, one number, one per axis, or a ``(low, high)`` pair per
axis."""

Pairs = tuple[tuple[int, int], ...]
"""A ``(low, high)`` pair per axis."""


def ntuple(
    value: SupportsIndex | Sequence[SupportsIndex], ndim: int, name: str, *, minimum: int | None = 1
) -> tuple[int, ...]:
    """Return one whole number per axis: a single number is repeated, a sequence is checked.

    Args:
        value: a whole number, or one for each of the ``ndim`` axes.
        ndim: number of spatial axes.
        name: the argument's name, for the message.
        minimum: smallest valid value; None for any.

    Raises:
        ShapeError: the number of values is wrong, or a value is below ``minimum`` or not whole.

    >>> ntuple(3, 2, "kernel_size"), ntuple((1, 2), 2, "stride")
    ((3, 3), (1, 2))
    """
    argument: Any = value  # which need not be of its type
    try:
        values = (operator.index(argument),) * ndim
    except TypeError:
        try:
            values = tuple(operator.index(item) for item in argument)
        except TypeError:
            values = ()
    if len(values) == ndim and (minimum is None or min(values, default=minimum) >= minimum):
        return values
    limit = "" if minimum is None else f" of at least {minimum}"
    raise ShapeError(
        name,
        expected=f"one whole number{limit}, or {ndim} of them",
        got=repr(value),
        remedy="give one for all axes or one for each",
    )


def single(value: T) -> T | SupportsIndex:
    """Return the number in a list or tuple of one whole number, and any other value as it is.

    >>> single([3]), single([3, 4]), single("same")
    (3, [3, 4], 'same')
    """
    if isinstance(value, list | tuple) and len(value) == 1:
        with contextlib.suppress(TypeError):  # sizes are tensors in a trace of torch.jit
            return operator.index(value[0])
    return value


def pad_pairs(
    padding: Padding,
    ndim: int,
    *,
    reach: Sequence[int] | None = None,
    name: str = "padding",
    minimum: int | None = 0,
) -> Pairs:
    """Convert any notation of padding to the samples before and after each axis.

    Args:
        padding: ``"same"``, ``"causal"``, ``"valid"``, one number, one per axis, or a ``(low,
            high)`` pair per axis.
        ndim: number of spatial axes.
        reach: samples that ``"same"`` and ``"causal"`` add along each axis, ``dilation · (kernel −
            1)``. ``"same"`` adds the larger half after the axis, as in torch. ``"causal"`` adds all
            of them before the first axis, which is time, and is ``"same"`` along the others. With
            stride s the output has ``ceil(S / s)`` samples. None refuses both words.
        name: the argument's name, for the message.
        minimum: smallest valid number; None for any, where negative numbers crop.

    Raises:
        ShapeError: another notation, or a number below ``minimum``.

    >>> pad_pairs("same", 2, reach=(2, 3)), pad_pairs(((0, 1), 4), 2)
    (((1, 1), (1, 2)), ((0, 1), (4, 4)))
    >>> pad_pairs("causal", 3, reach=(2, 2, 2))
    ((2, 0), (1, 1), (1, 1))
    """
    words = ("valid",) if reach is None else ("same", "causal", "valid")
    if isinstance(padding, str):
        if padding not in words:
            raise unknown_name(name, padding, [*words, "a number"])
        totals = (0,) * ndim if padding == "valid" or reach is None else reach
        pairs = tuple((total // 2, total - total // 2) for total in totals)
        return ((totals[0], 0), *pairs[1:]) if padding == "causal" else pairs
    items: list[Any] = list(padding) if isinstance(padding, Iterable) else [padding] * ndim
    if len(items) != ndim:
        remedy = "give a number for all axes, or a number or a (low, high) pair for each"
        if len(items) == 2 * ndim:  # as `torch.nn.functional.pad` has it, from the last axis
            remedy = "give a (low, high) pair for each axis, in the order of the axes"
        raise ShapeError(name, expected=f"{ndim} entries", got=repr(padding), remedy=remedy)
    checked = (
        ntuple(item, 2, f"{name} of axis {axis}", minimum=minimum)
        for axis, item in enumerate(items)
    )
    return tuple((low, high) for low, high in checked)
