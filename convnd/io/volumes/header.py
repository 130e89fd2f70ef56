"""The part of NRRD and MetaImage headers that both formats share."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from convnd.errors import InputFileError
from convnd.io.reading import check_file

__all__ = [
    "Encoding",
    "VolumeHeader",
    "detached_data",
    "header_error",
    "header_lines",
    "parse_integers",
    "parse_numbers",
    "parse_spacing",
    "separated_data_error",
]

_MAX_HEADER = 2**20
# Tabs may stand in a line; a carriage return only before its line feed. ITK's parsers disagree with
# others about what the remaining control characters mean.
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
# A file in the same folder: no separators, drives or hidden files, and no pattern for several.
_FILE_NAME = re.compile(r"[^./\\:%][^/\\:%]*")
_DATA_SUFFIXES = (".raw", ".zraw", ".gz", ".img", ".dat", ".data", ".bin", ".hex", ".txt")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,400}(\.[0-9]{0,400})?|\.[0-9]{1,400})([eE][+-]?[0-9]{1,4})?")

Encoding = Literal["raw", "gzip", "ascii", "hex"]


@dataclass(frozen=True, kw_only=True)
class VolumeHeader:
    """The geometry of a volume and the encoding of its voxels, as a header declares them.

    Args:
        shape: extents ``(I, J, K)``; the first axis varies fastest in the file.
        dtype: name of NumPy's type with its byte order, e.g. ``"<i2"``.
        encoding: how the voxels are stored; ``"gzip"`` is deflate with a header of gzip or zlib.
        offset: position of the voxels in the file, in bytes; None if they are its last bytes.
        spacing: length of a step along each axis, in mm.
        directions: direction of each axis in LPS+, ``directions[axis][row]``.
        origin: position of the first voxel in LPS+, in mm.
        text: entries without a meaning for the voxels, as their owner wrote them.
        data: the file that holds the voxels; None if it is the header's.
    """

    shape: tuple[int, int, int]
    dtype: str
    encoding: Encoding
    offset: int | None
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0)
    directions: tuple[tuple[float, ...], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    origin: tuple[float, ...] = (0.0, 0.0, 0.0)
    text: dict[str, str] = field(default_factory=dict)
    data: Path | None = None


def header_lines(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the lines of a header and the position after each line, in bytes.

    Raises:
        InputFileError: a line holds control characters, or the header does not end.
    """
    with path.open("rb") as file:
        start = file.read(_MAX_HEADER)
    position = 0
    while (end := start.find(b"\n", position)) >= 0:
        line = start[position:end].removesuffix(b"\r")
        if _CONTROL.search(line):
            raise header_error(path, "lines of text", f"{line[:40]!r}")
        position = end + 1
        yield line.decode("utf-8", "replace"), position
    raise header_error(path, f"a header of less than {_MAX_HEADER} bytes that ends", "none")


def parse_integers(path: Path, name: str, text: str, count: int) -> tuple[int, ...]:
    """Parse whole numbers.

    Raises:
        InputFileError: the text is not exactly ``count`` whole numbers.
    """
    words = text.split()
    if len(words) != count or not all(_INTEGER.fullmatch(word) for word in words):
        raise header_error(path, f"{count} whole numbers for {name}", repr(text[:60]))
    return tuple(int(word) for word in words)


def parse_numbers(path: Path, name: str, text: str, count: int) -> tuple[float, ...]:
    """Parse finite numbers.

    Raises:
        InputFileError: the text is not exactly ``count`` finite numbers.
    """
    words = text.split()
    is_valid = len(words) == count and all(_NUMBER.fullmatch(word) for word in words)
    numbers = tuple(float(word) for word in words) if is_valid else (math.nan,)
    if not all(math.isfinite(number) for number in numbers):
        raise header_error(path, f"finite {name}, {count} numbers", repr(text[:60]))
    return numbers


def parse_spacing(path: Path, text: str) -> tuple[float, ...]:
    """Parse the spacing along three axes.

    Raises:
        InputFileError: a number is missing, zero, negative or not finite.
    """
    words = text.split()
    is_valid = len(words) == 3 and all(_NUMBER.fullmatch(word) for word in words)
    spacing = tuple(float(word) for word in words) if is_valid else (0.0,)
    if not all(0 < step < math.inf for step in spacing):
        raise header_error(path, "positive finite spacing along 3 axes", repr(text[:60]))
    return spacing


def header_error(path: Path, expected: str, got: str) -> InputFileError:
    """Return the error for a header with an invalid entry."""
    return InputFileError(
        f"read {path}", expected=expected, got=got, remedy="correct the header or save it again"
    )


def detached_data(path: Path, name: str) -> Path:
    """Return the file of voxels that a detached header names; it has to lie beside the header.

    Args:
        path: the header.
        name: as the header has it.

    Raises:
        InputFileError: it names a file elsewhere or of another kind, several files, or none that
            exists.
    """
    file = path.parent / name
    suffix = Path(name).suffix.lower()
    is_plain = _FILE_NAME.fullmatch(name) is not None and suffix in _DATA_SUFFIXES
    if not is_plain or file.resolve().parent != path.resolve().parent:
        raise InputFileError(
            f"read {path}",
            expected=f"one file of voxels beside it ({', '.join(_DATA_SUFFIXES)})",
            got=repr(name[:60]),
            remedy="put it there and correct the header, or save both as one file",
        )
    check_file(file)
    return file


def separated_data_error(path: Path) -> InputFileError:
    """Return the error for a header that names another file of voxels where none is allowed."""
    return InputFileError(
        f"read {path}",
        expected="header and voxels in one file",
        got="a header that names another",
        remedy="save it as one, or rename a detached header to .mhd or .nhdr",
    )
