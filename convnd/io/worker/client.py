"""A decoder in a process of its own: what hangs, crashes or is greedy there ends in one line here.

Arrays come through a pipe, one by one: the child is at most about one frame of a clip ahead.
Messages are JSON with their length before them; arrays follow as they are. Nothing of what comes
is believed: a child that has been taken over by a file can send what it likes.
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
"""Seconds that a child may show no sign of life while somebody waits for it."""

COMMAND = (
    sys.executable,
    "-I",  # nothing of the folder that people happen to be in is imported
    "-c",
    "import sys; sys.path[:] = sys.argv[1:]; from convnd.io.worker.worker import main; main()",
)
"""The child, whose arguments are where this process finds its packages."""

_MAX_MESSAGE = 2**24
_DTYPES = ("uint8", "uint16", "float32")
_POLL_SECONDS = 0.5
_ERRORS = {each.__name__: each for each in (InputFileError, ResourceError, DependencyError)}


@contextlib.contextmanager
def request(
    path: Path,
    asked: Mapping[str, Any],
    *,
    max_values: int,
    patience: float | None = None,
    command: Sequence[str] | None = None,
) -> Iterator[Iterator[tuple[dict[str, Any], NDArray[Any] | None]]]:
    """What a child answers to a request; it is gone when the block ends.

    Args:
        path: the file.
        asked: the request, see `convnd.io.worker.worker.main`.
        max_values: largest number of values of an array.
        patience: seconds; None for `TIMEOUT`.
        command: of the child; None for `COMMAND`.

    Yields:
        Its messages, some with an array.

    Raises:
        InputFileError: the child refused the file, hung, died, or talked nonsense.
        ResourceError: it says that memory is out.
        DependencyError: the decoder's package is missing.
    """
    patience = TIMEOUT if patience is None else patience
    whole = {**asked, "path": str(path), "patience": max(1, int(patience))}
    where = [each for each in sys.path if each]
    try:
        child = subprocess.Popen(
            [*(COMMAND if command is None else command), *where],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            process_group=0,  # Ctrl-C is ours to understand
        )
    except OSError as error:
        raise ResourceError(
            f"read {path}: expected to start a process that decodes it, got '{error_text(error)}'; "
            "close other programs"
        ) from error
    try:
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once, as will be seen
            child.stdin.write(json.dumps(whole).encode() + b"\n")
            child.stdin.flush()
        yield _messages(child, path, max_values, patience)
    finally:
        child.kill()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        child.wait()


def _messages(
    child: subprocess.Popen[bytes], path: Path, max_values: int, patience: float
) -> Iterator[tuple[dict[str, Any], NDArray[Any] | None]]:
    import numpy as np

    while True:
        (length,) = struct.unpack(">I", _receive(child, path, bytearray(4), patience))
        if length > _MAX_MESSAGE:
            raise _protocol_error(path)
        try:
            told = json.loads(bytes(_receive(child, path, bytearray(length), patience)))
            kind = told["kind"]
            if kind == "error":
                raise _ERRORS[told["name"]](str(told["text"]))
            if kind != "array":
                yield told, None
                if kind != "alive":
                    return
                continue
            shape = tuple(int(each) for each in told["shape"])
            if (
                not 0 < len(shape) <= 4
                or min(shape) < 1
                or math.prod(shape) > max_values
                or told["dtype"] not in _DTYPES
            ):
                raise _protocol_error(path)
            array = np.empty(shape, told["dtype"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if isinstance(error, InputFileError):
                raise
            raise _protocol_error(path) from error
        _receive(child, path, memoryview(array.data).cast("B"), patience)
        yield told, array


def _receive(
    child: subprocess.Popen[bytes], path: Path, into: bytearray | memoryview, patience: float
) -> bytearray | memoryview:
    """Fill ``into``; time counts only while it is waited for, and not while a job is suspended."""
    pipe: Any = child.stdout
    view, filled, waited = memoryview(into), 0, 0.0
    poll = select.poll() if hasattr(select, "poll") else None  # Windows waits without an end
    if poll is not None:
        poll.register(pipe, select.POLLIN)
    while filled < len(view):
        if poll is not None and not poll.poll(1000 * _POLL_SECONDS):
            waited += _POLL_SECONDS
            if waited >= patience:
                raise InputFileError(
                    f"read {path}: expected an answer of its decoder within {patience:.0f} s, got "
                    "none; the file is damaged, or too much for this machine"
                )
            continue
        count = pipe.readinto(view[filled:])
        if not count:
            raise _crash_error(child, path)
        filled += count
        waited = 0.0
    return into


def _crash_error(child: subprocess.Popen[bytes], path: Path) -> InputFileError:
    code = child.wait()
    if code < 0:
        names = {each.value: each.name for each in signal.Signals}
        name = names.get(-code, str(-code))
        got = "one that computes without an end" if name == "SIGXCPU" else f"its end by {name}"
    else:
        got = f"one that ended with code {code}"
    return InputFileError(
        f"read {path}: expected a decoder that survives the file, got {got}; the file is damaged, "
        "or save it smaller"
    )


def _protocol_error(path: Path) -> InputFileError:
    return InputFileError(
        f"read {path}: expected a decoder that keeps to its protocol, got other bytes; the file is "
        "damaged"
    )
