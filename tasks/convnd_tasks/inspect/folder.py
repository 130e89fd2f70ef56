"""Output folders that appear completely or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from convnd.io.atomic import disk_full_errors, output_errors, renamed_errors
from convnd.io.locks import defer_signals, folder_lock

__all__ = ["atomic_folder"]

_REMEDY = "choose another with --output"


@contextlib.contextmanager
def atomic_folder(output: Path) -> Iterator[Path]:
    """Create a temporary folder whose files move to ``output`` when the block succeeds.

    Args:
        output: the final folder. If it exists, the files are merged into it and replace those of
            the same names.

    Yields:
        The temporary folder, next to ``output``; it is removed if the block raises.

    Raises:
        OutputFileError: the folder cannot be written.
    """
    target = Path(os.path.realpath(output))
    temporary = target.with_name(f".convnd-{os.urandom(6).hex()}")
    try:
        with output_errors(output, "a folder that takes new ones", _REMEDY), defer_signals():
            temporary.mkdir()
        with renamed_errors(temporary, output), disk_full_errors(output):
            yield temporary
        with output_errors(output, "a folder that takes the results", _REMEDY):
            if not target.exists():
                temporary.rename(target)
                return
            with folder_lock(target):
                for path in sorted(path for path in temporary.rglob("*") if path.is_file()):
                    destination = target / path.relative_to(temporary)
                    destination.parent.mkdir(parents=True, exist_ok=True)
                    path.replace(destination)
    finally:
        with defer_signals():
            shutil.rmtree(temporary, ignore_errors=True)
