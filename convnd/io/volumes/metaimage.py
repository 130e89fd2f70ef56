"""The header of MetaImage files (``.mha``, ``.mhd``), after ITK's documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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

__all__ = ["parse_metaimage"]

_DTYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
# ITK takes the first of these names that it finds; two of them with different values mislead.
_BYTE_ORDER = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
_ORIGIN = ("Offset", "Position", "Origin")
_DIRECTIONS = ("TransformMatrix", "Rotation", "Orientation")
_FIELDS = {
    "Comment", "ObjectType", "ObjectSubType", "TransformType", "NDims", "Name", "ID", "ParentID",
    "CompressedData", "CompressedDataSize", "BinaryData", *_BYTE_ORDER, "Color", *_ORIGIN,
    *_DIRECTIONS, "CenterOfRotation", "DistanceUnits", "AnatomicalOrientation", "ElementSpacing",
    "ElementSize", "DimSize", "HeaderSize", "HeaderSizePerSlice", "SequenceID", "ElementMin",
    "ElementMax", "ElementNumberOfChannels", "ElementNBits", "ElementToIntensityFunctionSlope",
    "ElementToIntensityFunctionOffset", "ElementType", "AcquisitionDate", "ElementDataFile",
}  # fmt: skip


def parse_metaimage(path: Path) -> VolumeHeader:
    """Parse the header of a MetaImage file.

    Raises:
        InputFileError: the header is damaged, names another file, or describes something else than
            three axes of real numbers.
    """
    fields, text, offset = _fields(path)
    data = None
    if fields["ElementDataFile"] != "LOCAL":
        if path.suffix.lower() != ".mhd":
            raise separated_data_error(path)
        data, offset = detached_data(path, fields["ElementDataFile"]), 0
    if fields.get("NDims") != "3":
        raise header_error(path, "3 axes, NDims = 3", repr(fields.get("NDims", "none")[:40]))
    if fields.get("ElementNumberOfChannels", "1") != "1":
        got = repr(fields["ElementNumberOfChannels"][:40])
        raise header_error(path, "real voxels of one component", got)
    shape = parse_integers(path, "DimSize", fields.get("DimSize", ""), 3)
    dtype = _DTYPES.get(fields.get("ElementType", ""))
    if dtype is None:
        got = repr(fields.get("ElementType", "none")[:40])
        raise header_error(path, f"real voxels, ElementType one of {', '.join(_DTYPES)}", got)
    encoding: Encoding = "raw" if _flag(path, fields, "BinaryData", "True") else "ascii"
    if _flag(path, fields, "CompressedData"):
        encoding = "gzip"
    (header_size,) = parse_integers(path, "HeaderSize", fields.get("HeaderSize", "0"), 1)
    skips = header_size > 0 and data is not None
    if not (header_size in (0, -1) or skips) or (header_size != 0 and encoding != "raw"):
        raise header_error(path, "voxels right behind the header", f"HeaderSize {header_size}")
    big_endian = _flag(path, fields, _synonym(path, fields, _BYTE_ORDER))
    return VolumeHeader(
        shape=(shape[0], shape[1], shape[2]),
        dtype=(">" if big_endian else "<") + dtype,
        encoding=encoding,
        offset=None if header_size == -1 else offset + header_size,
        text=text,
        data=data,
        **_geometry(path, fields),
    )


def _fields(path: Path) -> tuple[dict[str, str], dict[str, str], int]:
    """Return the fields, the text, and the end of the header in bytes."""
    fields: dict[str, str] = {}
    text: dict[str, str] = {}
    for line, position in header_lines(path):
        if not line.strip():
            continue
        name, mark, value = line.partition("=")
        name = name.strip(" \t")
        # ITK ends a name at a colon, too.
        if not mark or not name.isascii() or ":" in name:
            raise header_error(path, "a header of lines with '='", repr(line[:60]))
        value = value.strip(" \t")
        if name not in _FIELDS:
            text[name] = value
        elif name in fields:
            raise header_error(path, f"{name} once", "it twice")
        else:
            fields[name] = value
        if name == "ElementDataFile":
            return fields, text, position
    raise AssertionError("header_lines ends with an error")


def _flag(path: Path, fields: dict[str, str], name: str, default: str = "False") -> bool:
    word = fields.get(name, default).lower()
    if word not in ("true", "t", "1", "false", "f", "0"):
        raise header_error(path, f"{name} to be True or False", repr(word[:40]))
    return word in ("true", "t", "1")


def _synonym(path: Path, fields: dict[str, str], names: tuple[str, ...]) -> str:
    """Return the one of several names for the same thing that is in the header, else the first."""
    present = [name for name in names if name in fields]
    if len({fields[name] for name in present}) > 1:
        raise header_error(path, f"one of {', '.join(present)}", "several that differ")
    return present[0] if present else names[0]


def _geometry(path: Path, fields: dict[str, str]) -> dict[str, Any]:
    """Return spacing, directions and origin, where the header has them."""
    geometry: dict[str, Any] = {}
    spacing = fields.get("ElementSpacing", fields.get("ElementSize"))
    if spacing is not None:
        geometry["spacing"] = parse_spacing(path, spacing)
    name = _synonym(path, fields, _ORIGIN)
    if name in fields:
        geometry["origin"] = parse_numbers(path, name, fields[name], 3)
    name = _synonym(path, fields, _DIRECTIONS)
    if name in fields:
        numbers = parse_numbers(path, name, fields[name], 9)
        geometry["directions"] = tuple(numbers[start : start + 3] for start in (0, 3, 6))
    return geometry
