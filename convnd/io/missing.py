"""The error for a file that does not exist, with the names that the user may have meant."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterable

from convnd.errors import InputFileError

__all__ = ["foreign_name_error", "missing_file_error", "similar_paths", "spelling_remedy"]

_ADDRESS = re.compile(r"(?i)(https?|ftps?|s3|gs):")
_MOST_ENTRIES = 10_000  # of a folder whose names are compared


def missing_file_error(path: str | os.PathLike[str], what: str = "file") -> InputFileError:
    """Return the error for a path where nothing is.

    Args:
        path: the path; one that ends in a slash is that of a folder.
        what: noun for what should be there, "file" or "folder".

    >>> print(missing_file_error("no_such_picture.png"))
    read no_such_picture.png: expected an existing file, got none; check the spelling
    """
    name = os.fspath(path)
    error = foreign_name_error(name)
    if error is not None:
        return error
    folder = _missing_folder(name)
    got = "none" if folder is None else f"no folder {folder}"
    if os.path.islink(name):  # noqa: PTH114 - which never raises
        got = "a link to nothing"
    return InputFileError(
        f"read {name}",
        expected=f"an existing {'folder' if name.endswith(os.sep) else what}",
        got=got,
        remedy=spelling_remedy(similar_paths(name)),
    )


def foreign_name_error(name: str) -> InputFileError | None:
    """Return the error for an address of the network or ``-``; None for other names."""
    if name == "-":
        return InputFileError(
            "read -", expected="a file", got="the standard input", remedy="save to a file first"
        )
    if _ADDRESS.match(name):  # a path has one slash where an address has two
        return InputFileError(
            f"read {name}",
            expected="a file",
            got="an address",
            remedy="download it first, for example with curl -O",
        )
    return None


def spelling_remedy(names: Iterable[str]) -> str:
    """Return the remedy that asks whether one of some names was meant.

    >>> spelling_remedy(["a.png", "b.png", "c.png"])
    "did you mean 'a.png', 'b.png' or 'c.png'?"
    >>> spelling_remedy([])
    'check the spelling'
    """
    names = list(map(repr, names))
    text = " or ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
    return f"did you mean {text}?" if text else "check the spelling"


def similar_paths(path: str | os.PathLike[str]) -> list[str]:
    """List up to three existing paths whose names resemble that of a path.

    Names are compared without suffixes and without regard to case. If a folder of the path does not
    exist, folders with similar names are listed.

    Args:
        path: a path that does not exist.

    Returns:
        The paths, the most similar first.
    """
    import difflib

    name = _missing_folder(path) or os.fspath(path)
    folder, typed = os.path.split(name.rstrip(os.sep))
    stem = _stem(typed)
    entries: list[str] = []
    with contextlib.suppress(OSError, ValueError), os.scandir(folder or ".") as scan:
        entries = [entry.name for entry in itertools.islice(scan, _MOST_ENTRIES)]
    stems = {_stem(entry) for entry in entries if entry.startswith(".") == typed.startswith(".")}
    close = difflib.get_close_matches(stem, stems, n=3, cutoff=0.7)

    def distance(entry: str) -> tuple[int, float, str]:
        ratio = difflib.SequenceMatcher(None, typed.casefold(), entry.casefold()).ratio()
        return close.index(_stem(entry)), -ratio, entry

    similar = sorted((entry for entry in entries if _stem(entry) in close), key=distance)
    paths = [os.path.join(folder, entry) for entry in similar]  # noqa: PTH118
    rest = os.fspath(path)[len(name) :]
    if rest or name.endswith(os.sep):
        paths = [other for other in paths if os.path.isdir(other)]  # noqa: PTH112
    whole = [other + rest for other in paths if rest and os.path.exists(other + rest)]  # noqa: PTH110
    return (whole or paths)[:3]


def _missing_folder(path: str | os.PathLike[str]) -> str | None:
    """Return the first folder of a path that does not exist, or None."""
    folder, missing = os.path.dirname(os.fspath(path).rstrip(os.sep)), None  # noqa: PTH120
    while folder and not os.path.isdir(folder):  # noqa: PTH112 - which never raises
        folder, missing = os.path.dirname(folder), folder  # noqa: PTH120
    return missing


def _stem(name: str) -> str:
    """Return a name without its suffixes, in small letters."""
    return (name[:1] + name[1:].partition(".")[0]).casefold()
