"""Standard streams that are usable even if they are closed or cannot be written to."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["close_streams", "open_streams"]


def open_streams() -> None:
    """Make stdout and stderr usable where they are closed, and for names that are no valid text."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.stderr is sys.__stderr__ and type(sys.stderr) is io.TextIOWrapper:
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(_LossyFile(sys.stderr.fileno(), "wb", closefd=False)),
            encoding=sys.stderr.encoding,
            errors="backslashreplace",
            line_buffering=True,
        )


class _LossyFile(io.FileIO):
    """A stream that drops messages that it cannot write, so that the job continues."""

    def write(self, data: Buffer, /) -> int:
        """Write bytes, or drop them."""
        try:
            return super().write(data) or 0
        except OSError:
            return memoryview(data).nbytes


def close_streams() -> None:
    """Discard the rest of stdout, which Python would try to write again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
