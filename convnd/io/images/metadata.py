"""Metadata of pictures: the part that writers keep, and the camera's rotation."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from convnd.io.images.deep import Tag
from convnd.io.provenance import is_provenance

if TYPE_CHECKING:
    import PIL.Image
    from numpy.typing import NDArray

__all__ = [
    "COLOR_SPACE",
    "EXIF_IFD",
    "INTEROPERABILITY_IFD",
    "USER_COMMENT",
    "exif_with_provenance",
    "orientation_of",
    "picture_metadata",
    "to_upright",
]

EXIF_IFD, _GPS_IFD, INTEROPERABILITY_IFD = 0x8769, 0x8825, 0xA005
COLOR_SPACE, USER_COMMENT, _MAKER_NOTE = 0xA001, 0x9286, 0x927C
_WIDTH, _HEIGHT = 0xA002, 0xA003
# Description, make, model, time, artist, copyright. The orientation is applied, sizes and offsets
# belong to the old file, and the thumbnail shows the old picture.
_EXIF_KEPT = (270, 271, 272, 306, 315, 33432)
# The comment holds provenance.
_EXIF_DROPPED = {_WIDTH, _HEIGHT, INTEROPERABILITY_IFD, _MAKER_NOTE, USER_COMMENT}
# Keys of texts that repeat EXIF and the profile; XMP and ImageMagick's raw profiles repeat the
# orientation, too.
_NOT_TEXT = ("XML:", "Raw profile", "exif", "xmp", "icc_profile")


def picture_metadata(
    info: Mapping[Any, Any], exif: Callable[[], PIL.Image.Exif]
) -> dict[str, object]:
    """Return the metadata that a writer keeps: profile, resolution, texts and EXIF.

    Args:
        info: of a picture that Pillow has opened.
        exif: reads its EXIF.

    Returns:
        Those that the picture has, under ``icc``, ``dpi``, ``text`` and ``exif``.
    """
    header: dict[str, object] = {}
    icc, dpi = info.get("icc_profile"), info.get("dpi")
    if isinstance(icc, bytes) and len(icc) > 128:
        header["icc"] = icc
    with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):
        density = tuple(float(value) for value in dpi or ())
        if len(density) == 2 and all(1 <= value < 1e5 for value in density):
            header["dpi"] = density
    text = {
        key: str(value)
        for key, value in info.items()
        if isinstance(key, str)
        and isinstance(value, str)
        and not key.startswith(_NOT_TEXT)
        and not is_provenance(key, value)
    }
    remaining = _remaining_exif(exif, has_profile="icc" in header)
    return header | ({"text": text} if text else {}) | ({"exif": remaining} if remaining else {})


def _remaining_exif(exif: Callable[[], PIL.Image.Exif], *, has_profile: bool) -> bytes:
    """Return the part of EXIF that stays true for a changed picture."""
    from PIL import Image

    # Damaged EXIF causes errors of any class, and is no reason to refuse the picture.
    with contextlib.suppress(Exception):
        source, remaining = exif(), Image.Exif()
        for tag in _EXIF_KEPT:
            if tag in source:
                remaining[tag] = source[tag]
        for tag in (EXIF_IFD, _GPS_IFD):
            part = source.get_ifd(tag)
            part = {key: value for key, value in part.items() if key not in _EXIF_DROPPED}
            if not has_profile and part.get(COLOR_SPACE) != 1:
                part.pop(COLOR_SPACE, None)  # the result is sRGB
            if part:
                remaining[tag] = part
        return remaining.tobytes() if len(remaining) else b""
    return b""


def exif_with_provenance(exif_bytes: object, provenance: Mapping[str, str]) -> PIL.Image.Exif:
    """Return the EXIF of the input with provenance as the user comment, in JSON."""
    from PIL import Image

    source, exif = Image.Exif(), Image.Exif()
    if isinstance(exif_bytes, bytes) and exif_bytes:
        source.load(exif_bytes)
    # Asking for a directory that is missing adds an empty one.
    parts = {tag: dict(source.get_ifd(tag)) for tag in (EXIF_IFD, _GPS_IFD)}
    for tag in source:
        if tag not in parts:
            exif[tag] = source[tag]
    if provenance:
        comment = json.dumps(dict(provenance)).encode("ascii")
        parts[EXIF_IFD] = parts[EXIF_IFD] | {USER_COMMENT: b"ASCII\0\0\0" + comment}
    for tag, part in parts.items():
        if part:
            exif[tag] = part
    return exif


def orientation_of(image: PIL.Image.Image) -> int:
    """Return the orientation of EXIF, from 1 to 8; 1 is upright."""
    with contextlib.suppress(Exception):  # damaged EXIF causes errors of any class
        return int(image.getexif().get(Tag.ORIENTATION, 1))
    return 1


def to_upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Undo a camera's rotation: EXIF 2.3, tag 0x0112, "row 0 is visually …"."""
    import numpy as np

    if orientation in (5, 6, 7, 8):  # rows and columns are exchanged
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
