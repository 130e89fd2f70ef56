"""From a picture file to its pixels: upright, grey or RGB, with or without alpha.

Pillow reads, and checks what it reads to the end. It has no mode for colour of more than 8 bits:
those pixels come from OpenCV.
"""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.provenance import is_provenance, parse_provenance
from convnd.io.reading import check_positions, translate_errors
from convnd.io.silence import silence_stderr

if TYPE_CHECKING:
    import PIL.Image
    from numpy.typing import NDArray

__all__ = ["EXIF_IFD", "GPS_IFD", "USER_COMMENT", "Decoded", "decode", "image_provenance"]

# Decoders that the bytes may be handed to: no others, for some start programs (EPS).
_READABLE = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
_ANIMATED = {"PNG", "WEBP", "GIF", "AVIF"}  # not MPO: its further pictures are a camera's extras

# Tags of TIFF, and of EXIF, which is made of them.
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_ORIENTATION, _SAMPLES, _X_DENSITY, _Y_DENSITY, _PLANAR = 274, 277, 282, 283, 284
_DENSITY_UNIT, _EXTRA, _SAMPLE_FORMAT, _ICC = 296, 338, 339, 34675
EXIF_IFD, GPS_IFD, USER_COMMENT = 0x8769, 0x8825, 0x9286
# Description, make, model, time, artist, copyright. Not orientation, which is applied, and not
# sizes and offsets, which would be those of another file; the thumbnail would show the old picture.
_EXIF_KEPT = (270, 271, 272, 306, 315, 33432)
_EXIF_DROPPED = {0xA002, 0xA003, 0xA005, 0x927C, 0x9286}  # 0x9286: the comment is ours to write
# Bytes that one byte can become. Deflate packs at most 1032 into one; LZW, whose codes grow to 12
# bits, some 1300; a block of 64 pixels takes at least a bit in a JPEG; runs are of 255 in BMP and
# 128 in TIFF. WebP and AVIF have no such limit.
_PACKED = {"PNG": 1100, "JPEG": 1100, "MPO": 1100, "GIF": 1500, "BMP": 130}
_TIFF_PACKED = {1: 1, 5: 1500, 7: 1100, 8: 1100, 32773: 130, 32946: 1100}
# CCITT, LZMA, Zstandard and WebP have no such limit: pixels that their decoders may give.
_MAX_UNBOUNDED = 2**26
_MAX_SCANS = (
    500  # of a progressive JPEG, each of which touches all pixels; encoders write about ten
)
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MAX_PAGES = 1000
_BLOCK = 2**20

_LOCK = threading.Lock()
_NOWHERE = logging.NullHandler()


@dataclass(frozen=True)
class Decoded:
    """Upright pixels and what the writer gives back.

    Args:
        pixels: ``(H, W, C)``: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; uint8, uint16, or float32
            in ``[0, 1]``. Writable and contiguous.
        header: where the file has them ``icc``, ``exif``, ``dpi``, ``text``.
    """

    pixels: NDArray[Any]
    header: dict[str, object]


def decode(path: Path, max_pixels: int) -> Decoded:
    """Decode the one picture in a file.

    Raises:
        InputFileError: not a picture, damaged, animated, of several pages, of a kind that is not
            supported, or of more than ``max_pixels``.
        ResourceError: there is not enough memory for it.
    """
    with translate_errors(path, "a picture"), _pillow():
        with path.open("rb") as file:
            start = file.read(26)
        if start.startswith(_TIFF_STARTS):
            return _decode_tiff(path, max_pixels)
        return _decode_other(path, start, max_pixels)


def image_provenance(path: Path) -> dict[str, str]:
    """The record in a picture's text or user comment; its pixels are not decoded."""
    with _pillow(), _open(path) as image:
        text = {str(key): text for key, text in image.info.items() if isinstance(text, str)}
        comment = image.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT, b"")
    return parse_provenance(comment[8:]) if isinstance(comment, bytes) and comment else text


def _decode_other(path: Path, start: bytes, max_pixels: int) -> Decoded:
    with _open(path) as image:
        check_positions(path, (image.height, image.width), max_pixels)
        # A PNG's bit depth has its fixed place.
        depth = start[24] if image.format == "PNG" else 8
        if image.format in _PACKED:
            _check_held(path, image.height * image.width * depth, _PACKED[image.format])
        if image.format in ("JPEG", "MPO"):
            _check_scans(path)
        if image.format in _ANIMATED and getattr(image, "is_animated", False):
            raise InputFileError(
                f"read {path}: expected one picture, got an animation; save one frame of it"
            )
        image.load()  # to the end of the file: some of what follows is stored there
        header = _metadata(image.info, image.getexif)
        orientation = _orientation(image)
        pixels = _deep_pixels(path) if depth == 16 else _pixels(path, image, header)
    return Decoded(_upright(pixels, orientation), header)


def _decode_tiff(path: Path, max_pixels: int) -> Decoded:
    from PIL import Image

    with path.open("rb") as file:
        pages = _tiff_pages(file)
        file.seek(0)
        exif = Image.Exif()

        def load_exif() -> PIL.Image.Exif:
            exif.load_from_fp(file)
            return exif

        tags = pages[0]
        info = {"icc_profile": tags.get(_ICC)}
        if tags.get(_DENSITY_UNIT, 2) == 2 and _X_DENSITY in tags and _Y_DENSITY in tags:
            info["dpi"] = (tags[_X_DENSITY], tags[_Y_DENSITY])
        header = _metadata(info, load_exif)
    check_positions(path, (tags[_HEIGHT], tags[_WIDTH]), max_pixels)
    compression = tags.get(_COMPRESSION, 1)
    if compression in _TIFF_PACKED:
        bits = tags[_HEIGHT] * tags[_WIDTH] * max(tags.get(_BITS, (1,)))
        _check_held(path, bits, _TIFF_PACKED[compression])
    else:
        check_positions(path, (tags[_HEIGHT], tags[_WIDTH]), min(max_pixels, _MAX_UNBOUNDED))
    if any(not page.get(_SUBFILE, 0) & 1 for page in pages[1:]):  # bit 0: a smaller copy
        raise InputFileError(
            f"read {path}: expected one picture, got {len(pages)} pages; save one of them"
        )
    if max(tags.get(_BITS, (1,))) > 8:
        return Decoded(_deep_tiff_pixels(path, tags), header)
    with _open(path) as image, silence_stderr():
        image.load()  # applies the orientation itself
        return Decoded(_pixels(path, image, header), header)


def _check_scans(path: Path) -> None:
    """Refuse a JPEG of so many scans that decoding it takes minutes."""
    scans, last = 0, b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            # Within a scan, a zero follows each byte 0xFF.
            scans += (last + block).count(b"\xff\xda")
            last = block[-1:]
    if scans > _MAX_SCANS:
        raise InputFileError(
            f"read {path}",
            expected=f"a JPEG of at most {_MAX_SCANS} scans",
            got=f"{scans:,}",
            remedy="save it again",
        )


def _check_held(path: Path, bits: int, ratio: int) -> None:
    """Refuse pixels that no encoder squeezes into a file of this length; nothing is decoded yet.

    Args:
        path: the file.
        bits: of all pixels, in one channel.
        ratio: bytes that one byte of the file can become at most.
    """
    held = path.stat().st_size * ratio
    if bits > 8 * held:
        raise InputFileError(
            f"read {path}: expected at most {held:,} bytes of pixels in a file of its length, got "
            f"{bits // 8:,}; the file is cut short or damaged"
        )


def _open(path: Path) -> PIL.Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        Image.init()  # otherwise only the commonest formats are known
        return Image.open(path, formats=[kind for kind in _READABLE if kind in Image.OPEN])
    except UnidentifiedImageError as error:
        raise InputFileError(
            f"read {path}: expected a picture ({', '.join(_READABLE)}), got content that is none "
            "of these, or a damaged one; check the file"
        ) from error


def _pixels(path: Path, image: PIL.Image.Image, header: dict[str, object]) -> NDArray[Any]:
    """Pixels of a picture of at most 8 bits; drops a profile that no longer fits them."""
    import numpy as np

    if image.mode in {"I", "F", "LAB"} or image.mode.startswith("I;"):
        raise InputFileError(
            f"read {path}: expected grey, RGB, CMYK or palette pixels, got pixels of kind "
            f"'{image.mode}'; convert it to RGB"
        )
    icc = header.get("icc")
    space = icc[16:20] if isinstance(icc, bytes) else b""
    if space != b"RGB ":
        header.pop("icc", None)
        if (image.mode, space) in {("CMYK", b"CMYK"), ("L", b"GRAY")}:
            image = _to_srgb(image, icc)
    if image.has_transparency_data:
        # Pillow knows a way back from premultiplied colours, one step at a time.
        straight = image.convert("LA") if image.mode == "La" else image
        image = straight.convert("LA" if straight.mode == "LA" else "RGBA")
    else:
        image = image.convert("L" if image.mode in {"1", "L"} else "RGB")
    pixels = np.array(image)
    return pixels.reshape(*pixels.shape[:2], -1)


def _to_srgb(image: PIL.Image.Image, icc: object) -> PIL.Image.Image:
    from PIL import ImageCms

    assert isinstance(icc, bytes)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image  # a damaged profile: Pillow's plain conversion follows
    return image if converted is None else converted


def _deep_pixels(path: Path) -> NDArray[Any]:
    """Pixels of more than 8 bits, through OpenCV, in R, G, B order."""
    import cv2
    import numpy as np

    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        with silence_stderr():
            decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if decoded is None:  # OpenCV's way to say no
        raise InputFileError(
            f"read {path}: expected a whole picture, got a damaged or unsupported one; "
            "save it again"
        )
    if decoded.ndim == 2:
        return decoded[..., None]
    return np.ascontiguousarray(decoded[..., [2, 1, 0, 3][: decoded.shape[2]]])


def _deep_tiff_pixels(path: Path, tags: Mapping[int, Any]) -> NDArray[Any]:
    import numpy as np

    bits, samples = set(tags[_BITS]), tags.get(_SAMPLES, 1)
    kinds, photometric = set(tags.get(_SAMPLE_FORMAT, (1,))), tags.get(_PHOTOMETRIC)
    if (
        (bits, kinds) not in (({16}, {1}), ({32}, {3}))
        or (photometric, samples) not in {(0, 1), (1, 1), (2, 3), (2, 4)}
        or (samples > 1 and tags.get(_PLANAR, 1) != 1)
    ):
        raise InputFileError(
            f"read {path}: expected a TIFF of 8 or 16 bits or float32, grey or RGB(A), planes "
            f"interleaved, got {sorted(bits)[:4]} bits, {samples} samples, sample format "
            f"{sorted(kinds)[:4]}, photometric {photometric}; convert it"
        )
    pixels = _deep_pixels(path)  # upright already
    white = 1.0 if pixels.dtype == np.float32 else 65535
    if pixels.dtype == np.float32 and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise InputFileError(
            f"read {path}: expected float values from 0 to 1, got {pixels.min():g} to "
            f"{pixels.max():g}; rescale them"
        )
    if photometric == 0:  # white is zero
        pixels = (white - pixels).astype(pixels.dtype)
    if samples == 4 and tags.get(_EXTRA, (2,))[0] == 1:  # colours premultiplied by alpha
        alpha = np.maximum(pixels[..., 3:].astype(np.float64), 1e-9)
        straight = np.minimum(pixels[..., :3] / alpha, 1) * white
        pixels[..., :3] = straight if white == 1 else np.rint(straight)
    return pixels


def _tiff_pages(file: IO[bytes]) -> list[Mapping[int, Any]]:
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


def _metadata(info: Mapping[Any, Any], exif: Callable[[], PIL.Image.Exif]) -> dict[str, object]:
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
        # XMP and ImageMagick's raw profiles repeat the orientation.
        if isinstance(key, str)
        and isinstance(value, str)
        and not key.startswith(_NOT_TEXT)
        and not is_provenance(key, value)
    }
    kept = _kept_exif(exif)
    return header | ({"text": text} if text else {}) | ({"exif": kept} if kept else {})


_NOT_TEXT = ("XML:", "Raw profile", "exif", "xmp")


def _kept_exif(exif: Callable[[], PIL.Image.Exif]) -> bytes:
    """The part of the EXIF record that stays true of another picture of the scene."""
    from PIL import Image

    # Of any class are the errors that a damaged record causes; it is no reason to refuse the
    # picture.
    with contextlib.suppress(Exception):
        source, kept = exif(), Image.Exif()
        for tag in _EXIF_KEPT:
            if tag in source:
                kept[tag] = source[tag]
        for tag in (EXIF_IFD, GPS_IFD):
            part = source.get_ifd(tag)
            part = {key: value for key, value in part.items() if key not in _EXIF_DROPPED}
            if part:
                kept[tag] = part
        return kept.tobytes() if len(kept) else b""
    return b""


def _orientation(image: PIL.Image.Image) -> int:
    with contextlib.suppress(Exception):  # as above
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Undo a camera's rotation: EXIF 2.3, tag 0x0112, "row 0 is visually …"."""
    import numpy as np

    if orientation in (5, 6, 7, 8):  # rows and columns are exchanged
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


@contextlib.contextmanager
def _pillow() -> Iterator[None]:
    """Pillow's warnings off, and its size limit: ours is checked between header and pixels.

    Both are settings of the whole process, so one thread at a time changes them.
    """
    from PIL import Image

    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, logger = Image.MAX_IMAGE_PIXELS, logging.getLogger("PIL")
        Image.MAX_IMAGE_PIXELS = None
        logger.addHandler(_NOWHERE)  # without any, logging would print to the screen
        try:
            yield
        finally:
            logger.removeHandler(_NOWHERE)
            Image.MAX_IMAGE_PIXELS = before
