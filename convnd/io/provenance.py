"""How a result was made, kept with it: in its own format, or in a file beside it.

A record is text by name. Formats that have a place for text hold it themselves
(`Format.read_provenance` reads it back there); beside the others lies ``<name>.json``. Records that
an input brings along do not pass into the result: `is_provenance` tells them from the owner's own
text.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from convnd.errors import InputFileError, OutputExistsError
from convnd.io.atomic import atomic_path, error_text

__all__ = [
    "check_sidecar",
    "digest",
    "is_provenance",
    "parse_provenance",
    "read_sidecar",
    "remove_sidecar",
    "sidecar_path",
    "write_sidecar",
]

_PREFIX = "convnd:"
_LARGEST = 2**20


def is_provenance(key: str, value: str) -> bool:
    """Whether an entry of text is part of a record of ours.

    >>> is_provenance("convnd:steps", "5"), is_provenance("Software", "a scanner")
    (True, False)
    """
    return key.startswith(_PREFIX) or (key == "Software" and value.startswith("convnd "))


def parse_provenance(text: str | bytes) -> dict[str, str]:
    """A record out of its JSON; nothing if it is none."""
    try:
        found = json.loads(text) if len(text) <= _LARGEST else None
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or not all(
        isinstance(part, str) for pair in found.items() for part in pair
    ):
        return {}
    return found


def sidecar_path(path: Path) -> Path:
    """Where the record of a file lies that has no place for it.

    >>> sidecar_path(Path("ecg.csv")).name
    'ecg.csv.json'
    """
    return path.with_name(f"{path.name}.json")


def check_sidecar(path: Path) -> None:
    """Refuse to write a record over what is none.

    Raises:
        OutputExistsError: there is another file under the record's name.
    """
    side = sidecar_path(path)
    if side.exists() and not any(is_provenance(*pair) for pair in read_sidecar(path).items()):
        raise OutputExistsError(
            f"write {side}: expected a record of an earlier result or none, got another file; "
            "choose another name, or leave the record out (--no-metadata)"
        )


def write_sidecar(path: Path, provenance: Mapping[str, str]) -> None:
    """Write a record beside a file; see `check_sidecar`."""
    check_sidecar(path)
    with atomic_path(sidecar_path(path), overwrite=True) as temporary:
        temporary.write_text(json.dumps(dict(provenance), indent=1) + "\n", encoding="ascii")


def remove_sidecar(path: Path) -> None:
    """Remove the record of a file that was replaced by one without; what is not ours stays."""
    if any(is_provenance(*pair) for pair in read_sidecar(path).items()):
        sidecar_path(path).unlink(missing_ok=True)


def read_sidecar(path: Path) -> dict[str, str]:
    """The record beside a file; nothing if there is none."""
    sidecar = sidecar_path(path)
    try:
        if not sidecar.is_file():  # opening a pipe could wait without an end
            return {}
        with sidecar.open("rb") as file:
            return parse_provenance(file.read(_LARGEST + 1))
    except OSError:
        return {}


def digest(path: Path, *, named: bool = True) -> str:
    """The sha256 of an input, hexadecimal: of a file, or of all that belongs to it.

    Of a folder, every file in it counts, with its name; of a WFDB header, every file beside it that
    it names, and the annotations.

    Args:
        path: the input, or a result.
        named: whether a WFDB record's own name counts, which stands in its header and is that of
            its files.

    Raises:
        InputFileError: something of it cannot be read.
    """
    try:
        if path.is_dir():
            parts = [each for each in sorted(path.iterdir()) if each.is_file()]
        elif path.suffix.lower() == ".hea":
            parts = _wfdb_files(path)
        else:
            return _sha256(path)
        found = hashlib.sha256()
        for part in parts:
            name, hashed = part.name, _sha256(part)
            if not named and path.is_file():
                name = name.removeprefix(path.stem)
                hashed = _unnamed_sha256(part, path.stem) if part == path else hashed
            found.update(f"{name}\0{hashed}\n".encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise InputFileError(
            f"read {path}: expected a file that can be read to its end, got '{error_text(error)}'; "
            "check it"
        ) from error
    return found.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unnamed_sha256(header: Path, stem: str) -> str:
    # Lines begin with the record's name, or that of a file of its signals.
    lines = header.read_bytes().split(b"\n")
    own = os.fsencode(stem)
    return hashlib.sha256(b"\n".join(line.removeprefix(own) for line in lines)).hexdigest()


def _wfdb_files(path: Path) -> list[Path]:
    found, open_ = [path], [path]
    while open_:
        lines = open_.pop().read_text("utf-8", "replace").splitlines()
        names = {line.split()[0].partition("/")[0] for line in lines if line.strip()}
        beside = (path.with_name(each) for name in names for each in (name, f"{name}.hea")
                  if "/" not in each and name != "#")  # fmt: skip
        fresh = [each for each in beside if each not in found and each.is_file()]
        found += fresh
        open_ += [each for each in fresh if each.suffix == ".hea"]
    marks = path.with_suffix(".atr")
    return sorted({*found, *([marks] if marks.is_file() else [])})
