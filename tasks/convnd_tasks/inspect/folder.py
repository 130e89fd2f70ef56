"""A folder of results that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from convnd.errors import OutputFileError
from convnd.io.atomic import defer_signals, disk_full_errors, folder_lock

__all__ = ["new_folder"]


@contextlib.contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """A new folder beside ``output``; its files move there when the block ends well."""
    target = Path(os.path.realpath(output))
    made = target.with_name(f".convnd-{os.urandom(6).hex()}")
    try:
        try:
            with defer_signals():
                made.mkdir()
        except OSError as error:
            raise OutputFileError(
                f"write {output}: expected a folder that takes new ones, got {error.strerror}; "
                "choose another with --output"
            ) from error
        with disk_full_errors(output):
            yield made
        try:
            if not target.exists():
                made.rename(target)
                return
            with folder_lock(target):
                for path in sorted(each for each in made.rglob("*") if each.is_file()):
                    place = target / path.relative_to(made)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    path.replace(place)
        except OSError as error:
            raise OutputFileError(
                f"write {output}: expected a folder that takes the results, got "
                f"{error.strerror}; choose another with --output"
            ) from error
    finally:
        with defer_signals():
            shutil.rmtree(made, ignore_errors=True)
