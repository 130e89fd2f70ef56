"""Commands with help under headings, and with the options of the root command."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup

from convnd.errors import UsageError
from convnd.options import OUTPUT

__all__ = ["EVERY_COMMAND", "Command", "Group", "Root", "help_width"]

EVERY_COMMAND = "Options of every command"
"""Heading of the root command's options in the help of other commands."""

_WIDEST_HELP = 100
_LAST_HEADINGS = (OUTPUT, EVERY_COMMAND)


def help_width() -> int:
    """Width of the help in characters: that of the terminal, at most 100."""
    return max(20, min(shutil.get_terminal_size().columns, _WIDEST_HELP))


def _write_options(command: Any, context: Any, formatter: Any) -> None:
    """Write arguments and options under their headings."""
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for parameter in command.get_params(context):
        heading, record = "Options", parameter.get_help_record(context)
        if isinstance(parameter, TyperArgument):
            heading, record = "Arguments", (_argument_name(parameter), parameter.help or "")
        if record is not None and record[1]:
            heading = getattr(parameter, "rich_help_panel", None) or heading
            sections.setdefault(heading, []).append(record)
    first = [heading for heading in sections if heading not in _LAST_HEADINGS]
    for heading in (*first, *_LAST_HEADINGS):
        if sections.get(heading):
            with formatter.section(heading):
                formatter.write_dl(sections[heading], col_max=formatter.width // 3)


def _argument_name(argument: TyperArgument) -> str:
    """Return the name of an argument in the usage line: in brackets where it is optional."""
    name = argument.metavar or (argument.name or "").upper()
    name += "..." if argument.nargs != 1 and "..." not in name else ""
    return name if argument.required or "[" in name else f"[{name}]"


class Command(TyperCommand):
    """A command whose help lists its options under their headings, however narrow the terminal."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the command; its errors refer to the command."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            usage_error: Any = error
            if getattr(error, "ctx", ctx) is None:
                usage_error.ctx = ctx
            raise

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words after the command's name in the usage line."""
        del ctx
        arguments = [item for item in self.params if isinstance(item, TyperArgument)]
        return ["[OPTIONS]", *map(_argument_name, arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options."""
        _write_options(self, ctx, formatter)


class Group(TyperGroup):
    """A group of commands, with the help of `Command`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write options and commands."""
        _write_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, each with the first sentence of its help."""
        del ctx
        rows = [
            (name, (command.help or "").partition("\n\n")[0].replace("\n", " "))
            for name, command in self.commands.items()
            if not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows, col_max=formatter.width // 3)


class Root(Group):
    """The root command: its options may also stand behind every command below it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for command in _commands_below(self):
            option_names = {name for parameter in command.params for name in parameter.opts}
            command.params += [
                parameter for parameter in self.params if option_names.isdisjoint(parameter.opts)
            ]

    def _main_shell_completion(self, *arguments: Any, **named: Any) -> None:
        try:
            super()._main_shell_completion(*arguments, **named)
        except (LookupError, ValueError) as error:
            raise UsageError(
                "completion",
                expected="the variables that a shell sets (COMP_WORDS, COMP_CWORD)",
                got=f"'{error}'"[:80],
                remedy="unset _CONVND_COMPLETE",
            ) from error


def _commands_below(group: Any) -> Iterator[Any]:
    commands: Sequence[Any] = [*group.commands.values()]
    for command in commands:
        yield command
        if isinstance(command, TyperGroup):
            yield from _commands_below(command)
