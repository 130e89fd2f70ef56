"""Decodes picture files: upright pixels, grey or RGB, with or without alpha.

Pillow decodes files and checks them to their end; `convnd.io.images.deep` decodes more than 8 bits.
Both run in the child process of `convnd.io.images.request`.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.conversions import recognized_format
from convnd.io.images.deep import (
    Tag,
    add_transparent_value,
    deep_pixels,
    deep_tiff_pixels,
    tiff_pages,
)
from convnd.io.images.limits import PACKED, TIFF_PACKED, check_held, check_scans
from convnd.io.images.metadata import (
    EXIF_IFD,
    USER_COMMENT,
    orientation_of,
    picture_metadata,
    to_upright,
)
from convnd.io.images.profile import (
    apply_tables,
    convert_with_tables,
    declared_space,
    has_tables,
    known_space,
)
from convnd.io.provenance import parse_provenance
from convnd.io.reading import check_positions, import_optional, translate_errors
from convnd.io.silence import silence_stderr

if TYPE_CHECKING:
    import PIL.Image
    from numpy.typing import NDArray

__all__ = ["Decoded", "decode", "decode_image", "image_provenance"]

# The only decoders that get the bytes of a file; some others start programs (EPS).
_READABLE = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF")
# The part of Pillow that decodes files with such a start. All parts take as long to load as Pillow.
_PLUGINS = {
    b"\x89PNG": "Png", b"\xff\xd8": "Jpeg", b"RIFF": "WebP", b"II": "Tiff", b"MM": "Tiff",
    b"BM": "Bmp", b"GIF8": "Gif",
}  # fmt: skip
_ANIMATED = {"PNG", "WEBP", "GIF", "AVIF"}  # further pictures in MPO are extras

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_STILL = "save one frame of it, or take it as a video: convnd stylize-video, evaluate --dim 3"
_START = 32  # bytes that tell a format
# Methods of `PIL.Image.Image.transpose` (``PIL.Image.Transpose``) that undo an orientation of EXIF.
_TRANSPOSED: Mapping[int, Any] = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_MAX_TEXT = 2**23  # bytes of all compressed texts in a PNG

_LOCK = threading.Lock()
_NOWHERE = logging.NullHandler()


@dataclass(frozen=True)
class Decoded:
    """Upright pixels, and metadata for the writer.

    Args:
        pixels: ``(H, W, C)``: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; uint8, uint16, or float32
            in ``[0, 1]``. Contiguous; a memoryview where NumPy was not needed.
        header: the metadata that the file has, under ``icc``, ``exif``, ``dpi`` and ``text``;
            ``space``, arguments of `convnd.io.images.color.named_space`, if the file declares a
            colour space other than sRGB without a profile; and ``notes``, messages about lost
            precision.
    """

    pixels: NDArray[Any] | memoryview
    header: dict[str, object]


def decode(
    path: Path, max_pixels: int, reserve_memory: Callable[[int], None] = lambda _: None
) -> Decoded:
    """Decode the one picture in a file.

    Args:
        path: an existing file.
        max_pixels: largest ``H · W``.
        reserve_memory: is called with the number of bytes that decoding will need.

    Raises:
        InputFileError: not a picture, damaged, animated, of several pages, of an unsupported kind,
            or of more than ``max_pixels``.
        ResourceError: there is not enough memory for it.
    """
    with translate_errors(path, "a picture"), _pillow():
        with path.open("rb") as file:
            start = file.read(26)
        if start.startswith(_TIFF_STARTS):
            return _decode_tiff(path, max_pixels, reserve_memory)
        return _decode_other(path, start, max_pixels, reserve_memory)


def decode_image(image: PIL.Image.Image) -> Decoded:
    """Take pixels and metadata of a picture that Pillow has opened, as `decode` does of a file.

    Raises:
        InputFileError: its pixels are of an unsupported kind.
    """
    import numpy as np

    name = Path("picture")
    header = picture_metadata(image.info, image.getexif)
    if image.format not in (None, "PNG"):
        header.pop("text", None)  # notes of Pillow's decoder
    if image.mode.startswith("I;16"):
        pixels = add_transparent_value(np.array(image).astype(np.uint16)[..., None], image.info)
    else:
        pixels = _to_array(_with_plain_mode(name, image, header))
    if "icc" not in header:
        header |= known_space(image)
    return Decoded(to_upright(apply_tables(pixels, header), orientation_of(image)), header)


def image_provenance(path: Path) -> dict[str, str]:
    """Read provenance from the text or user comment of a picture, without decoding its pixels."""
    with _pillow(), _open(path) as image:
        text = {str(key): text for key, text in image.info.items() if isinstance(text, str)}
        comment = image.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT, b"")
    return parse_provenance(comment[8:]) if isinstance(comment, bytes) and comment else text


def _decode_other(
    path: Path, start: bytes, max_pixels: int, reserve_memory: Callable[[int], None]
) -> Decoded:
    with _open(path) as image:
        check_positions(path, (image.height, image.width), max_pixels)
        # The bit depth of a PNG has a fixed position.
        depth = start[24] if image.format == "PNG" else 8
        ratio = PACKED.get(str(image.format))
        reserve_memory(check_held(path, image.height * image.width, depth, ratio))
        if image.format in ("JPEG", "MPO"):
            check_scans(path, image.height * image.width)
        if image.format in _ANIMATED and getattr(image, "is_animated", False):
            raise InputFileError(
                f"read {path}", expected="one picture", got="an animation", remedy=_STILL
            )
        image.load()  # to the end of the file, where some of the metadata is
        header = picture_metadata(image.info, image.getexif)
        header |= declared_space(path, image, header)
        orientation = orientation_of(image)
        if depth != 16:
            return _decoded(_with_plain_mode(path, image, header), header, orientation)
        pixels = add_transparent_value(deep_pixels(path), image.info)
        return Decoded(to_upright(apply_tables(pixels, header), orientation), header)


def _decode_tiff(path: Path, max_pixels: int, reserve_memory: Callable[[int], None]) -> Decoded:
    from PIL import Image

    with path.open("rb") as file:
        pages = tiff_pages(file)
        file.seek(0)
        exif = Image.Exif()

        def load_exif() -> PIL.Image.Exif:
            exif.load_from_fp(file)
            return exif

        tags = pages[0]
        info = {"icc_profile": tags.get(Tag.ICC)}
        if tags.get(Tag.DENSITY_UNIT, 2) == 2 and Tag.X_DENSITY in tags and Tag.Y_DENSITY in tags:
            info["dpi"] = (tags[Tag.X_DENSITY], tags[Tag.Y_DENSITY])
        header = picture_metadata(info, load_exif)
    check_positions(path, (tags[Tag.HEIGHT], tags[Tag.WIDTH]), max_pixels)
    pixels, depth = tags[Tag.HEIGHT] * tags[Tag.WIDTH], max(tags.get(Tag.BITS, (1,)))
    ratio = TIFF_PACKED.get(tags.get(Tag.COMPRESSION, 1))
    reserve_memory(check_held(path, pixels, depth, ratio))
    if any(not page.get(Tag.SUBFILE, 0) & 1 for page in pages[1:]):  # bit 0: a smaller copy
        raise InputFileError(
            f"read {path}",
            expected="one picture",
            got=f"{len(pages)} pages",
            remedy="save one of them",
        )
    if max(tags.get(Tag.BITS, (1,))) > 8:
        return Decoded(apply_tables(deep_tiff_pixels(path, tags), header), header)
    with _open(path) as image, silence_stderr():
        # With its name, Pillow maps the file, and exchanges width and height before it reads.
        unnamed: Any = image
        unnamed.filename = ""
        image.load()  # applies the orientation itself
        return _decoded(_with_plain_mode(path, image, header), header)


def _decoded(image: PIL.Image.Image, header: dict[str, object], orientation: int = 1) -> Decoded:
    """Return upright 8-bit pixels without NumPy, whose import would double the time."""
    channels = len(image.getbands())
    if has_tables(header, channels):
        return Decoded(to_upright(apply_tables(_to_array(image), header), orientation), header)
    if orientation in _TRANSPOSED:
        image = image.transpose(_TRANSPOSED[orientation])
    shape = [image.height, image.width, channels]
    return Decoded(memoryview(image.tobytes()).cast("B", shape), header)


def _to_array(image: PIL.Image.Image) -> NDArray[Any]:
    import numpy as np

    pixels = np.array(image)
    return pixels.reshape(*pixels.shape[:2], -1)


def _load_plugin(start: bytes) -> None:
    """Load the part of Pillow that decodes files with this start, if there is one."""
    names = [name for prefix, name in _PLUGINS.items() if start.startswith(prefix)]
    if start[4:8] == b"ftyp":
        names = ["Avif"]
    for name in names:
        with contextlib.suppress(ImportError):  # a Pillow without that library
            plugin: Any = importlib.import_module(f"PIL.{name}ImagePlugin")
            if name == "Png":  # otherwise 64 MiB, in which a wide character takes four times more
                plugin.MAX_TEXT_MEMORY = _MAX_TEXT


def _open(path: Path) -> PIL.Image.Image:
    from PIL import Image, UnidentifiedImageError

    with path.open("rb") as file:
        start = file.read(_START)
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS:
        heif = import_optional("pillow_heif", f"read {path}: HEIC", extra="pictures")
        heif.register_heif_opener(thumbnails=False)
    try:
        _load_plugin(start)
        return Image.open(path, formats=[kind for kind in _READABLE if kind in Image.OPEN])
    except UnidentifiedImageError as error:
        recognized = recognized_format(start)
        if recognized is not None:
            raise InputFileError(
                f"read {path}",
                expected=f"a picture ({', '.join(_READABLE)})",
                got=recognized[0],
                remedy=recognized[1],
            ) from error
        raise InputFileError(
            f"read {path}",
            expected=f"a picture ({', '.join(_READABLE)})",
            got="content that is none of these, or a damaged one",
            remedy="check the file",
        ) from error


def _with_plain_mode(
    path: Path, image: PIL.Image.Image, header: dict[str, object]
) -> PIL.Image.Image:
    """Convert to L, LA, RGB or RGBA; CMYK by its ICC profile, which is then removed."""
    if image.mode in {"I", "F", "LAB"} or image.mode.startswith("I;"):
        raise InputFileError(
            f"read {path}",
            expected="grey, RGB, CMYK or palette pixels",
            got=f"pixels of kind '{image.mode}'",
            remedy="convert it to RGB",
        )
    if image.mode == "CMYK":
        icc = header.pop("icc", None)
        if isinstance(icc, bytes) and icc[16:20] == b"CMYK":
            image = convert_with_tables(image, icc) or image
    if image.has_transparency_data:
        # Pillow converts premultiplied colours in two steps only.
        straight = image.convert("LA") if image.mode == "La" else image
        return straight.convert("LA" if straight.mode == "LA" else "RGBA")
    return image.convert("L" if image.mode in {"1", "L"} else "RGB")


@contextlib.contextmanager
def _pillow() -> Iterator[None]:
    """Disable warnings and the size limit of Pillow: ours is checked before pixels are decoded.

    Both are settings of the whole process, so that only one thread at a time may change them.
    """
    from PIL import Image

    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, logger = Image.MAX_IMAGE_PIXELS, logging.getLogger("PIL")
        Image.MAX_IMAGE_PIXELS = None
        logger.addHandler(_NOWHERE)  # without a handler, logging would print to stderr
        try:
            yield
        finally:
            logger.removeHandler(_NOWHERE)
            Image.MAX_IMAGE_PIXELS = limit
