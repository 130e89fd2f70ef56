"""The root command: it mounts tasks, and prints an error as one line with its exit code.

A task is a function in the entry point group ``convnd.tasks``, or a Typer application of several.
Neither this module nor the top of a task's module imports torch, so that ``--help`` is quick.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Annotated, NoReturn

import typer

from convnd import __version__
from convnd.errors import ConvndError, DependencyError, StopSignal, UsageError
from convnd.malloc import tune_malloc
from convnd.shapes import is_count

__all__ = ["app", "main"]


def _version(show: bool) -> None:
    if show:
        typer.echo(f"convnd {__version__}")
        raise typer.Exit


def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Never touch the network (or CONVND_OFFLINE=1).")
    ] = False,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=2**40,
            metavar="N",
            help="Largest number of pixels, voxels or samples of an input (of a frame in videos), "
            "instead of the limit of its format (or CONVND_MAX_PIXELS).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Neural style transfer and convolution for signals, images, volumes and videos."""
    if offline:
        os.environ["CONVND_OFFLINE"] = "1"
    if max_pixels is not None:
        os.environ["CONVND_MAX_PIXELS"] = str(max_pixels)


def app() -> typer.Typer:
    """Return the Typer application with every installed task mounted."""
    root = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        # Importing rich takes as long as all the rest, and the list of commands does not need it.
        rich_markup_mode="rich" if len(sys.argv) > 2 else None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    root.callback()(_root)
    for task in sorted(entry_points(group="convnd.tasks"), key=lambda task: task.name):
        try:
            command = task.load()
        except Exception as error:  # a broken task must not break the others
            command = _unavailable(task.name, str(error))
        if _several() and not getattr(command, "processes", False):
            extra = {"ignore_unknown_options": True, "allow_extra_args": True}
            root.command(task.name, context_settings=extra)(_single(task.name))
        elif isinstance(command, typer.Typer):
            root.add_typer(command, name=task.name)
        else:
            root.command(task.name)(command)
    return root


def _unavailable(name: str, reason: str) -> Callable[[], None]:
    def command() -> None:
        raise DependencyError(
            f"{name}: expected its package to import, got {reason}; install what is missing"
        )

    command.__doc__ = f"(cannot be loaded: {reason})"
    return command


def _single(name: str) -> Callable[..., None]:
    def command(_: typer.Context) -> None:
        raise UsageError(
            f"{name}: expected one process, for it does not share its work, got "
            f"{os.environ['WORLD_SIZE']}; start it without torchrun"
        )

    return command


def main() -> NoReturn:
    """Run the command line; exit with 0, or with the exit code of the error."""
    _open_streams()
    StopSignal.catch()
    tune_malloc()
    several = False
    try:
        several = _several()
        if several:
            _join()
        app()()
    except SystemExit as done:
        if not several:
            raise
        wrong = done.code if isinstance(done.code, int) else 0
        code = _fail(done, "", wrong, several=True) if wrong else _leave()
    except ConvndError as error:
        code = _fail(error, str(error), error.exit_code, several=several)
    except StopSignal as stopped:
        number = signal.Signals(stopped.args[0])
        code = _fail(stopped, f"stopped by {number.name}", 128 + number, several=several)
    except OSError as error:  # stdout or stderr; errors of files are errors of ours
        message = f"output: expected a stream that can be written to, got {error.strerror}"
        code = _fail(error, f"{message}; results that were written stay", 4, several=several)
        _close_streams()
    except MemoryError as error:
        reason = str(error) or "none left"
        message = f"memory: expected enough for this job, got {reason}; use a smaller --size"
        code = _fail(error, message, 4, several=several)
    sys.exit(code)


def _open_streams() -> None:
    """Make stdout and stderr usable: they may be closed, and file names need not be valid text."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _close_streams() -> None:
    """Leave stdout alone at exit, where Python would try once more to write what did not fit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _several() -> bool:
    size = os.environ.get("WORLD_SIZE", "1")
    if not is_count(size):
        raise UsageError(
            "WORLD_SIZE", expected="a number of processes", got=repr(size), remedy="unset it"
        )
    return int(size) > 1 and "RANK" in os.environ


def _join() -> None:
    """Join the processes that torchrun started for one job; only the first writes output."""
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
        # stderr of other processes than the first is closed.
        with contextlib.suppress(OSError):  # the exit code says it, too
            print(f"convnd: {message}", file=sys.__stderr__ if several else sys.stderr, flush=True)
    return code
