"""Reading within bounds of time and memory, and what a refusal looks like."""

from __future__ import annotations

import contextlib
import re
import signal as signals
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import convnd.io
from convnd.errors import InputFileError

__all__ = ["MEBIBYTES", "STATUS", "bounded", "error_is_one_line", "refusal"]

# No case takes one second of computing; a hang shall fail and not wait. On a busy machine, a child
# that starts within a second of computing may take 20 s.
SECONDS, WALL_SECONDS = 20, 180
MEBIBYTES = 96
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


_TIMERS = (signals.SIGPROF, signals.SIGALRM)


class Hang(BaseException):
    """Not an Exception, which readers turn into their own."""


def _resident(kind: str) -> int:
    match = re.search(rf"{kind}:\s+(\d+) kB", STATUS.read_text())
    assert match is not None
    return int(match[1]) // 1024


@contextlib.contextmanager
def bounded(mebibytes: int = MEBIBYTES, *, gone: Collection[Path] = ()) -> Iterator[None]:
    """Time and memory are bounded, nothing is warned of, and the folder keeps its content.

    Files that are ``gone`` afterwards are those that the test itself takes away.
    """

    def ring(*_: Any) -> None:
        raise Hang

    before = sorted(set(Path.cwd().rglob("*")) - set(gone))
    measured = RESET.exists()
    if measured:
        RESET.write_text("5")  # the peak begins anew
        resident = _resident("VmRSS")
    handlers = [(number, signals.signal(number, ring)) for number in _TIMERS]
    signals.setitimer(signals.ITIMER_PROF, SECONDS)
    signals.alarm(WALL_SECONDS)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield
    finally:
        signals.setitimer(signals.ITIMER_PROF, 0)
        signals.alarm(0)
        for number, handler in handlers:
            signals.signal(number, handler)
    assert [str(warning.message) for warning in warned] == []
    assert sorted(Path.cwd().rglob("*")) == before
    if measured:
        assert _resident("VmHWM") - resident < mebibytes


def refusal(path: Path, *, mebibytes: int = MEBIBYTES) -> str | None:
    """The message if the file is refused; None if it is read."""
    with bounded(mebibytes):
        try:
            grid = convnd.io.read(path)
        except InputFileError as error:
            message = str(error)
        else:
            assert grid.values.numel() > 0
            return None
    assert error_is_one_line(message), message
    return message


def error_is_one_line(message: str) -> bool:
    return message.startswith("read ") and message.isprintable() and len(message) < 700
