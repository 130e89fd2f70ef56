"""The colour space that a picture declares, and its pixels in sRGB."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.images.color import (
    ADOBE_RGB,
    ColorSpace,
    SpaceArguments,
    coded_space,
    named_space,
    profile_kind,
    profile_space,
)
from convnd.io.images.metadata import COLOR_SPACE, EXIF_IFD, INTEROPERABILITY_IFD

if TYPE_CHECKING:
    import PIL.Image
    from numpy.typing import NDArray

__all__ = [
    "apply_tables",
    "convert_with_tables",
    "declared_space",
    "has_tables",
    "known_space",
    "pixels_in_srgb",
    "space_of_header",
]

_CODED = b"colrnclx"  # of AVIF and HEIF: three codes of 16 bits follow, and the range
_HEAD = 2**16  # bytes of a file that hold its boxes
_MAX_CHUNKS = 1000


def declared_space(
    path: Path, image: PIL.Image.Image, header: dict[str, object]
) -> dict[str, object]:
    """Read the colour space that a picture declares without an ICC profile.

    PNG has it in ``cICP``, ``sRGB``, and ``gAMA`` with ``cHRM``; AVIF and HEIF have it in codes; a
    camera names Adobe RGB in EXIF.

    Args:
        path: the file.
        image: the picture, opened by Pillow.
        header: metadata of the picture; a profile that the codes replace is removed from it.

    Returns:
        ``{"space": (primaries, white, gamma)}``, the arguments of
        `convnd.io.images.color.named_space`; empty for sRGB.

    Raises:
        InputFileError: it is an HDR picture, or of a space that is not supported.
    """
    info, kind = image.info, image.format
    codes = None
    if kind == "PNG":
        codes = _png_codes(path)
    elif kind in ("AVIF", "HEIF") and not info.get("icc_profile"):
        codes = _box_codes(path)
    if codes is not None:
        space = coded_space(codes[0], codes[1])
        if space is None or (kind == "PNG" and codes[2:] != (0, 1)):
            raise InputFileError(
                f"read {path}",
                expected="colours of a still picture: sRGB, Display P3, BT.2020 without HDR",
                got=f"primaries {codes[0]}, transfer {codes[1]} of ITU-T H.273"
                + (" (HDR)" if codes[1] in (16, 18) else ""),
                remedy="export it as a picture without HDR, for example in sRGB",
            )
        header.pop("icc", None)
        return {} if named_space(*space).is_srgb else {"space": space}
    return known_space(image)


def known_space(image: PIL.Image.Image) -> dict[str, object]:
    """Return what Pillow knows of the `declared_space`, from ``gAMA``, ``cHRM`` and EXIF."""
    info = image.info
    if info.get("icc_profile") or "srgb" in info:
        return {}
    space = _png_gamma(info) or _exif_space(image.getexif)
    with contextlib.suppress(ArithmeticError, ValueError):  # primaries on one line
        if space is not None and not named_space(*space).is_srgb:
            return {"space": space}
    return {}


def apply_tables(pixels: NDArray[Any], header: dict[str, object]) -> NDArray[Any]:
    """Convert pixels to sRGB if their profile has lookup tables, and remove that profile.

    littlecms converts in 8 bits. ``header["notes"]`` gets a message if the pixels had more.

    Args:
        pixels: ``(H, W, C)``, see `convnd.io.images.decoding.Decoded`.
        header: metadata of the picture.

    Returns:
        ``(H, W, C')`` of the same type.
    """
    import numpy as np
    from PIL import Image

    if not has_tables(header, pixels.shape[2]):
        return pixels
    icc: Any = header.pop("icc")
    kind, _ = profile_kind(icc)
    colors = pixels[..., : _color_count(pixels.shape[2])]
    white = {1: 255, 2: 65535, 4: 1}[pixels.itemsize]
    codes = np.rint(colors * (255 / white)).astype(np.uint8)
    image = Image.fromarray(codes[..., 0] if codes.shape[2] == 1 else codes)
    converted = convert_with_tables(image.convert("RGB") if kind == b"RGB " else image, icc)
    if converted is None:
        return pixels
    if white != 255:
        header["notes"] = (
            "its colour profile consists of tables, which are applied in 8 bits; a profile of a "
            "matrix and curves would keep all bits",
        )
    result = np.asarray(converted) * (pixels.dtype.type(white) / 255)
    result = result.round().astype(pixels.dtype) if white > 1 else result.astype(pixels.dtype)
    return np.concatenate([result, pixels[..., colors.shape[2] :]], 2)


def has_tables(header: Mapping[str, object], channels: int) -> bool:
    """Whether the header has a profile of tables that fits this number of channels."""
    icc = header.get("icc")
    if not isinstance(icc, bytes):
        return False
    kind, tables = profile_kind(icc)
    return tables and (kind == b"RGB " or (kind == b"GRAY" and _color_count(channels) == 1))


def _color_count(channels: int) -> int:
    """The number of channels without alpha."""
    return channels - 1 + channels % 2


def pixels_in_srgb(pixels: NDArray[Any], header: dict[str, object]) -> NDArray[Any]:
    """Convert decoded pixels to sRGB, and remove a profile that no longer applies.

    An RGB profile with a matrix stays: the writer converts back to it.

    Args:
        pixels: ``(H, W, 1 or 3)``, uint8, uint16, or float32 in ``[0, 1]``.
        header: metadata of the decoded picture; ``space`` is removed from it.

    Returns:
        The pixels themselves where they are sRGB; else ``(H, W, 1 or 3)``, float32.
    """
    import numpy as np

    declared: Any = header.pop("space", None)
    space = None if declared is None else named_space(*declared)
    icc = header.get("icc")
    if isinstance(icc, bytes):
        kind, _ = profile_kind(icc)
        space = profile_space(icc)
        is_grey = kind == b"GRAY"
        # Decoders give grey with alpha of 16 bits as three equal channels.
        is_supported = not is_grey or bool((pixels[..., 1:] == pixels[..., :1]).all())
        if space is None or not is_supported:
            header.pop("icc")  # damaged, or it does not describe these pixels
            return pixels
        if is_grey or not (space.is_srgb or space.is_invertible):
            header.pop("icc")
    if space is None or space.is_srgb:
        return pixels
    if space.matrix is None:
        pixels = pixels[..., :1]
    elif pixels.shape[2] < len(space.curves):
        pixels = np.repeat(pixels, len(space.curves), 2)
    return space.to_srgb(pixels)


def space_of_header(header: Mapping[str, object]) -> ColorSpace | None:
    """The space of the header's profile, which a writer has to convert to; None for sRGB."""
    icc = header.get("icc")
    space = profile_space(icc) if isinstance(icc, bytes) else None
    return space if space is not None and space.is_invertible and not space.is_srgb else None


def convert_with_tables(image: PIL.Image.Image, icc: bytes) -> PIL.Image.Image | None:
    """Convert a picture of 8 bits to sRGB with littlecms; None if the profile is damaged."""
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return None


def _png_codes(path: Path) -> tuple[int, ...] | None:
    """Primaries, transfer, matrix and range of the chunk ``cICP``."""
    with path.open("rb") as file:
        file.seek(8)
        for _ in range(_MAX_CHUNKS):
            start = file.read(8)
            if len(start) < 8 or start[4:] == b"IDAT":
                return None
            length = int.from_bytes(start[:4], "big")
            if start[4:] == b"cICP":
                data = file.read(4)
                return tuple(data) if len(data) == 4 else None
            file.seek(length + 4, 1)
    return None


def _box_codes(path: Path) -> tuple[int, ...] | None:
    """Primaries, transfer and matrix of the first box ``colr`` with codes."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    place = head.find(_CODED)
    if place < 0 or place + 15 > len(head):
        return None
    return struct.unpack_from(">3H", head, place + len(_CODED))


def _png_gamma(info: Mapping[Any, Any]) -> SpaceArguments | None:
    """Return the space of ``gAMA`` and ``cHRM``; a missing one is that of sRGB."""
    gamma, places = info.get("gamma"), info.get("chromaticity")
    exponent = None
    # The value that sRGB is given stands for its curve.
    if isinstance(gamma, float) and 0.05 < gamma < 5 and abs(gamma - 0.45455) > 0.01:
        exponent = 1 / gamma
    if isinstance(places, tuple) and len(places) == 8 and min(places[1::2]) > 1e-3:
        white, primaries = places[:2], places[2:]
    elif exponent is None:
        return None
    else:
        white, primaries = (0.3127, 0.3290), (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
    return primaries, white, exponent


def _exif_space(exif: Callable[[], PIL.Image.Exif]) -> SpaceArguments | None:
    """Return Adobe RGB if EXIF names it, as "R03" or 2."""
    with contextlib.suppress(Exception):  # damaged EXIF causes errors of any class
        tags = exif()
        interoperability = tags.get_ifd(INTEROPERABILITY_IFD).get(1)
        if interoperability in ("R03", b"R03\0", "R03\0") or (
            tags.get_ifd(EXIF_IFD).get(COLOR_SPACE) == 2
        ):
            return ADOBE_RGB
    return None
