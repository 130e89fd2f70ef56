"""The root command: it mounts tasks, and ends with one line and an exit code after an error.

A task is an entry point of the group ``convnd.tasks``: a function, or a Typer application of
several. Neither this module nor the top of a task's module imports torch, so that ``--help`` is
quick.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Annotated, Any, NoReturn

import typer

from convnd import __version__
from convnd.cli.commands import EVERY_COMMAND, Command, Group, Root, help_width
from convnd.cli.streams import close_streams, open_streams
from convnd.errors import (
    ConvndError,
    DependencyError,
    InternalError,
    StopSignal,
    UsageError,
    as_convnd_error,
    is_out_of_memory,
    printable,
)
from convnd.malloc import tune_malloc
from convnd.shapes import is_count_text

__all__ = ["CommandLineError", "app", "main", "run", "usage_message"]

CommandLineError: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)
"""Error of a command line that cannot be parsed. Some versions of Typer contain their own click."""

_READER_LEFT = 141
"""Exit code where the reader of a pipe has closed it: a shell reports SIGPIPE so."""


_MOST_PIXELS = 2**40


def _print_version(show: bool) -> None:
    if show:
        typer.echo(f"convnd {__version__}")
        raise typer.Exit


def _set_offline(offline: bool) -> None:
    if offline:
        os.environ["CONVND_OFFLINE"] = "1"


def _set_max_pixels(text: str | None) -> None:
    if text is None:
        return
    if not (is_count_text(text) and 1 <= int(text) <= _MOST_PIXELS):
        raise typer.BadParameter(
            f"expected a whole number from 1 to {_MOST_PIXELS}, got {text[:40]!r}"
        )
    os.environ["CONVND_MAX_PIXELS"] = text


def _root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            expose_value=False,
            help="Print the version.",
            rich_help_panel=EVERY_COMMAND,
        ),
    ] = False,
    _offline: Annotated[
        bool,
        typer.Option(
            "--offline",
            callback=_set_offline,
            expose_value=False,
            help="Never touch the network (or CONVND_OFFLINE=1).",
            rich_help_panel=EVERY_COMMAND,
        ),
    ] = False,
    _max_pixels: Annotated[
        str | None,
        typer.Option(
            "--max-pixels",
            callback=_set_max_pixels,
            expose_value=False,
            metavar="N",
            help="Largest number of pixels, voxels or samples of an input (of a frame in videos), "
            "instead of the limit of its format (or CONVND_MAX_PIXELS).",
            rich_help_panel=EVERY_COMMAND,
        ),
    ] = None,
) -> None:
    """Neural style transfer and convolution for signals, images, volumes and videos."""


def app(only: str | None = None) -> typer.Typer:
    """Make the Typer application with the installed tasks mounted.

    Args:
        only: name of a task; only this one is loaded, which takes less time. None loads all.
    """
    root = typer.Typer(
        cls=Root,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # importing rich takes as long as all the rest
        context_settings={"help_option_names": ["-h", "--help"], "terminal_width": help_width()},
    )
    root.callback()(_root)
    tasks = entry_points(group="convnd.tasks")
    for task in sorted(tasks, key=lambda task: task.name):
        if only not in (None, task.name):
            continue
        try:
            command = task.load()
        except Exception as error:  # a broken task must not break the others
            command = _unavailable(task.name, str(error))
        if _several() and not getattr(command, "processes", False):
            extra = {"ignore_unknown_options": True, "allow_extra_args": True}
            root.command(task.name, cls=Command, context_settings=extra)(_single(task.name))
        elif isinstance(command, typer.Typer):
            for info in command.registered_commands:
                info.cls = Command
            root.add_typer(command, name=task.name, cls=Group)
        else:
            root.command(task.name, cls=Command)(command)
    return root


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line in this process, and return its exit code.

    Args:
        arguments: the arguments after ``convnd``; None takes those of this process.

    Raises:
        CommandLineError: the arguments cannot be parsed.
        ConvndError: the command failed.
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        code = app(_typed_task(words))(arguments, prog_name="convnd", standalone_mode=False)
    except CommandLineError as error:
        if type(error).__name__ != "NoArgsIsHelpError":
            raise
        request_for_help: Any = error
        request_for_help.show()
        return 2
    return code if isinstance(code, int) else 0


def _typed_task(words: Sequence[str]) -> str | None:
    """Return the task that a command line names; None where the root command handles the line."""
    rest = list(words)
    while rest and rest[0] in ("--offline", "--max-pixels"):
        del rest[: 1 + (rest[0] == "--max-pixels")]
    tasks = {task.name for task in entry_points(group="convnd.tasks")}
    return rest[0] if rest and rest[0] in tasks else None


def usage_message(error: Any) -> str:
    """Write the message of an error of the command line, with a remedy.

    Args:
        error: a `CommandLineError`.
    """
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    message = " ".join(error.format_message().split()).rstrip(".")
    if isinstance(error, typer.BadParameter) and parameter is not None and error.message:
        message = f"{max(parameter.opts, key=len)}: {error.message}"
    message, _, suggestion = message.partition(". Did you mean ")
    options = getattr(error, "possibilities", None)
    commands = _commands_with(context, getattr(error, "option_name", None))
    if commands:
        message = f"{error.message} before a command"
        remedy = f"put it behind the command ({', '.join(commands)})"
    elif options:
        message, remedy = error.message, f"did you mean {', '.join(options)}?"
    elif suggestion:
        remedy = f"did you mean {suggestion}"
    else:
        remedy = f"see {'convnd' if context is None else context.command_path} --help"
    return f"{message[:1].lower()}{message[1:]}; {remedy}"


def _commands_with(context: Any, option: str | None) -> list[str]:
    """Return the commands that have an option, if the option was typed before a command."""
    if context is None or context.parent is not None or option is None:
        return []
    return [
        name
        for name, command in context.command.commands.items()
        if any(option in parameter.opts for parameter in command.params)
    ]


def _unavailable(name: str, reason: str) -> Callable[[], None]:
    def command() -> None:
        raise DependencyError(
            name, expected="its package to import", got=reason, remedy="install what is missing"
        )

    command.__doc__ = f"(cannot be loaded: {reason})"
    return command


def _single(name: str) -> Callable[..., None]:
    def command(_: typer.Context) -> None:
        raise UsageError(
            name,
            expected="one process, since this command does not share its work",
            got=os.environ["WORLD_SIZE"],
            remedy="start it without torchrun",
        )

    return command


def main() -> NoReturn:
    """Run the command line; exit with 0, or with the exit code of the error."""
    open_streams()
    StopSignal.catch()
    tune_malloc()
    several = False
    try:
        several = _several()
        if several:
            _join()
        code = run()
        if several:
            code = _fail(SystemExit(code), "", code, several=True) if code else _leave()
        sys.stdout.flush()
    except BaseException as error:
        if _is_unexpected(error) and os.environ.get("CONVND_TRACEBACK"):
            raise
        message, code = _message_and_code(error)
        if isinstance(error, CommandLineError) and "--json" in sys.argv:
            with contextlib.suppress(OSError):
                print(json.dumps({"exit_code": code, "error": message}), flush=True)  # noqa: T201
        code = _fail(error, message, code, several=several)
        if code == _READER_LEFT or (code == 4 and not isinstance(error, ConvndError)):
            close_streams()
    sys.exit(code)


def _message_and_code(error: BaseException) -> tuple[str, int]:
    """Return the message of an error for users, and the exit code."""
    if isinstance(error, SystemExit):  # Typer raises it when the reader of a pipe has closed it
        left = isinstance(error.__context__, BrokenPipeError)
        return "", _READER_LEFT if left else error.code if isinstance(error.code, int) else 0
    if isinstance(error, ConvndError):
        return str(error), error.exit_code
    if isinstance(error, StopSignal):
        number = signal.Signals(error.args[0])
        return f"stopped by {number.name}", 128 + number
    if isinstance(error, CommandLineError):
        return usage_message(error), 2
    ours = as_convnd_error(error) if isinstance(error, Exception) else None
    if ours is None and isinstance(error, OSError):  # stdout or stderr
        text = f"output: expected a stream that can be written to, got {error.strerror}"
        return f"{text}; results that were written stay", 4
    if ours is None:
        ours = InternalError(f"expected no fault of convnd, got {type(error).__name__}")
    return str(ours), ours.exit_code


def _is_unexpected(error: BaseException) -> bool:
    expected = (ConvndError, StopSignal, SystemExit, OSError, CommandLineError)
    return not (isinstance(error, expected) or is_out_of_memory(error))


def _several() -> bool:
    size = os.environ.get("WORLD_SIZE", "1")
    if not is_count_text(size):
        raise UsageError(
            "WORLD_SIZE", expected="a number of processes", got=repr(size), remedy="unset it"
        )
    return int(size) > 1 and "RANK" in os.environ


def _join() -> None:
    """Join the processes that torchrun started for one job; only the first prints output."""
    from convnd.optimize import ProcessGroup

    if ProcessGroup.join().rank != 0:
        nowhere = open(os.devnull, "w")  # noqa: SIM115, PTH123
        sys.stdout, sys.stderr = nowhere, nowhere


def _leave() -> int:
    from convnd.optimize import ProcessGroup

    try:
        ProcessGroup.shutdown()
    except ConvndError as error:
        return _fail(error, str(error), error.exit_code, several=True)
    return 0


def _fail(error: BaseException, message: str, code: int, *, several: bool) -> int:
    if several:
        from convnd.optimize import ProcessGroup

        message, code = ProcessGroup.abort(message, code, error)
    if message:
        stream = sys.__stderr__ if several else sys.stderr  # only the first process keeps `stderr`
        with contextlib.suppress(OSError):  # the exit code tells of the error, too
            print(f"convnd: {printable(message)}", file=stream, flush=True)
    return code
