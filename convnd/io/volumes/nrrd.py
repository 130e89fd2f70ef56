"""The header of NRRD files, after the definition at https://teem.sourceforge.net/nrrd/format.html."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, TypeVar

from convnd.io.volumes.header import (
    Encoding,
    VolumeHeader,
    detached_data,
    header_error,
    header_lines,
    parse_integers,
    parse_numbers,
    parse_spacing,
    separated_data_error,
)

__all__ = ["parse_nrrd"]

_T = TypeVar("_T")

_MAGIC = re.compile(r"NRRD000[1-5]")
_TYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, "
    "int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
_DTYPES = {name: code for code, names in _TYPES.items() for name in names.split(", ")}
_ENCODINGS: dict[str, Encoding] = {
    "raw": "raw", "gzip": "gzip", "gz": "gzip", "ascii": "ascii", "text": "ascii", "txt": "ascii",
    "hex": "hex",
}  # fmt: skip
_BYTE_ORDERS = {"little": "<", "big": ">"}
# Signs of the three axes of space that lead to left, posterior, superior.
_SPACES: dict[str, tuple[int, int, int]] = {
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "scanner-xyz": (1, 1, 1), "3d-right-handed": (1, 1, 1), "3d-left-handed": (1, 1, 1),
}  # fmt: skip
_SPATIAL_KINDS = ("domain", "space", "time", "none", "???")
_FIELDS = {
    "content", "number", "type", "dimension", "space", "spacedimension", "sizes", "spacings",
    "thicknesses", "axismins", "axismaxs", "centers", "labels", "units", "kinds", "min", "max",
    "oldmin", "oldmax", "endian", "encoding", "lineskip", "byteskip", "sampleunits", "spaceunits",
    "spaceorigin", "spacedirections", "measurementframe", "blocksize", "datafile",
}  # fmt: skip
_ALIASES = {"centerings": "centers"}
_VECTOR = re.compile(r"\(([^()]*)\)")
_ESCAPE = re.compile(r"\\(.)")


def parse_nrrd(path: Path) -> VolumeHeader:
    """Parse the header of a NRRD file.

    Raises:
        InputFileError: the header is damaged, names another file, or describes something else than
            three axes of real numbers.
    """
    fields, text, offset = _fields(path)
    if fields.get("dimension", "").strip() != "3":
        got = repr(fields.get("dimension", "none")[:60])
        raise header_error(path, "3 axes, dimension: 3", got)
    shape = parse_integers(path, "sizes", fields.get("sizes", ""), 3)
    _check_kinds(path, fields.get("kinds", ""))
    code = _choice(path, fields, "type", _DTYPES)
    encoding = _choice(path, fields, "encoding", _ENCODINGS)
    order = "<"
    if code[1] != "1" and encoding != "ascii":
        order = _choice(path, fields, "endian", _BYTE_ORDERS)
    data = detached_data(path, fields["datafile"]) if "datafile" in fields else None
    return VolumeHeader(
        shape=(shape[0], shape[1], shape[2]),
        dtype=order + code,
        encoding=encoding,
        offset=_data_offset(path, fields, encoding, offset if data is None else 0),
        text=text,
        data=data,
        **_geometry(path, fields, shape),
    )


def _fields(path: Path) -> tuple[dict[str, str], dict[str, str], int]:
    """Return the fields, names without spaces in lower case, the text, and the end in bytes."""
    fields: dict[str, str] = {}
    text: dict[str, str] = {}
    lines = header_lines(path)
    size = path.stat().st_size  # a detached header may end without an empty line
    magic, _ = next(lines)
    if not _MAGIC.fullmatch(magic):
        raise header_error(path, "the header of a NRRD file", repr(magic[:40]))
    for line, position in lines:
        if line:
            _add(path, line, fields, text)
        if not line or (position == size and "datafile" in fields):
            return fields, text, position
    raise AssertionError("header_lines ends with an error")


def _add(path: Path, line: str, fields: dict[str, str], text: dict[str, str]) -> None:
    """Add a line to the fields or to the text; comments are left out."""
    if line.startswith("#"):
        return
    name, mark, value = line.partition(":=")
    if mark and ": " not in name:
        text[name] = _ESCAPE.sub(lambda match: {"n": "\n"}.get(match[1], match[1]), value)
        return
    name, mark, value = line.partition(": ")
    name = name.replace(" ", "").lower()
    name = _ALIASES.get(name, name)
    if name == "datafile" and path.suffix.lower() != ".nhdr":
        raise separated_data_error(path)
    if not mark or name not in _FIELDS or name in fields:
        raise header_error(path, "known fields, once each", repr(line[:60]))
    fields[name] = value.strip()


def _choice(path: Path, fields: dict[str, str], name: str, table: dict[str, _T]) -> _T:
    word = fields.get(name, "none").lower()
    if word not in table:
        raise header_error(path, f"{name} one of {', '.join(table)}", repr(word[:40]))
    return table[word]


def _check_kinds(path: Path, text: str) -> None:
    kinds = text.lower().split() or ["domain"] * 3
    if len(kinds) != 3 or any(kind not in _SPATIAL_KINDS for kind in kinds):
        raise header_error(path, "three axes of space", f"kinds {text[:60]!r}")


def _data_offset(path: Path, fields: dict[str, str], encoding: Encoding, offset: int) -> int | None:
    (lines,) = parse_integers(path, "line skip", fields.get("lineskip", "0"), 1)
    (skip,) = parse_integers(path, "byte skip", fields.get("byteskip", "0"), 1)
    if (skip, lines) == (0, 0):
        return offset
    if encoding != "raw" or lines or skip < -1:
        got = f"line skip {lines} and byte skip {skip}"
        raise header_error(path, "voxels right behind the header", got)
    return None if skip == -1 else offset + skip


def _geometry(path: Path, fields: dict[str, str], shape: tuple[int, ...]) -> dict[str, Any]:
    """Return spacing, directions and origin, where the header has them."""
    signs = _SPACES.get(fields.get("space", "lps").lower())
    if signs is None or fields.get("spacedimension", "3") != "3":
        got = repr(fields.get("space", fields.get("spacedimension", ""))[:40])
        raise header_error(path, f"space one of {', '.join(_SPACES)}", got)
    in_space = "space" in fields or "spacedimension" in fields
    geometry: dict[str, Any] = {}
    if "spacings" in fields and not in_space:
        geometry["spacing"] = parse_spacing(path, fields["spacings"])
    elif "spacings" in fields or (
        not in_space and ("spacedirections" in fields or "spaceorigin" in fields)
    ):
        raise header_error(path, "space with space directions, or spacings alone", "a mixture")
    if "spacedirections" in fields:
        vectors = _vectors(path, "space directions", fields["spacedirections"], 3)
        spacing = tuple(math.sqrt(sum(x * x for x in vector)) for vector in vectors)
        if 0 in spacing or not all(map(math.isfinite, spacing)):
            got = repr(fields["spacedirections"][:60])
            raise header_error(path, "finite space directions and none of length 0", got)
        geometry["spacing"] = spacing
        geometry["directions"] = tuple(
            tuple(sign * x / length for sign, x in zip(signs, vector, strict=True))
            for vector, length in zip(vectors, spacing, strict=True)
        )
    if "spaceorigin" in fields:
        (origin,) = _vectors(path, "space origin", fields["spaceorigin"], 1)
        geometry["origin"] = tuple(sign * x for sign, x in zip(signs, origin, strict=True))
    if "axismins" in fields and not in_space:
        geometry |= _from_axis_limits(path, fields, shape, geometry.get("spacing"))
    return geometry


def _from_axis_limits(
    path: Path, fields: dict[str, str], shape: tuple[int, ...], spacing: tuple[float, ...] | None
) -> dict[str, Any]:
    """Return the spacing and the centre of the first voxel for axes with limits."""
    low = parse_numbers(path, "axis mins", fields["axismins"], 3)
    at_nodes = [word == "node" for word in fields.get("centers", "").lower().split()]
    at_nodes = at_nodes if len(at_nodes) == 3 else [False] * 3
    if spacing is None:
        high = parse_numbers(path, "axis maxs", fields.get("axismaxs", ""), 3)
        intervals = [max(1, n - node) for n, node in zip(shape, at_nodes, strict=True)]
        spacing = tuple((b - a) / n for a, b, n in zip(low, high, intervals, strict=True))
        if not all(0 < step < math.inf for step in spacing):
            raise header_error(path, "axis maxs above axis mins", repr(fields["axismaxs"][:60]))
    origin = tuple(
        a if node else a + step / 2 for a, step, node in zip(low, spacing, at_nodes, strict=True)
    )
    return {"spacing": spacing, "origin": origin}


def _vectors(path: Path, name: str, text: str, count: int) -> list[tuple[float, ...]]:
    vectors = _VECTOR.findall(text)
    if len(vectors) != count or _VECTOR.sub("", text).strip():
        raise header_error(path, f"finite {name}, {count} vectors of 3 numbers", repr(text[:60]))
    return [parse_numbers(path, name, vector.replace(",", " "), 3) for vector in vectors]
