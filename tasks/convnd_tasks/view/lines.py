"""Messages between the page's server and its worker: one line of JSON each."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import IO, Any

__all__ = ["read_messages", "write_message"]

_LONGEST = 64 * 2**20
_TURN = threading.Lock()


def write_message(stream: IO[bytes], message: dict[str, Any]) -> None:
    """Write a message; several threads may do so.

    Args:
        stream: the stream.
        message: values that JSON can hold.

    Raises:
        OSError: the other side has gone.
    """
    line = json.dumps(message).encode() + b"\n"
    with _TURN:
        stream.write(line)
        stream.flush()


def read_messages(stream: IO[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the messages of a stream until it ends; lines that hold none are left out.

    Args:
        stream: the stream.
    """
    with contextlib.suppress(OSError, ValueError):
        while line := stream.readline(_LONGEST):
            with contextlib.suppress(ValueError, RecursionError):
                message = json.loads(line)
                if isinstance(message, dict):
                    yield message
