"""Asks a child process to decode a file; a hang, a crash or a greedy file ends in one error here.

Arrays come through a pipe, one by one, so that the child is at most about one video frame ahead.
Messages are JSON with their length in front; the bytes of an array follow its message. No message
is trusted: a file may have taken over the child.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import select
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import DependencyError, InputFileError, ResourceError
from convnd.io.atomic import error_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["COMMAND", "TIMEOUT", "request"]

TIMEOUT = 60.0
"""Seconds that a child may send nothing while its parent waits."""

COMMAND = (
    sys.executable,
    "-I",  # nothing is imported from the current folder
    "-B",  # under a limit of file sizes, bytecode would be cut without an error
    "-c",
    "import sys, types; sys.path[:] = sys.argv[1:]; import convnd\n"
    # In place of the package, whose import of all formats would take as long as that of NumPy.
    "room = sys.modules['convnd.io'] = types.ModuleType('convnd.io')\n"
    "room.__path__ = [folder + '/io' for folder in convnd.__path__]\n"
    "from convnd.io.worker.worker import main; main()",
)
"""Starts the child; its arguments are the folders that this process imports packages from."""

IDLE_SECONDS = 2.0
"""Seconds that a child without a request is kept for the next file."""

_MAX_MESSAGE = 2**24
_DTYPES = (
    *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
    *("float16", "float32", "float64"),
)
_POLL_SECONDS = 0.5
_ERRORS = {error.__name__: error for error in (InputFileError, ResourceError, DependencyError)}
# A decoder needs no threads of linear algebra, and NumPy starts in half the time without them.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@contextlib.contextmanager
def request(
    path: Path,
    parameters: Mapping[str, Any],
    *,
    max_values: int,
    timeout: float | None = None,
    command: Sequence[str] | None = None,
    reuse: bool = False,
) -> Iterator[Iterator[tuple[dict[str, Any], NDArray[Any] | None]]]:
    """Let a child process decode a file. It starts at once, and has ended after the block.

    Args:
        path: the file.
        parameters: the request, see `convnd.io.worker.worker.main`.
        max_values: largest number of values of an array.
        timeout: seconds without a message before the child is ended; None for `TIMEOUT`.
        command: starts the child; None for `COMMAND`.
        reuse: whether a child that has answered decodes further files; it ends after
            `IDLE_SECONDS` without one.

    Yields:
        The child's messages, some with an array.

    Raises:
        InputFileError: the child refused the file, hung, died, or broke the protocol.
        ResourceError: the child ran out of memory.
        DependencyError: the decoder's package is missing.
    """
    timeout = TIMEOUT if timeout is None else timeout
    message = {
        **parameters, "path": str(path), "timeout": max(1, int(timeout)), "reuse": reuse,
        "folder": _current_folder(),
    }  # fmt: skip
    arguments = tuple(COMMAND if command is None else command)
    child = (_take_idle(arguments) if reuse else None) or _Child(path, arguments)
    try:
        child.ask(message)
        yield _messages(child, path, max_values, timeout)
    finally:
        if reuse and child.has_answered:
            _keep(child)
        else:
            child.close()


def _current_folder() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed
        return None


class _Child:
    """A process that decodes files.

    Args:
        path: the first file, for messages.
        command: starts the process.

    Raises:
        ResourceError: it cannot be started.
    """

    def __init__(self, path: Path, command: tuple[str, ...]) -> None:
        self.command = command
        self.owner = os.getpid()
        self.has_answered = False
        try:
            self.process = subprocess.Popen(
                [*command, *(folder for folder in sys.path if folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                process_group=0,  # Ctrl-C goes to the parent alone
                env={**os.environ, **_ENVIRONMENT},
            )
        except OSError as error:
            raise ResourceError(
                f"read {path}",
                expected="to start a process that decodes it",
                got=f"'{error_text(error)}'",
                remedy="close other programs",
            ) from error

    def ask(self, message: Mapping[str, Any]) -> None:
        """Send a request."""
        self.has_answered = False
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died, which the first read reports
            self.process.stdin.write(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self.process.wait()


_IDLE: dict[_Child, threading.Timer] = {}
_LOCK = threading.Lock()


def _take_idle(command: tuple[str, ...]) -> _Child | None:
    """Return a child of this process that waits for a request, if there is one."""
    with _LOCK:
        for child in list(_IDLE):
            if child.owner == os.getpid() and child.command == command:
                _IDLE.pop(child).cancel()
                return child
    return None


def _keep(child: _Child) -> None:
    timer = threading.Timer(IDLE_SECONDS, _close_idle, [child])
    timer.daemon = True
    with _LOCK:
        _IDLE[child] = timer
    timer.start()


def _close_idle(child: _Child) -> None:
    with _LOCK:
        timer = _IDLE.pop(child, None)
    if timer is not None:
        child.close()


@atexit.register
def _close_all() -> None:
    for child in list(_IDLE):
        if child.owner == os.getpid():
            _close_idle(child)


def _messages(
    child: _Child, path: Path, max_values: int, timeout: float
) -> Iterator[tuple[dict[str, Any], NDArray[Any] | None]]:
    import numpy as np

    while True:
        (length,) = struct.unpack(">I", _receive(child, path, bytearray(4), timeout))
        if length > _MAX_MESSAGE:
            raise _protocol_error(path)
        try:
            message = json.loads(bytes(_receive(child, path, bytearray(length), timeout)))
            kind = message["kind"]
            if kind == "error":
                error_class = _ERRORS[message["name"]]
                child.has_answered = True
                raise error_class(str(message["text"]))
            if kind != "array":
                child.has_answered = kind != "alive"
                yield message, None
                if kind != "alive":
                    return
                continue
            shape = tuple(int(extent) for extent in message["shape"])
            if (
                not 0 < len(shape) <= 4
                or min(shape) < 1
                or math.prod(shape) > max_values
                or message["dtype"] not in _DTYPES
            ):
                raise _protocol_error(path)
            array = np.empty(shape, message["dtype"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if isinstance(error, InputFileError):
                raise
            raise _protocol_error(path) from error
        _receive(child, path, memoryview(array.data).cast("B"), timeout)
        yield message, array


def _receive(
    child: _Child, path: Path, buffer: bytearray | memoryview, timeout: float
) -> bytearray | memoryview:
    """Fill ``buffer``; only time spent waiting counts, and none while the job is suspended.

    `multiprocessing.connection` is of no use here: its time-out ends when a message begins.
    """
    pipe: Any = child.process.stdout
    view, filled, waited = memoryview(buffer), 0, 0.0
    poll = select.poll() if hasattr(select, "poll") else None  # Windows waits without an end
    if poll is not None:
        poll.register(pipe, select.POLLIN)
    while filled < len(view):
        if poll is not None and not poll.poll(1000 * _POLL_SECONDS):
            waited += _POLL_SECONDS
            if waited >= timeout:
                raise InputFileError(
                    f"read {path}",
                    expected=f"an answer of its decoder within {timeout:.0f} s",
                    got="none",
                    remedy="the file is damaged, or too much for this machine",
                )
            continue
        count = pipe.readinto(view[filled:])
        if not count:
            raise _crash_error(child, path)
        filled += count
        waited = 0.0
    return buffer


def _crash_error(child: _Child, path: Path) -> InputFileError:
    code = child.process.wait()
    if code < 0:
        names = {number.value: number.name for number in signal.Signals}
        name = names.get(-code, str(-code))
        got = "one that computes without an end" if name == "SIGXCPU" else f"its end by {name}"
    else:
        got = f"one that ended with code {code}"
    return InputFileError(
        f"read {path}",
        expected="a decoder that survives the file",
        got=got,
        remedy="the file is damaged, or save it smaller",
    )


def _protocol_error(path: Path) -> InputFileError:
    return InputFileError(
        f"read {path}",
        expected="a decoder that keeps to its protocol",
        got="other bytes",
        remedy="the file is damaged",
    )
