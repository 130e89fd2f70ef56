"""From a dataclass of options to flags on the command line: what can be asked for stands once.

A field ``weight: Annotated[float, Flag("How much it counts.")] = 1.0`` becomes ``--weight``, with
the field's default shown in the help. Tuples are typed with commas between.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer

from convnd.errors import UsageError
from convnd.shapes import is_count
from convnd_tasks.pipeline.ranges import Range, numeric, ranges_of, reader

__all__ = [
    "DETERMINISTIC",
    "LOOK",
    "LOSS",
    "OUT",
    "RUN",
    "WORK",
    "CheckpointEvery",
    "Dim",
    "Flag",
    "Json",
    "Metadata",
    "Overwrite",
    "Quiet",
    "Rate",
    "Report",
    "Resume",
    "Shard",
    "SkipExisting",
    "Verbose",
    "arguments_of",
    "flags_of",
    "numbers",
    "option_name",
    "parse_shard",
    "whole_numbers",
    "with_flags",
    "words",
]

T = TypeVar("T")

WORK, LOSS, LOOK, RUN, OUT = (
    "How the work is done",
    "What is kept and what changes",
    "The look",
    "Where it runs",
    "What comes out",
)
"""Headings of the help."""

# What several commands have in common, beside their options.
Dim = Annotated[
    int | None,
    numeric(
        int,
        1,
        16,
        "--dim",
        help="Number of spatial axes: 1 signals, 2 images, 3 volumes and clips. "
        "Inferred from the files when left out.",
        show_default=False,
    ),
]
Rate = Annotated[
    float | None,
    numeric(
        float,
        1e-6,
        1e9,
        help="Samples per second of signals whose files do not say it.",
        rich_help_panel=WORK,
        show_default=False,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace existing results.", rich_help_panel=OUT)
]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing",
        help="Leave results alone that were made with the same parameters from the same inputs.",
        rich_help_panel=OUT,
    ),
]
Metadata = Annotated[
    bool,
    typer.Option(
        "--metadata/--no-metadata",
        help="Keep all parameters with the result, for `convnd rerun`.",
        rich_help_panel=OUT,
    ),
]
Report = Annotated[
    Path | None,
    typer.Option(help="Also a report, one HTML file.", show_default=False, rich_help_panel=OUT),
]
CheckpointEvery = Annotated[
    int,
    numeric(
        int,
        0,
        10_000_000,
        help="Keep a checkpoint beside the result every so many steps, and when stopped.",
        rich_help_panel=RUN,
        show_default=False,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on from the checkpoint; without one, start anew. With --skip-existing, also "
        "with a folder.",
        rich_help_panel=RUN,
    ),
]
Shard = Annotated[
    str,
    typer.Option(
        metavar="I/N",
        help="Of a folder only every Nth file, from the Ith: the work of one of N machines. "
        "Processes started by torchrun share a folder by themselves.",
        rich_help_panel=RUN,
        show_default=False,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one line of JSON, for programs, and nothing else on stdout.",
        rich_help_panel=OUT,
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "-v",
        "--verbose",
        help="Also tell versions, device, precision, tiles and memory.",
        rich_help_panel=OUT,
    ),
]
"""These two are added by `convnd_tasks.pipeline.output.summarised`."""
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress bar.", rich_help_panel=OUT)]


@dataclass(frozen=True, kw_only=True)
class Flag:
    """How a field shows on the command line.

    Args:
        help: one sentence.
        panel: heading it stands under.
        metavar: what a value looks like.
        names: instead of one made from the field's name, for example ``--scale/--raw``.
        shown: whether the default is shown; where it says nothing, it is not.
    """

    help: str
    panel: str | None = None
    metavar: str | None = None
    names: tuple[str, ...] = ()
    shown: bool = True


DETERMINISTIC = Flag(
    help="Only algorithms that give the same bits each time; slower on GPUs.",
    panel=RUN,
    names=("--deterministic",),
)
"""Of the field ``deterministic``, see `convnd_tasks.pipeline.deterministic`."""


def with_flags(
    options: type[Any],
    *,
    others: Mapping[int, Mapping[str, Any]] | None = None,
    without: Collection[str] = (),
    processes: bool = False,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator for commands: every field of ``options`` with a `Flag` becomes one of theirs.

    The command takes its other parameters as usual, and by keyword ``given`` the fields that were
    typed, parsed; those that were not are left to the dataclass, or to what a number of spatial
    axes changes about its defaults. ``summary`` is left to `summarised`,
    which goes around this.

    Args:
        options: a dataclass whose fields have defaults.
        others: defaults of single numbers of spatial axes, named in the help.
        without: fields that this command does not offer.
        processes: whether several processes may run it together, see
            `convnd.optimize.ProcessGroup`.
    """
    found = flags_of(options, without=without)
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    ranges = ranges_of(options)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        own = [
            parameter.replace(annotation=hints[name])
            for name, parameter in inspect.signature(command).parameters.items()
            if name not in ("given", "summary")
        ]
        flags = [
            _parameter(name, kind, flag, defaults[name], others or {}, ranges.get(name))
            for name, (kind, flag) in found.items()
        ]

        def run(context: typer.Context, **typed: Any) -> None:
            given = {}
            for name in found:
                value = typed.pop(name)
                source = context.get_parameter_source(name)
                if source is not None and source.name != "DEFAULT":
                    given[name] = _parsed(name, found[name][0], value)
            command(**typed, given=given)

        context = inspect.Parameter(
            "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
        )
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__module__ = command.__module__
        run.__dict__["processes"] = processes  # the root command looks for it
        parameters = [context, *own, *flags]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
        )
        return run

    return decorate


def flags_of(options: type[Any], *, without: Collection[str] = ()) -> dict[str, tuple[Any, Flag]]:
    """The fields that show on the command line, each with its type and flag."""
    return {
        name: (get_args(hint)[0], flag)
        for name, hint in get_type_hints(options, include_extras=True).items()
        for flag in get_args(hint)[1:]
        if isinstance(flag, Flag) and name not in without
    }


def arguments_of(options: Any, *, without: Collection[str] = ()) -> list[str]:
    """What would have to be typed for these options: `with_flags` the other way round.

    Args:
        options: an instance of the dataclass.
        without: fields that the command does not offer.

    >>> from convnd_tasks.options import StyleOptions
    >>> arguments_of(StyleOptions(size=64))[:4]
    ['--style-weight=30.0', '--content-weight=1.0', '--style-scale=1.0', '--colors=style']
    """
    found = []
    for name, (kind, flag) in flags_of(type(options), without=without).items():
        value = getattr(options, name)
        option = flag.names[0] if flag.names else option_name(name)
        if isinstance(value, bool):
            yes, _, no = option.partition("/")
            found += [yes] if value else [no] if no else []
        elif isinstance(value, tuple):
            # No names at all is a choice of its own; no numbers is the default.
            text = ",".join(map(str, value)) or ("none" if get_args(kind)[0] is str else "")
            found += [f"{option}={text}"] if text else []
        elif value is not None and value != "":
            found.append(f"{option}={value}")
    return found


def option_name(field: str) -> str:
    """How a field is typed.

    >>> option_name("style_weight")
    '--style-weight'
    """
    return f"--{field.replace('_', '-')}"


_KINDS = {1: "signals", 2: "images", 3: "volumes"}


def _parameter(
    name: str,
    kind: Any,
    flag: Flag,
    default: Any,
    others: Mapping[int, Mapping[str, Any]],
    allowed: Range | None,
) -> inspect.Parameter:
    typed, shown = kind, default
    if get_origin(kind) is tuple:
        typed, shown = str, ",".join(map(str, default))
    elif get_origin(kind) is types.UnionType and default is None:
        shown = None
    text = flag.help
    elsewhere = [
        f"{_text(given[name])} for {_KINDS.get(dim, f'{dim} axes')}"
        for dim, given in others.items()
        if name in given
    ]
    if elsewhere:
        text = f"{text} Default: {', '.join([_text(default), *elsewhere])}."
    read = {} if allowed is None else reader(kind, allowed)
    if allowed is None or flag.metavar is not None:
        read["metavar"] = flag.metavar
    option = typer.Option(
        *flag.names,
        **read,
        help=text,
        rich_help_panel=flag.panel,
        show_default=flag.shown and not elsewhere and shown not in (None, ""),
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=shown,
        annotation=Annotated[typed, option],
    )


def _text(default: Any) -> str:
    return (",".join(default) or "none") if isinstance(default, tuple) else str(default)


def _parsed(name: str, kind: Any, value: Any) -> Any:
    if get_origin(kind) is not tuple:
        return value
    option = option_name(name)
    if get_args(kind)[0] is float:
        return numbers(option, value)
    if get_args(kind)[0] is int:
        return whole_numbers(option, value)
    return () if value == "none" else words(value)


def words(text: str) -> tuple[str, ...]:
    """What stands between commas.

    >>> words("relu1_1, relu2_1")
    ('relu1_1', 'relu2_1')
    """
    return tuple(word.strip() for word in text.split(",") if word.strip())


def parse_shard(text: str) -> tuple[int, int] | None:
    """Number from 1, and how many there are; None for "".

    Raises:
        UsageError: anything else.

    >>> parse_shard("2/4"), parse_shard("")
    ((2, 4), None)
    """
    if not text:
        return None
    number, _, count = text.partition("/")
    if is_count(number) and is_count(count) and 1 <= int(number) <= int(count):
        return int(number), int(count)
    raise UsageError(f"--shard: expected I/N with 1 <= I <= N, got {text!r}; for example 1/4")


def numbers(option: str, text: str) -> tuple[float, ...]:
    """The numbers between commas.

    Raises:
        UsageError: some of them are none; the message names the option.
    """
    return _each(option, text, float, "numbers", "2,1")


def whole_numbers(option: str, text: str) -> tuple[int, ...]:
    """The whole numbers between commas; raises as `numbers`."""
    return _each(option, text, int, "whole numbers", "1,4")


def _each(
    option: str, text: str, kind: Callable[[str], T], wanted: str, example: str
) -> tuple[T, ...]:
    try:
        return tuple(kind(word) for word in words(text))
    except ValueError:
        raise UsageError(
            f"{option}: expected {wanted} with commas between, got {text!r}; for example {example}"
        ) from None
