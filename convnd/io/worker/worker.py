"""The child's side of `convnd.io.worker.client`: it limits itself, decodes, and says what it found.

Decoders in C are given files from anywhere. In here a hang, a crash or a greedy header ends a
child, and the caller is told so in one line.
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
"""Bytes that decoding may take beside what it is granted."""
_THREADS = 16  # as many as a decoder starts at most
_DECODERS = ("video_decoder",)


def main(out: BinaryIO | None = None) -> None:
    """Answer the request on stdin, then end.

    Its ``decoder`` names a module of `convnd.io.worker`, whose ``serve`` yields the answers.

    Args:
        out: where to; None is stdout.
    """
    out = sys.stdout.buffer if out is None else out
    asked: Mapping[str, Any] = json.loads(sys.stdin.buffer.readline())
    _end_with_parent()
    path, patience = Path(asked["path"]), int(asked["patience"])
    try:
        _lower_limit("RLIMIT_CORE", 0)
        _lower_limit("RLIMIT_FSIZE", 0)  # it has nothing to write
        _limit_memory(0)
        _limit_cpu(patience * _THREADS)
        (name,) = (each for each in _DECODERS if each == asked["decoder"])
        module = importlib.import_module(f"convnd.io.worker.{name}")
        for kind, told, array in module.serve(path, asked, _limit_memory):
            _limit_cpu(patience * _THREADS)
            if array is None:
                _send(out, kind, **told)
                continue
            _send(out, kind, **told, shape=array.shape, dtype=array.dtype.name)
            out.write(array.data)
            out.flush()
    except ConvndError as error:
        _send(out, "error", name=type(error).__name__, text=str(error))
    except MemoryError:
        _send(out, "error", name="InputFileError", text=str(too_large_error(path)))


def _send(out: BinaryIO, kind: str, **told: Any) -> None:
    text = json.dumps({"kind": kind, **told}).encode()
    out.write(struct.pack(">I", len(text)) + text)
    out.flush()


def _lower_limit(kind: str, wanted: int) -> None:
    """Lower a limit of the system's, where it has it."""
    with contextlib.suppress(ImportError, AttributeError, OSError, ValueError):
        import resource

        number = getattr(resource, kind)
        _, hard = resource.getrlimit(number)
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(number, (soft, hard))


def _limit_memory(granted: int) -> None:
    """So many bytes, and `MEMORY`, beside what is held now."""
    try:
        held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        held = 2**30
    _lower_limit("RLIMIT_AS", held + MEMORY + granted)


def _limit_cpu(seconds: int) -> None:
    """So many seconds of computing from now on, and the system ends this process."""
    times = os.times()
    _lower_limit("RLIMIT_CPU", int(times.user + times.system) + seconds + 1)


def _end_with_parent() -> None:
    """The system ends this process when the other end of its stdin is closed, however that came.

    No line of Python is needed for it, and none of a decoder's that never comes back.
    """
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl
        import select

        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
        poll = select.poll()
        poll.register(0, 0)
        if poll.poll(0):  # it was closed before
            os._exit(1)
