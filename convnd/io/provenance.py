"""Provenance: how a result was made, stored in its file or in a sidecar file.

Provenance maps names to text. Formats with a place for text store it in the file
(`Format.read_provenance` reads it back); for the others it goes into a sidecar, ``<name>.json``.
Provenance of an input does not pass into the result: `is_provenance` distinguishes it from the
text of the file's owner.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from convnd.errors import InputFileError, OutputExistsError
from convnd.io.atomic import atomic_path, error_text
from convnd.io.registry import parts_of

__all__ = [
    "check_sidecar",
    "digest",
    "file_sha256",
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
    """Tell whether an entry of text was written as provenance.

    >>> is_provenance("convnd:steps", "5"), is_provenance("Software", "a scanner")
    (True, False)
    """
    return key.startswith(_PREFIX) or (key == "Software" and value.startswith("convnd "))


def parse_provenance(text: str | bytes) -> dict[str, str]:
    """Parse provenance from JSON; empty if the text is something else."""
    try:
        fields = json.loads(text) if len(text) <= _LARGEST else None
    except (ValueError, RecursionError):
        return {}
    if not isinstance(fields, dict) or not all(
        isinstance(text, str) for pair in fields.items() for text in pair
    ):
        return {}
    return fields


def sidecar_path(path: Path) -> Path:
    """Return the path of the sidecar of a file.

    >>> sidecar_path(Path("ecg.csv")).name
    'ecg.csv.json'
    """
    return path.with_name(f"{path.name}.json")


def check_sidecar(path: Path) -> None:
    """Refuse to replace a file that is not a sidecar.

    Raises:
        OutputExistsError: another file has the name of the sidecar.
    """
    side = sidecar_path(path)
    if os.path.lexists(side) and not any(
        is_provenance(*pair) for pair in read_sidecar(path).items()
    ):
        raise OutputExistsError(
            f"write {side}",
            expected="a record of an earlier result or none",
            got="another file",
            remedy="choose another name, or leave the record out (--no-metadata)",
        )


def write_sidecar(path: Path, provenance: Mapping[str, str]) -> None:
    """Write the sidecar of a file; see `check_sidecar`."""
    check_sidecar(path)
    with atomic_path(sidecar_path(path), overwrite=True) as temporary:
        temporary.write_text(json.dumps(dict(provenance), indent=1) + "\n", encoding="ascii")


def remove_sidecar(path: Path) -> None:
    """Remove the sidecar of a file that was replaced by one without; other files stay."""
    if any(is_provenance(*pair) for pair in read_sidecar(path).items()):
        sidecar_path(path).unlink(missing_ok=True)


def read_sidecar(path: Path) -> dict[str, str]:
    """Read the sidecar of a file; empty if there is none."""
    sidecar = sidecar_path(path)
    try:
        if not sidecar.is_file():  # opening a pipe could wait without an end
            return {}
        with sidecar.open("rb") as file:
            return parse_provenance(file.read(_LARGEST + 1))
    except OSError:
        return {}


def digest(path: Path, *, named: bool = True) -> str:
    """Return the sha256 of a file and of all files that belong to it, in hexadecimal.

    A folder includes the names and contents of all files in it and below; a WFDB header includes
    the files that it names, and the annotations; a detached header of a volume, its voxels.

    Args:
        path: a file or folder.
        named: whether the name of a WFDB record counts, which stands in its header and in the names
            of its files.

    Raises:
        InputFileError: a file cannot be read.
    """
    try:
        if path.is_dir():
            files = [file for file in sorted(path.rglob("*")) if file.is_file()]
        elif path.suffix.lower() == ".hea":
            files = _wfdb_files(path)
        elif parts := parts_of(path):
            files = [path, *parts]
        else:
            return file_sha256(path)
        total = hashlib.sha256()
        for file in files:
            name, file_hash = file.name, file_sha256(file)
            name = file.relative_to(path).as_posix() if path.is_dir() else name
            if not named and path.is_file():
                name = name.removeprefix(path.stem)
                file_hash = _unnamed_sha256(file, path.stem) if file == path else file_hash
            total.update(f"{name}\0{file_hash}\n".encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise InputFileError(
            f"read {path}",
            expected="a file that can be read to its end",
            got=f"'{error_text(error)}'",
            remedy="check it",
        ) from error
    return total.hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 of one file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unnamed_sha256(header: Path, stem: str) -> str:
    # A line begins with the name of the record, or of a file of its signals.
    lines = header.read_bytes().split(b"\n")
    name = os.fsencode(stem)
    return hashlib.sha256(b"\n".join(line.removeprefix(name) for line in lines)).hexdigest()


def _wfdb_files(path: Path) -> list[Path]:
    """List the files of a WFDB record: headers of segments, signals and annotations."""
    files, headers = [path], [path]
    while headers:
        lines = headers.pop().read_text("utf-8", "replace").splitlines()
        names = {line.split()[0].partition("/")[0] for line in lines if line.strip()}
        candidates = (
            path.with_name(file)
            for name in names
            for file in (name, f"{name}.hea")
            if "/" not in file and name != "#"
        )
        new = [file for file in candidates if file not in files and file.is_file()]
        files += new
        headers += [file for file in new if file.suffix == ".hea"]
    annotations = path.with_suffix(".atr")
    return sorted({*files, *([annotations] if annotations.is_file() else [])})
