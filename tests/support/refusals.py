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

SECONDS = 20  # no case takes one; a hang shall fail and not wait
MEBIBYTES = 96
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


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
    handler = signals.signal(signals.SIGALRM, ring)
    signals.alarm(SECONDS)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield
    finally:
        signals.alarm(0)
        signals.signal(signals.SIGALRM, handler)
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
