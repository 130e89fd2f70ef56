"""The output of every command: the object of ``--json``, the log of ``-v``, and lines of text.

With ``--json``, stdout holds one line with one object, also when the command fails; lines for
people go to stderr. ``-v`` shows the log messages of ``convnd`` and ``convnd_tasks``. The
``figures`` of log messages become the entry ``settings`` of the object.
"""

from __future__ import annotations

import inspect
import json
import logging
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer

from convnd import __version__
from convnd.errors import ConvndError, StopSignal, printable
from convnd.transfer.deterministic import determinism_error
from convnd_tasks.pipeline.flags import as_command, parameters_of
from convnd_tasks.pipeline.parameters import Json, Verbose
from convnd_tasks.runtime.elsewhere import missing_on_this_system

__all__ = ["CommandOutput", "echo", "with_json_output"]


class CommandOutput:
    """Collects the entries of the object that ``--json`` prints.

    Args:
        command: the command as it is typed, for example ``"weights list"``.
        json: whether the object is printed at the end.
        verbose: whether log messages are printed.

    Attributes:
        settings: figures of the log messages so far: network, device, tiles, memory.
    """

    def __init__(self, command: str, *, json: bool = False, verbose: bool = False) -> None:
        self.json = json
        self.verbose = verbose
        self._entries: dict[str, Any] = {"command": command, "exit_code": 0}
        self.settings: dict[str, Any] = {}
        self._out = sys.stdout

    def add(self, **entries: Any) -> None:
        """Add entries to the object.

        Args:
            entries: values that ``json.dumps`` can write, by name.
        """
        self._entries |= entries

    def append(self, entry: str, value: Any) -> None:
        """Append a value to the list of an entry.

        Args:
            entry: name of the entry.
            value: a value that ``json.dumps`` can write.
        """
        self._entries.setdefault(entry, []).append(value)

    def unmute(self) -> None:
        """Let this process print, although it is not the first of several."""
        self._out, sys.stderr = sys.__stdout__ or self._out, sys.__stderr__
        sys.stdout = sys.stderr if self.json else self._out

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Collect log messages, time and memory of this block, and print the object at its end."""
        self._out = sys.stdout
        listener = _Listener(self)
        loggers = [logging.getLogger(name) for name in ("convnd", "convnd_tasks")]
        levels = [logger.level for logger in loggers]
        began = time.monotonic()
        for logger in loggers:
            logger.addHandler(listener)
            logger.setLevel(logging.INFO)
        if self.verbose:
            echo(f"convnd {__version__}, Python {platform.python_version()}", err=True)
            if missing := missing_on_this_system():
                echo(f"this system has no {', no '.join(missing)}", err=True)
        if self.json:
            sys.stdout = sys.stderr
        try:
            yield
        except BaseException as error:
            self.add(**_failure(error))
            raise
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.removeHandler(listener)
                logger.setLevel(level)
            seconds, peak = time.monotonic() - began, _peak_memory()
            if self.verbose:
                memory = "" if peak is None else f", at most {peak / 2**20:.0f} MiB"
                echo(f"{seconds:.1f} s{memory}", err=True)
            sys.stdout = self._out
            if self.json:
                if self.settings:
                    self.add(settings=self.settings)
                seconds = round(seconds, 3)
                self.add(convnd=__version__, seconds=seconds, peak_memory=peak)
                echo(_json_text(self._entries))

    def on_log(self, record: logging.LogRecord) -> None:
        """Collect the figures of a log message, and print the message with ``-v``."""
        self.settings |= getattr(record, "figures", {})
        if self.verbose:
            echo(*record.getMessage().splitlines(), err=True)


class _Listener(logging.Handler):
    def __init__(self, command_output: CommandOutput) -> None:
        super().__init__()
        self.command_output = command_output

    def emit(self, record: logging.LogRecord) -> None:
        self.command_output.on_log(record)


def with_json_output(command: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a command: add ``--json`` and ``-v``, and pass it a `CommandOutput`.

    Args:
        command: the command as it is typed.
    """

    def decorate(work: Callable[..., None]) -> Callable[..., None]:
        json_parameters = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
            for name, kind in (("as_json", Json), ("verbose", Verbose))
        ]

        def run(*, as_json: bool = False, verbose: bool = False, **typed: Any) -> None:
            command_output = CommandOutput(command, json=as_json, verbose=verbose)
            with command_output.collect():
                try:
                    work(**typed, command_output=command_output)
                except RuntimeError as error:
                    raise determinism_error(error) or error from error

        return as_command(run, work, [*parameters_of(work), *json_parameters])

    return decorate


def echo(*lines: str, err: bool = False, bold: bool = False) -> None:
    """Print lines with their control characters escaped; commands print by this function alone.

    Most lines hold names or texts of files. A terminal would obey escape sequences in them, and a
    line break in them would look like another message.

    Args:
        lines: the lines.
        err: whether they go to stderr instead of stdout.
        bold: whether a terminal shows them in bold.
    """
    for line in lines:
        typer.secho(printable(line), err=err, bold=bold or None)


def _failure(error: BaseException) -> dict[str, Any]:
    if isinstance(error, ConvndError):
        return {"exit_code": error.exit_code, "error": str(error)}
    if isinstance(error, StopSignal):
        number = signal.Signals(error.args[0])
        return {"exit_code": 128 + number, "error": f"stopped by {number.name}"}
    if isinstance(error, typer.Exit):
        return {"exit_code": error.exit_code}
    code = 4 if isinstance(error, MemoryError) else getattr(error, "exit_code", 1)
    return {"exit_code": code, "error": str(error) or type(error).__name__}


def _json_text(entries: Mapping[str, Any]) -> str:
    """Write one line of JSON, with escapes for the characters that a terminal would obey."""
    text = json.dumps(_plain(entries), ensure_ascii=False, allow_nan=False)
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def _plain(value: Any) -> Any:
    """Convert a value to plain JSON types; NaN and infinities become null."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if value is None or isinstance(value, int | str):
        return value
    return str(value)


def _peak_memory() -> int | None:
    """Return the peak memory of this process in bytes; None on systems that do not measure it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
