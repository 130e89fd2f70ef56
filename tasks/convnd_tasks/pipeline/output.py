"""The output of every command: the object of ``--json``, the log of ``-v``, and lines of text.

With ``--json``, stdout has one line, an object, and nothing else: what commands print for people
goes to stderr meanwhile. It comes when a command fails, too. ``-v`` shows what is logged under
``convnd`` and ``convnd_tasks``; a log record's ``figures`` go into the object as ``settings``.
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
        """Add entries to the object; their values must suit ``json.dumps``."""
        self._entries |= entries

    def append(self, entry: str, value: Any) -> None:
        """Append a value to a list among the entries."""
        self._entries.setdefault(entry, []).append(value)

    def unmute(self) -> None:
        """Let this process print, though it is not the first of several."""
        self._out, sys.stderr = sys.__stdout__ or self._out, sys.__stderr__
        sys.stdout = sys.stderr if self.json else self._out

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Collect logs, time and memory while the command works in this block."""
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
                entries = {**self._entries, **self._shared(seconds, peak)}
                echo(_json_text(entries))

    def _shared(self, seconds: float, peak: int | None) -> dict[str, Any]:
        return {
            **({"settings": self.settings} if self.settings else {}),
            "convnd": __version__,
            "seconds": round(seconds, 3),
            "peak_memory": peak,
        }

    def on_log(self, record: logging.LogRecord) -> None:
        """Take the figures of a log record, and print it with ``-v``."""
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
    """A decorator for commands: adds ``--json`` and ``-v``, and gives them a `CommandOutput`.

    Args:
        command: as it is typed.
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
    """Print lines, with their control characters escaped: the only way that commands print.

    Names and texts of files are part of most lines. A terminal would obey escape sequences in them,
    and a line break would forge a line of ours.

    Args:
        lines: to print.
        err: print to stderr instead of stdout.
        bold: print in bold on a terminal.
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
    """One line of JSON; characters that a terminal would obey are JSON's escapes."""
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
    """Peak memory of this process in bytes; None where the system does not tell it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
