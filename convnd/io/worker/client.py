"""Asks a child process to decode a file; a hang, a crash or a greedy file ends in one error here.

Arrays come through a pipe, one by one, so that the child is at most about one video frame ahead.
Messages are JSON with their length in front; the bytes of an array follow its message. No message
is trusted: a file may have taken over the child.
"""

from __future__ import annotations

import contextlib
import json
import math
import select
import signal
import struct
import subprocess
import sys
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
    "-c",
    "import sys; sys.path[:] = sys.argv[1:]; from convnd.io.worker.worker import main; main()",
)
"""Starts the child; its arguments are the folders that this process imports packages from."""

_MAX_MESSAGE = 2**24
_DTYPES = ("uint8", "uint16", "float32")
_POLL_SECONDS = 0.5
_ERRORS = {error.__name__: error for error in (InputFileError, ResourceError, DependencyError)}


@contextlib.contextmanager
def request(
    path: Path,
    parameters: Mapping[str, Any],
    *,
    max_values: int,
    timeout: float | None = None,
    command: Sequence[str] | None = None,
) -> Iterator[Iterator[tuple[dict[str, Any], NDArray[Any] | None]]]:
    """Start a child that decodes a file; it is gone when the block ends.

    Args:
        path: the file.
        parameters: the request, see `convnd.io.worker.worker.main`.
        max_values: largest number of values of an array.
        timeout: seconds without a message before the child is ended; None for `TIMEOUT`.
        command: starts the child; None for `COMMAND`.

    Yields:
        The child's messages, some with an array.

    Raises:
        InputFileError: the child refused the file, hung, died, or broke the protocol.
        ResourceError: the child ran out of memory.
        DependencyError: the decoder's package is missing.
    """
    timeout = TIMEOUT if timeout is None else timeout
    message = {**parameters, "path": str(path), "timeout": max(1, int(timeout))}
    folders = [folder for folder in sys.path if folder]
    try:
        child = subprocess.Popen(
            [*(COMMAND if command is None else command), *folders],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            process_group=0,  # Ctrl-C goes to the parent alone
        )
    except OSError as error:
        raise ResourceError(
            f"read {path}",
            expected="to start a process that decodes it",
            got=f"'{error_text(error)}'",
            remedy="close other programs",
        ) from error
    try:
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once, which the first read reports
            child.stdin.write(json.dumps(message).encode() + b"\n")
            child.stdin.flush()
        yield _messages(child, path, max_values, timeout)
    finally:
        child.kill()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        child.wait()


def _messages(
    child: subprocess.Popen[bytes], path: Path, max_values: int, timeout: float
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
                raise _ERRORS[message["name"]](str(message["text"]))
            if kind != "array":
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
    child: subprocess.Popen[bytes], path: Path, buffer: bytearray | memoryview, timeout: float
) -> bytearray | memoryview:
    """Fill ``buffer``; only time spent waiting counts, and none while the job is suspended.

    `multiprocessing.connection` is of no use here: its time-out ends when a message begins.
    """
    pipe: Any = child.stdout
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


def _crash_error(child: subprocess.Popen[bytes], path: Path) -> InputFileError:
    code = child.wait()
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
