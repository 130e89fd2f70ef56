"""The standard streams of a command: usable, whatever they are connected to."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["close_streams", "open_streams"]


def open_streams() -> None:
    """Make stdout and stderr usable: they may be closed, and file names need not be valid text."""
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
    """Write messages to a stream; one that cannot be written is lost, and the work continues."""

    def write(self, data: Buffer, /) -> int:
        """Write bytes, or drop them."""
        try:
            return super().write(data) or 0
        except OSError:
            return memoryview(data).nbytes


def close_streams() -> None:
    """Leave stdout alone at exit, where Python would try once more to write what did not fit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
