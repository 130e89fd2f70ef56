"""Options as data: the annotation of a dataclass field says how the option is typed and checked.

One dataclass serves the library, the command line, the record inside a result and the
documentation::

    @dataclass(frozen=True, kw_only=True)
    class Options:
        steps: Annotated[int, Flag("Optimisation steps."), Range(0, 1000)] = 100

        def __post_init__(self) -> None:
            check_fields(self)
"""

from __future__ import annotations

import functools
import math
import numbers
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from convnd.errors import UsageError

__all__ = [
    "DETERMINISTIC",
    "DEVICE",
    "DEVICES",
    "LOOK",
    "LOSS",
    "OUTPUT",
    "RESOURCES",
    "SEED",
    "STEPS",
    "WEIGHT",
    "WORK",
    "Flag",
    "Range",
    "check_device_name",
    "check_fields",
    "check_range",
    "flag_name",
    "flags_of",
    "number_text",
    "ranges_of",
]

LOOK = "The look"
LOSS = "Losses and features"
WORK = "Optimisation"
RESOURCES = "Resources and resuming"
OUTPUT = "Output"


@dataclass(frozen=True)
class Flag:
    """How an option appears on the command line.

    Args:
        help: one sentence.
        panel: heading of the help that the option stands under.
        metavar: placeholder for the value, for example ``"W,W,..."``.
        names: names to type instead of the one made from the field.
        choices: the words that the option takes, for shell completion; empty where there are
            others.
        modalities: kinds of data that have the option, see `convnd_tasks.modalities`; empty is
            all of them.
        repeated: whether the option may be typed several times, for more values of a tuple.
        recorded: whether the result depends on the option, so that its record holds it.
    """

    help: str
    panel: str | None = None
    _: KW_ONLY
    metavar: str | None = None
    names: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    repeated: bool = False
    recorded: bool = True


DETERMINISTIC = Flag(
    "Use only algorithms that give the same bits each time; slower on GPUs.", RESOURCES
)
"""The flag of a field ``deterministic``, see `convnd.transfer.deterministic`."""

DEVICES = ("auto", "cpu", "cuda", "mps")
"""Kinds of devices to compute on; "auto" is the fastest that this machine has."""

DEVICE = Flag("Where to compute: auto, cpu, cuda or mps.", RESOURCES, choices=DEVICES)
"""The flag of a field ``device``."""


def check_device_name(name: str) -> str:
    """Check the name of a device, without asking whether this machine has it.

    Args:
        name: one of `DEVICES`, also with an index, as in ``cuda:1``.

    Returns:
        The kind of the device, one of `DEVICES`.

    Raises:
        UsageError: the name has another form.

    >>> check_device_name("cuda:1")
    'cuda'
    """
    kind, _, index = name.partition(":")
    if kind not in DEVICES or (index and (kind == "auto" or not index.isdecimal())):
        raise UsageError(
            "device",
            expected=f"one of {', '.join(DEVICES)}",
            got=repr(name),
            remedy="choose one of these",
        )
    return kind


@dataclass(frozen=True)
class Range:
    """The numbers that an option may take, both ends included.

    >>> 3 in Range(1, 4), math.nan in Range(1, 4), 5 in Range(1, 4)
    (True, False, False)
    """

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return math.isfinite(value) and self.low <= value <= self.high


WEIGHT, STEPS, SEED = Range(0, 1e12), Range(0, 10_000_000), Range(0, 2**63 - 1)


_TYPES = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text or a path",
    tuple: "a sequence",
}
"""Types of fields that are checked, in words."""


def check_fields(options: Any) -> None:
    """Check type and range of every field of an options dataclass.

    Raises:
        UsageError: a value has another type than its field, or a number is outside the `Range` of
            its field; the message names field and value.
    """
    for name, kinds in _checked_types(type(options)).items():  # type: ignore[arg-type]
        _check_type(name, getattr(options, name), kinds)
    for name, allowed in ranges_of(type(options)).items():
        default = type(options).__dataclass_fields__[name].default
        check_range(name, getattr(options, name), allowed, default)


@functools.cache
def _checked_types(options: type[Any]) -> Mapping[str, tuple[type[Any], ...]]:
    """The types of the fields that have one of `_TYPES`, or None, and no other."""
    checked = {}
    for name, hint in _annotations(options).items():  # type: ignore[arg-type]
        kind = get_args(hint)[0]
        kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
        kinds = tuple(get_origin(one) or one for one in kinds)
        if all(one in _TYPES or one is NoneType for one in kinds):
            checked[name] = kinds
    return checked


def _check_type(name: str, value: object, kinds: tuple[type[Any], ...]) -> None:
    """Check the type of one value; numbers and paths may be of any class."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    fits = {
        NoneType: value is None,
        bool: isinstance(value, bool),
        int: is_number and isinstance(value, numbers.Integral),
        float: is_number,
        str: isinstance(value, str | os.PathLike),
        tuple: isinstance(value, Sequence | Mapping) and not isinstance(value, str),
    }
    if not any(fits[kind] for kind in kinds):
        raise UsageError(
            name,
            expected=" or ".join(_TYPES[kind] for kind in kinds if kind in _TYPES),
            got=repr(value) if isinstance(value, str | float | bool) else type(value).__name__,
            remedy="give one",
        )


def check_range(
    name: str, value: float | None, allowed: Range, default: float | None = None
) -> None:
    """Check one number; None passes.

    Args:
        name: name of the option.
        value: the number, or None.
        allowed: range of the option.
        default: the number that the message proposes; None proposes to leave the option out.

    Raises:
        UsageError: the number is outside the range.
    """
    if value is not None and value not in allowed:
        raise UsageError(
            name,
            expected=f"{number_text(allowed.low)} <= {name} <= {number_text(allowed.high)}",
            got=number_text(value),
            remedy="leave it out" if default is None else f"the default is {number_text(default)}",
        )


def number_text(number: float) -> str:
    """A number as messages show it: whole numbers below a billion in full.

    >>> number_text(1048576), number_text(1e12), number_text(30.0)
    ('1048576', '1e+12', '30')
    """
    return str(number) if isinstance(number, int) and abs(number) < 10**9 else f"{number:g}"


def ranges_of(options: type[Any]) -> Mapping[str, Range]:
    """The fields of an options dataclass that have a `Range`."""
    return {name: note for name, _, note in _notes(options) if isinstance(note, Range)}


def flags_of(options: type[Any], *, without: Collection[str] = ()) -> dict[str, tuple[Any, Flag]]:
    """The fields of an options dataclass that have a `Flag`, each with its type and flag.

    A field that is true or false gets ``--name``, or ``--name/--no-name`` unless it is false by
    default.
    """
    flags = {}
    for name, kind, flag in _notes(options):
        if isinstance(flag, Flag) and name not in without:
            if not flag.names and bool in (kind, *get_args(kind)):
                yes = flag_name(name)
                switch = options.__dataclass_fields__[name].default is False
                flag = replace(flag, names=(yes if switch else f"{yes}/--no-{yes[2:]}",))
            flags[name] = kind, flag
    return flags


def _notes(options: type[Any]) -> Iterator[tuple[str, Any, object]]:
    """Yield name and plain type of each annotated field with each note of its annotation."""
    hints = _annotations(options)  # type: ignore[arg-type]  # mypy takes a class for unhashable
    for name, hint in hints.items():
        kind, *notes = get_args(hint)
        for note in notes:
            yield name, kind, note


@functools.cache
def _annotations(options: type[Any]) -> Mapping[str, Any]:
    """The annotated types of fields. A class that only changes a default repeats the plain type."""
    hints: dict[str, Any] = {}
    for cls in options.__mro__:
        for name, hint in get_type_hints(cls, include_extras=True).items():
            if get_origin(hint) is Annotated:
                hints.setdefault(name, hint)
    return {name: hints[name] for name in get_type_hints(options) if name in hints}


def flag_name(field: str, flag: Flag | None = None) -> str:
    """The name to type for a field: the flag's own first name, or one made from the field's.

    >>> flag_name("style_weight"), flag_name("audio", Flag("", names=("--sound/--no-sound",)))
    ('--style-weight', '--sound')
    """
    names = () if flag is None else tuple(name for name in flag.names if name.startswith("--"))
    return names[0].partition("/")[0] if names else f"--{field.replace('_', '-')}"
