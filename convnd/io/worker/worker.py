"""The child process of `convnd.io.worker.client`: it limits itself, decodes a file, and answers.

Decoders in C get files from anywhere. Here, a hang, a crash or a greedy header ends the child, and
its parent reports one error.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from convnd.errors import ConvndError
from convnd.io.reading import too_large_error

__all__ = ["MEMORY", "main"]

MEMORY = 2**30
"""Bytes that decoding may take in addition to what the decoder reserves."""
_THREADS = 16  # the most that a decoder starts
_DECODERS = ("video_decoder",)


def main(out: BinaryIO | None = None) -> None:
    """Answer the request on stdin, then return.

    The request's ``decoder`` names a module of `convnd.io.worker`, whose ``serve`` yields the
    answers.

    Args:
        out: receives the answers; None for stdout.
    """
    out = sys.stdout.buffer if out is None else out
    request: Mapping[str, Any] = json.loads(sys.stdin.buffer.readline())
    _end_with_parent()
    path, timeout = Path(request["path"]), int(request["timeout"])
    try:
        _lower_limit("RLIMIT_CORE", 0)
        _lower_limit("RLIMIT_FSIZE", 0)  # it has nothing to write
        _limit_memory(0)
        _limit_cpu(timeout * _THREADS)
        (name,) = (name for name in _DECODERS if name == request["decoder"])
        module = importlib.import_module(f"convnd.io.worker.{name}")
        for kind, fields, array in module.serve(path, request, _limit_memory):
            _limit_cpu(timeout * _THREADS)
            if array is None:
                _send(out, kind, **fields)
                continue
            _send(out, kind, **fields, shape=array.shape, dtype=array.dtype.name)
            out.write(array.data)
            out.flush()
    except ConvndError as error:
        _send(out, "error", name=type(error).__name__, text=str(error))
    except MemoryError:
        _send(out, "error", name="InputFileError", text=str(too_large_error(path)))


def _send(out: BinaryIO, kind: str, **fields: Any) -> None:
    text = json.dumps({"kind": kind, **fields}).encode()
    out.write(struct.pack(">I", len(text)) + text)
    out.flush()


def _lower_limit(name: str, value: int) -> None:
    """Lower a limit of the operating system, if it has that limit."""
    with contextlib.suppress(ImportError, AttributeError, OSError, ValueError):
        import resource

        number = getattr(resource, name)
        _, hard = resource.getrlimit(number)
        soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (soft, hard))


def _limit_memory(reserved: int) -> None:
    """Allow ``reserved`` bytes and `MEMORY` in addition to what this process holds now."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        held = pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        held = 2**30
    _lower_limit("RLIMIT_AS", held + MEMORY + reserved)


def _limit_cpu(seconds: int) -> None:
    """Let the system end this process after so many more seconds of computing."""
    times = os.times()
    _lower_limit("RLIMIT_CPU", int(times.user + times.system) + seconds + 1)


def _end_with_parent() -> None:
    """Let the system end this process when its stdin closes, however the parent ended.

    The signal needs no line of Python, so that it also ends a decoder that never returns.
    """
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl
        import select

        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
        poll = select.poll()
        poll.register(0, 0)
        if poll.poll(0):  # the parent was gone already
            os._exit(1)
