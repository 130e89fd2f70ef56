"""Flags of the command line, made from dataclasses of options.

A field ``weight: Annotated[float, Flag("How much it counts.")] = 1.0`` becomes ``--weight``, with
the field's default shown in the help. Tuples are typed with commas between.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer

from convnd.errors import UsageError
from convnd.options import Flag, Range, flag_name, flags_of, ranges_of
from convnd_tasks.pipeline.completion import complete_backbones, complete_choices
from convnd_tasks.pipeline.parameters import reader
from convnd_tasks.runtime.wording import join_words

__all__ = [
    "applicable_modalities",
    "arguments_of",
    "as_command",
    "numbers",
    "parameters_of",
    "with_flags",
    "words",
]

T = TypeVar("T")


def with_flags(
    *options: type[Any],
    settings: type[Any] | None = None,
    kind: str | None = None,
    only: Collection[str] | None = None,
    processes: bool = False,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a command: every field with a `Flag` becomes an option of the command.

    The command gets the values of the fields that were typed, by name: those of ``options`` as
    ``typed_options`` and those of ``settings`` as ``typed_settings``. Its other parameters stay as
    they are.

    Args:
        options: dataclasses of options, one for each kind of data that the command takes. A field
            of several of them is one option; its help names the defaults where they differ.
        settings: a dataclass whose fields are passed separately, or None.
        kind: the only kind of data that the command takes, or None; options of others are left out.
        only: the fields that become options; None is every field with a `Flag`.
        processes: whether several processes may run the command together, see `convnd.optimize`.
    """
    flags = _flags_of_all(options if settings is None else (*options, settings), kind)
    if only is not None:
        flags = {name: flags[name] for name in only}
    of_settings = set() if settings is None else set(flags_of(settings))

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(context: typer.Context, **typed: Any) -> None:
            typed_options: dict[str, Any] = {}
            typed_settings: dict[str, Any] = {}
            for name, (annotation, flag, _, _) in flags.items():
                value = typed.pop(name)
                source = context.get_parameter_source(name)
                if source is not None and source.name != "DEFAULT":
                    parsed = _parsed(flag_name(name, flag), annotation, value)
                    (typed_settings if name in of_settings else typed_options)[name] = parsed
            if settings is not None:
                typed["typed_settings"] = typed_settings
            command(**typed, typed_options=typed_options)

        context = inspect.Parameter(
            "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
        )
        fields = [
            _parameter(
                name, annotation, flag, defaults, range_, _only_kinds(options, flag, defaults)
            )
            for name, (annotation, flag, defaults, range_) in flags.items()
        ]
        run.__dict__["processes"] = processes  # the root command looks for it
        return as_command(run, command, [context, *parameters_of(command), *fields])

    return decorate


def parameters_of(command: Callable[..., None]) -> list[inspect.Parameter]:
    """List the parameters of a command that users type, with their annotations."""
    hints = get_type_hints(command, include_extras=True)
    return [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(command).parameters.items()
        if name not in ("typed_options", "typed_settings", "command_output")
    ]


def as_command(
    run: Callable[..., None], command: Callable[..., None], parameters: Sequence[inspect.Parameter]
) -> Callable[..., None]:
    """Give a function the name, the help and the parameters that Typer shows.

    Args:
        run: the function.
        command: the command that has the name and the help.
        parameters: the parameters.
    """
    run.__name__, run.__doc__, run.__module__ = (
        command.__name__,
        command.__doc__,
        command.__module__,
    )
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    run.__dict__.update(command.__dict__, __signature__=inspect.Signature(keywords))
    return run


def _flags_of_all(
    option_classes: Sequence[type[Any]], kind: str | None
) -> dict[str, tuple[Any, Flag, dict[str, Any], Range | None]]:
    """Return type, flag, defaults by kind of data, and range of every field with a flag."""
    flags: dict[str, tuple[Any, Flag, dict[str, Any], Range | None]] = {}
    defaults: dict[str, dict[str, Any]] = {}
    for dataclass in option_classes:
        for field in dataclasses.fields(dataclass):
            defaults.setdefault(field.name, {})[_kind_of_data(dataclass)] = field.default
        ranges = ranges_of(dataclass)
        for name, (annotation, flag) in flags_of(dataclass).items():
            if kind is None or not flag.modalities or kind in flag.modalities:
                flags.setdefault(name, (annotation, flag, defaults[name], ranges.get(name)))
    return flags


def applicable_modalities(name: str) -> set[str]:
    """Return the kinds of data that an option or setting applies to.

    Args:
        name: name of the field.

    >>> sorted(applicable_modalities("beat_weight"))
    ['signals']
    """
    from convnd_tasks.modalities import MODALITIES, options_class
    from convnd_tasks.runtime.settings import JobSettings

    settings = flags_of(JobSettings)
    if name in settings:
        return set(settings[name][1].modalities or MODALITIES)
    return {kind for kind in MODALITIES if name in options_class(kind).__dataclass_fields__}


def _kind_of_data(options: type[Any]) -> str:
    """Return the kind of data of a dataclass of options: "pictures" for ``ImageOptions``."""
    name = options.__name__.removesuffix("Options").lower()
    return "pictures" if name == "image" else f"{name}s"


def arguments_of(
    options: Any, *, without: Collection[str] = (), recorded: bool = False
) -> list[str]:
    """Return the words of the command line for some options: the reverse of `with_flags`.

    Args:
        options: an instance of the dataclass.
        without: names of fields to leave out.
        recorded: whether options are left out that have their default or do not change the result.

    >>> from convnd.transfer.options import TransferOptions
    >>> arguments_of(TransferOptions(size=64))[:3]
    ['--style-weight=30.0', '--content-weight=1.0', '--style-scale=1.0']
    """
    arguments = []
    for name, (kind, flag) in flags_of(type(options), without=without).items():
        value = getattr(options, name)
        if recorded and (
            not flag.recorded or value == type(options).__dataclass_fields__[name].default
        ):
            continue
        option = flag.names[0] if flag.names else flag_name(name)
        if isinstance(value, bool):
            positive, _, negative = option.partition("/")
            arguments += [positive] if value else [negative] if negative else []
        elif isinstance(value, tuple):
            # No names at all is a choice of its own; no numbers is the default.
            text = ",".join(map(str, value)) or ("none" if get_args(kind)[0] is str else "")
            arguments += [f"{option}={text}"] if text else []
        elif value is not None and value != "":
            arguments.append(f"{option}={value}")
    return arguments


def _only_kinds(options: Sequence[type[Any]], flag: Flag, defaults: Collection[str]) -> list[str]:
    """Return the kinds of data that an option is for, if the command takes others as well."""
    kinds = [_kind_of_data(dataclass) for dataclass in options]
    holders = [kind for kind in kinds if kind in (flag.modalities or defaults)]
    return holders if flag.panel is not None and 0 < len(holders) < len(kinds) - 1 else []


def _parameter(
    name: str,
    kind: Any,
    flag: Flag,
    defaults: Mapping[str, Any],
    allowed: Range | None,
    kinds: Sequence[str],
) -> inspect.Parameter:
    default = next(iter(defaults.values()))
    typed, shown_default = kind, default
    if get_origin(kind) is tuple:
        typed, shown_default = str, ",".join(map(str, default))
        if flag.repeated:
            typed, shown_default = list[str], None
    elif get_origin(kind) is types.UnionType and default is None:
        shown_default = None
    text = flag.help
    if kinds:
        first = text[0].lower() if text[1:2].islower() else text[0]
        text = f"{join_words(kinds).capitalize()} only: {first}{text[1:]}"
    other_kinds: dict[str, list[str]] = {}
    for data, value in defaults.items():
        if value != default:
            other_kinds.setdefault(_text(value), []).append(data)
    if other_kinds:
        phrases = [f"for {join_words(data)} {value}" for value, data in other_kinds.items()]
        text = f"{text} Default: {'; '.join([_text(default), *phrases])}."
    read = {} if allowed is None else reader(kind, allowed)
    if allowed is None or flag.metavar is not None:
        read["metavar"] = flag.metavar or _PLACEHOLDERS.get(typed)
    if name == "backbone":
        read["autocompletion"] = complete_backbones
    elif flag.choices:
        several = get_origin(kind) is tuple
        read["autocompletion"] = complete_choices(flag.choices, several=several)
    option = typer.Option(
        *flag.names,
        **read,
        help=text,
        rich_help_panel=flag.panel,
        show_default=not other_kinds and shown_default not in (None, ""),
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=shown_default,
        annotation=Annotated[typed, option],
    )


_PLACEHOLDERS: Mapping[Any, str] = {
    **dict.fromkeys((int, float), "N"),
    **dict.fromkeys((str, str | None), "NAME"),
    **dict.fromkeys((Path, Path | None), "PATH"),
}


def _text(default: Any) -> str:
    if default is None:
        return "auto"
    return (",".join(map(str, default)) or "none") if isinstance(default, tuple) else str(default)


def _parsed(option: str, kind: Any, value: Any) -> Any:
    if get_origin(kind) is not tuple:
        return value
    item = get_args(kind)[0]
    if isinstance(value, list):  # typed several times
        return tuple(word for text in value for word in pairs(text))
    if item in (float, int):
        return numbers(option, value, item)
    return () if value == "none" else words(value)


def words(text: str) -> tuple[str, ...]:
    r"""Split a text at its commas; a comma that belongs to a word has a backslash before it.

    >>> words("relu1_1, relu2_1")
    ('relu1_1', 'relu2_1')
    >>> words(r"night\, 1889.png,sky.png")
    ('night, 1889.png', 'sky.png')
    """
    return tuple(_plain(word) for word in re.split(r"(?<!\\),", text) if word.strip())


def pairs(text: str) -> tuple[str, ...]:
    r"""Split ``NAME=VALUE`` words at the commas before a name, so that values may have commas.

    A comma before something that looks like a name has a backslash before it.

    >>> pairs("red=night, 1889.jpg,blue=waves")
    ('red=night, 1889.jpg', 'blue=waves')
    >>> pairs(r"red=night\,year=1889.jpg,blue=waves")
    ('red=night,year=1889.jpg', 'blue=waves')
    """
    parts = re.split(r"(?<!\\),(?=[^,=]+=|$)", text)
    return tuple(_plain(part) for part in parts if part.strip())


def _plain(word: str) -> str:
    """Return a word without the backslashes before its commas."""
    return word.strip().replace("\\,", ",")


def numbers(option: str, text: str, kind: Callable[[str], T]) -> tuple[T, ...]:
    """Parse numbers with commas between.

    Args:
        option: the option as it is typed, for the error.
        text: the numbers.
        kind: ``int`` or ``float``.

    Raises:
        UsageError: a word is not a number.
    """
    try:
        return tuple(kind(word) for word in words(text))
    except ValueError:
        noun, example = ("whole numbers", "1,4") if kind is int else ("numbers", "2,1")
        raise UsageError(
            option,
            expected=f"{noun} with commas between",
            got=repr(text),
            remedy=f"for example {example}",
        ) from None
