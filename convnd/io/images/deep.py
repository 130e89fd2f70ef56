"""Pixels of more than 8 bits, and the pages of TIFF files.

Pillow has no mode for colours of more than 8 bits, so OpenCV decodes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.silence import silence_stderr

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Tag", "add_transparent_value", "deep_pixels", "deep_tiff_pixels", "tiff_pages"]

_MAX_PAGES = 1000


class Tag(IntEnum):
    """Tags of TIFF, which EXIF shares."""

    SUBFILE = 254
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    ORIENTATION = 274
    SAMPLES = 277
    X_DENSITY = 282
    Y_DENSITY = 283
    PLANAR = 284
    DENSITY_UNIT = 296
    EXTRA = 338
    SAMPLE_FORMAT = 339
    ICC = 34675


def deep_pixels(path: Path) -> NDArray[Any]:
    """Decode pixels of more than 8 bits with OpenCV, ``(H, W, C)`` in the order R, G, B, alpha."""
    import cv2
    import numpy as np

    logging: Any = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging  # OpenCV 4 or 5
    level = logging.getLogLevel()
    logging.setLogLevel(0)  # silent
    try:
        with silence_stderr():
            decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    finally:
        logging.setLogLevel(level)
    if decoded is None:  # OpenCV raises no errors
        raise InputFileError(
            f"read {path}",
            expected="a whole picture",
            got="a damaged or unsupported one",
            remedy="save it again",
        )
    if decoded.ndim == 2:
        return decoded[..., None]
    return np.ascontiguousarray(decoded[..., [2, 1, 0, 3][: decoded.shape[2]]])


def add_transparent_value(pixels: NDArray[Any], info: Mapping[Any, Any]) -> NDArray[Any]:
    """Add alpha to 16-bit grey whose file names one transparent value, read by Pillow."""
    import numpy as np

    value = info.get("transparency")
    if pixels.shape[2] != 1 or not isinstance(value, int):
        return pixels
    alpha = np.where(pixels == value, 0, 65535).astype(pixels.dtype)
    return np.concatenate([pixels, alpha], 2)


def deep_tiff_pixels(path: Path, tags: Mapping[int, Any]) -> NDArray[Any]:
    """Decode a TIFF of 16 bits or float32; black is 0, and colours are not premultiplied."""
    import numpy as np

    bits, samples = set(tags[Tag.BITS]), tags.get(Tag.SAMPLES, 1)
    kinds, photometric = set(tags.get(Tag.SAMPLE_FORMAT, (1,))), tags.get(Tag.PHOTOMETRIC)
    if (
        (bits, kinds) not in (({16}, {1}), ({32}, {3}))
        or (photometric, samples) not in {(0, 1), (1, 1), (2, 3), (2, 4)}
        or (samples > 1 and tags.get(Tag.PLANAR, 1) != 1)
    ):
        raise InputFileError(
            f"read {path}",
            expected=("a TIFF of 8 or 16 bits or float32, grey or RGB(A), planes interleaved"),
            got=(
                f"{sorted(bits)[:4]} bits, {samples} samples, sample format "
                f"{sorted(kinds)[:4]}, photometric {photometric}"
            ),
            remedy="convert it",
        )
    pixels = deep_pixels(path)  # upright already
    white = 1.0 if pixels.dtype == np.float32 else 65535
    if pixels.dtype == np.float32 and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise InputFileError(
            f"read {path}",
            expected="float values from 0 to 1",
            got=f"{pixels.min():g} to {pixels.max():g}",
            remedy="rescale them",
        )
    if photometric == 0:  # white is zero
        pixels = (white - pixels).astype(pixels.dtype)
    if samples == 4 and tags.get(Tag.EXTRA, (2,))[0] == 1:  # colours premultiplied by alpha
        alpha = np.maximum(pixels[..., 3:].astype(np.float64), 1e-9)
        straight = np.minimum(pixels[..., :3] / alpha, 1) * white
        pixels[..., :3] = straight if white == 1 else np.rint(straight)
    return pixels


def tiff_pages(file: IO[bytes]) -> list[Mapping[int, Any]]:
    """Read the tags of each page of a TIFF."""
    from PIL import TiffImagePlugin

    start = file.read(8)
    if b"+" in start[2:4]:  # BigTIFF
        start += file.read(8)
    pages: list[Mapping[int, Any]] = []
    directory = TiffImagePlugin.ImageFileDirectory_v2(start)
    while directory.next and len(pages) < _MAX_PAGES:
        offset = directory.next
        file.seek(offset)
        directory = TiffImagePlugin.ImageFileDirectory_v2(start)
        directory.next = 0  # stays when the directory cannot be read
        directory.load(file)
        pages.append(directory)
    return pages
