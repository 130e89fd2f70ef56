"""Small ICC profiles, written by the specification (ICC.1:2022), and chunks of PNG."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

__all__ = [
    "ADOBE",
    "GREY",
    "P3",
    "PROPHOTO",
    "SWAPPED",
    "chunk",
    "curve",
    "parametric",
    "profile",
    "rgb_profile",
    "tables_profile",
]

_D50 = (0.9642, 1.0, 0.8249)


def profile(space: bytes, tags: dict[bytes, bytes], pcs: bytes = b"XYZ ") -> bytes:
    """A display profile with these tags."""
    offset, table, data = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        table += struct.pack(">4sII", name, offset + len(data), len(tag))
        data += tag + b"\0" * (-len(tag) % 4)
    size = offset + len(data)
    header = struct.pack(">I4xI4s4s4s", size, 0x02100000, b"mntr", space, pcs)
    header += struct.pack(">6H4s", 2020, 1, 1, 0, 0, 0, b"acsp") + b"\0" * 28
    header += _numbers(*_D50)
    return header.ljust(128, b"\0") + table + data


def curve(*table: float) -> bytes:
    """A ``curv`` tag: nothing is a line, one number a gamma, several the codes of a table."""
    codes = [round(table[0] * 256)] if len(table) == 1 else [round(x * 65535) for x in table]
    return b"curv\0\0\0\0" + struct.pack(f">I{len(codes)}H", len(codes), *codes)


def parametric(kind: int, *numbers: float) -> bytes:
    """A ``para`` tag."""
    return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + _numbers(*numbers)


def rgb_profile(columns: Sequence[Sequence[float]], tone: bytes) -> bytes:
    """A profile of RGB from the XYZ of its primaries and one curve."""
    tags = {b"desc": _text(b"test"), b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz(_D50)}
    tags |= {
        name + b"XYZ": _xyz(xyz) for name, xyz in zip((b"r", b"g", b"b"), columns, strict=True)
    }
    return profile(b"RGB ", tags | {name + b"TRC": tone for name in (b"r", b"g", b"b")})


def tables_profile(space: bytes = b"RGB ") -> bytes:
    """A profile whose only tag with colours is an ``mft1`` table that inverts every channel."""
    channels = 3 if space == b"RGB " else 4
    identity = struct.pack(">9i", *(65536 * (k % 4 == 0) for k in range(9)))
    ramp = bytes(range(256))
    # Codes of Lab of eight bits: lightness from the first channel only, without colour.
    corners = bytes(
        code
        for index in range(2**channels)
        for code in (0 if index >> (channels - 1) else 255, 128, 128)
    )
    table = b"mft1\0\0\0\0" + bytes([channels, 3, 2, 0]) + identity
    table += ramp * channels + corners + ramp * 3
    tags = {b"desc": _text(b"test"), b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz(_D50)}
    return profile(space, tags | {b"A2B0": table}, pcs=b"Lab ")


def chunk(name: bytes, data: bytes) -> bytes:
    """One chunk of a PNG: length, name, data, checksum."""
    checksum = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def _numbers(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))


def _xyz(numbers: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + _numbers(*numbers)


def _text(text: bytes) -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + b"\0" * 79


_ADOBE = (0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)
_P3 = (0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)
_WIDE = (0.79767, 0.28804, 0.0), (0.13519, 0.71187, 0.0), (0.03134, 0.00009, 0.82491)
_SRGB = (0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)

ADOBE, P3 = rgb_profile(_ADOBE, curve(2.2)), rgb_profile(_P3, curve(2.2))
PROPHOTO = rgb_profile(_WIDE, curve(1.8))
SWAPPED = rgb_profile((_SRGB[1], _SRGB[2], _SRGB[0]), curve(2.2))
GREY = profile(
    b"GRAY",
    {
        b"desc": _text(b"test"),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": _xyz(_D50),
        b"kTRC": curve(1.0),
    },
)
