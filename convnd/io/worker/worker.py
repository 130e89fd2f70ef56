"""The child process of `convnd.io.worker.client`: it limits itself, decodes a file, and answers.

Decoders in C read untrusted files. A hang, a crash or a greedy header ends the child, and its
parent reports one error.
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

from convnd.errors import ConvndError, import_failure
from convnd.io.reading import too_large_error

__all__ = ["main"]

_THREADS = 16  # the most that a decoder starts
_DECODERS = (
    *("video.decoder", "images.decoder", "volumes.dicom_decoder", "signals.decoder"),
    "weights.decoder",
)
_BYTES_PER_SECOND = 3e7  # of memory that a decoder reserves; each takes some computing


def main(out: BinaryIO | None = None) -> None:
    """Answer the requests on stdin, a JSON object on each line, then return.

    The request's ``decoder`` names a module of `convnd.io`. Its ``serve`` yields the answers. Its
    ``MEMORY`` is the number of bytes that decoding may take in addition to those that it reserves,
    and ``SECONDS``, if it is defined, limits the seconds of computing. The request's ``reuse``
    tells whether another request may follow.

    Args:
        out: receives the answers; None for stdout.
    """
    out = sys.stdout.buffer if out is None else out
    _set_limit("RLIMIT_CORE", 0)
    _set_limit("RLIMIT_FSIZE", 0)  # it has nothing to write
    while line := sys.stdin.buffer.readline():
        request: Mapping[str, Any] = json.loads(line)
        _end_with_parent()
        kind, fields = _answer(request, out)
        _end_with_parent(on=False)  # before the answer, since the next request may follow it
        _send(out, kind, **fields)
        if not request["reuse"]:
            return


def _answer(request: Mapping[str, Any], out: BinaryIO) -> tuple[str, dict[str, Any]]:
    """Send all answers to a request but the last, which is returned."""
    path, timeout = Path(request["path"]), int(request["timeout"])
    (name,) = (name for name in _DECODERS if name == request["decoder"])
    # The libraries of a decoder do not count as memory or computing of the file before.
    _set_limit("RLIMIT_AS", None)
    _set_limit("RLIMIT_CPU", None)
    module = importlib.import_module(f"convnd.io.{name}")

    seconds = getattr(module, "SECONDS", None)  # of a video, each frame has its time

    def reserve_memory(size: int) -> None:
        _limit_memory(module.MEMORY + size)
        _limit_cpu(timeout * _THREADS if seconds is None else seconds + size / _BYTES_PER_SECOND)

    last: tuple[str, dict[str, Any]] = ("end", {})
    if request["folder"] is not None:
        # A relative path is one of the parent's present folder, which may have changed.
        with contextlib.suppress(OSError):
            os.chdir(request["folder"])
    try:
        reserve_memory(0)
        for kind, fields, array in module.serve(path, request, reserve_memory):
            if seconds is None:
                _limit_cpu(timeout * _THREADS)
            if array is not None:
                # A memoryview holds bytes, of a decoder that did without NumPy.
                dtype = "uint8" if isinstance(array, memoryview) else array.dtype.name
                _send(out, kind, **fields, shape=array.shape, dtype=dtype)
                out.write(memoryview(array))
                out.flush()
            elif kind == "alive":
                _send(out, kind, **fields)
            else:
                last = kind, fields
    except MemoryError:
        error: ConvndError = too_large_error(path)
    except ConvndError as refusal:
        # The system refused memory beyond the limit, however much there is.
        lacks_memory = isinstance(refusal.__cause__, MemoryError)
        error = too_large_error(path) if lacks_memory else refusal
    except ImportError as failure:
        error = import_failure(failure)
    else:
        return last
    return "error", {"name": type(error).__name__, "text": str(error)}


def _send(out: BinaryIO, kind: str, **fields: Any) -> None:
    text = json.dumps({"kind": kind, **fields}).encode()
    out.write(struct.pack(">I", len(text)) + text)
    out.flush()


def _set_limit(name: str, value: int | None) -> None:
    """Set a limit of the operating system, if it has that limit; None lifts it again."""
    with contextlib.suppress(ImportError, AttributeError, OSError, ValueError):
        import resource

        number = getattr(resource, name)
        _, hard = resource.getrlimit(number)
        if value is None:
            value = hard
        soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (soft, hard))


def _limit_memory(size: int) -> None:
    """Allow so many bytes in addition to what this process holds now."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resident = pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        resident = 2**30
    _set_limit("RLIMIT_AS", resident + size)


def _limit_cpu(seconds: float) -> None:
    """Let the system end this process after so many more seconds of computing."""
    times = os.times()
    _set_limit("RLIMIT_CPU", int(times.user + times.system + seconds) + 1)


def _end_with_parent(*, on: bool = True) -> None:
    """Let the system end this process when its stdin closes, however the parent ended.

    The signal needs no line of Python, so that it also ends a decoder that never returns. A new
    request on stdin causes it, too.
    """
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl
        import select

        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(0, fcntl.F_GETFL)
        fcntl.fcntl(0, fcntl.F_SETFL, flags | os.O_ASYNC if on else flags & ~os.O_ASYNC)
        if not on:
            return
        poll = select.poll()
        poll.register(0, 0)
        if poll.poll(0):  # the parent was gone already
            os._exit(1)
