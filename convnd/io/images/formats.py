"""Pictures: PNG, JPEG, WebP, TIFF, BMP, AVIF, and for reading GIF and HEIF.

A picture is a grid of shape ``(1, 3, H, W)`` in R, G, B of sRGB, float32. The values are the codes
of the file divided by the largest code, in ``[0, 1]``. Other colour spaces are converted on
reading, in float: those of ICC profiles, of PNG's ``gAMA``, ``cHRM`` and ``cICP``, of AVIF's codes
and of EXIF; colours outside sRGB are then below 0 or above 1. The writer converts back to an RGB
profile of a matrix and curves, and embeds it; it writes sRGB where the file had another profile, or
where the format holds none. Palettes, greyscale (three equal channels) and CMYK (by its profile, if
any) are converted on reading. The EXIF orientation is applied. Transparency is not among the
values: the header keeps it, and it is written back, resized with the grid.

Writing clamps to ``[0, 1]`` and rounds to the nearest code, in the depth of the input if the format
has it (PNG 8 and 16 bits; TIFF those and float; the others 8). A grid of one channel is written in
grey. In formats without transparency (JPEG, BMP), the background is white.
"""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import NumericalError, OutputFileError, ShapeError
from convnd.grid import Grid
from convnd.io.images.color import profile_space
from convnd.io.images.decoding import Decoded, decode_image
from convnd.io.images.metadata import exif_with_provenance
from convnd.io.images.profile import pixels_in_srgb, space_of_header
from convnd.io.images.request import request_pixels, request_provenance
from convnd.io.reading import size_limit, translate_errors
from convnd.io.registry import Format

if TYPE_CHECKING:
    import PIL.Image
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["FORMATS", "MAX_PIXELS", "grid_of_image", "grid_of_pixels", "opacity", "read_image"]

MAX_PIXELS = 178_956_970  # the limit of Pillow: half a GiB as 8-bit RGB
DEFAULT_QUALITY = 95  # higher values make files larger, with no visible difference
_LARGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "AVIF": 65_536}
_NO_ALPHA = {"JPEG", "BMP"}
_NO_PROFILE = {"BMP"}
_WHITE = {8: 255, 16: 65535, 32: 1}
_DEPTHS = {"PNG": (8, 16), "TIFF": (8, 16, 32)}  # of formats with more than 8 bits


def read_image(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read a picture; its content selects the format, not its suffix.

    Args:
        path: an existing file.
        max_pixels: largest ``H · W``, checked before decoding; None for `MAX_PIXELS`.

    Returns:
        Values ``(1, 3, H, W)``. The header holds metadata for the writer: ``depth`` (8, 16, or 32
        for float), ``grey`` (whether the file was grey), and, if the file has them, ``alpha``
        (``(1, 1, H, W)`` in ``[0, 1]``), ``icc``, ``exif`` (without orientation and thumbnail),
        ``dpi``, ``text``, and ``notes`` (messages about lost precision).

    Raises:
        InputFileError: not a picture, damaged, animated, of several pages, or too large.
        ResourceError: there is not enough memory for it.
    """
    with request_pixels(path, size_limit(max_pixels, MAX_PIXELS)) as receive:
        import torch  # noqa: F401 - while the child decodes

        decoded = receive()
    with translate_errors(path, "a picture"):
        return _grid(decoded)


def grid_of_pixels(pixels: NDArray[Any]) -> Grid:
    """Return the grid of sRGB pixels ``(H, W, C)`` as in `Decoded`, uint8 or uint16."""
    return _grid(Decoded(pixels, {}))


def grid_of_image(image: PIL.Image.Image) -> Grid:
    """Return the grid of a picture that Pillow has opened, as `read_image` does for a file.

    Its orientation in EXIF is applied, its profile is converted, and its transparency and 16 bits
    of grey are kept.

    Raises:
        InputFileError: its pixels are of an unsupported kind.
    """
    return _grid(decode_image(image))


def _grid(decoded: Decoded) -> Grid:
    import numpy as np
    import torch

    pixels = np.asarray(decoded.pixels)
    depth, samples = 8 * pixels.itemsize, pixels.shape[2]
    header = decoded.header | {"depth": depth, "grey": samples < 3}

    def planes(codes: NDArray[Any]) -> Tensor:
        # A view of codes in [0, 1] would keep them in memory beside the grid's values.
        scaled = torch.from_numpy(codes).permute(2, 0, 1)[None]
        return scaled.to(torch.float32, memory_format=torch.contiguous_format)

    if samples % 2 == 0:
        header["alpha"] = planes(pixels[..., -1:]).div_(_WHITE[depth])
        pixels = pixels[..., :-1]
    colors = pixels_in_srgb(pixels, header)
    values = planes(colors)
    if colors is pixels:
        values = values.div_(_WHITE[depth])
    values = values.expand(1, 3, -1, -1).contiguous()
    return Grid(
        values=values, units=("px", "px"), axes=("y", "x"), channels=("R", "G", "B"), header=header
    )


def opacity(grid: Grid) -> Tensor | None:
    """The opacity of a picture's pixels, ``(1, 1, H, W)`` in ``[0, 1]``.

    It is resized if the picture was.

    Returns:
        None if the picture has no transparency.
    """
    import torch
    from torch.nn import functional

    mask = grid.header.get("alpha")
    if not isinstance(mask, torch.Tensor) or tuple(mask.shape[2:]) == grid.shape:
        return mask if isinstance(mask, torch.Tensor) else None
    resized = functional.interpolate(mask, size=grid.shape, mode="bilinear", antialias=True)
    return resized.clamp(0, 1)


def _write_image(
    kind: str, path: Path, grid: Grid, *, provenance: Mapping[str, str], quality: int | None
) -> None:
    """Write a picture with Pillow's encoder ``kind``; TIFF and 16-bit PNG have one of our own."""
    largest = _LARGEST_SIDE.get(kind, 2**31 - 1)
    if max(grid.shape) > largest:
        height, width = grid.shape
        raise OutputFileError(
            "write",
            expected=f"at most {largest} pixels a side for {kind}",
            got=f"{width} × {height}",
            remedy="write .png or .tif",
        )
    header = _written_header(kind, grid)
    grid = dataclasses.replace(grid, header=header)
    depths = _DEPTHS.get(kind, (8,))
    depth = header.get("depth", 8)
    depth = min(depth, depths[-1]) if isinstance(depth, int) and depth in _WHITE else 8
    pixels = _codes(grid, depth, alpha=kind not in _NO_ALPHA)
    exif = exif_with_provenance(header.get("exif"), {} if kind == "PNG" else provenance)
    if kind == "TIFF":
        _save_tiff(path, pixels, header, exif)
        return
    options: dict[str, Any] = {"dpi": header.get("dpi")} if kind != "WEBP" else {}
    if "icc" in header:
        options["icc_profile"] = header["icc"]
    if len(exif):
        options["exif"] = exif.tobytes()
    lossy = DEFAULT_QUALITY if quality is None else quality
    if kind == "PNG":
        options["pnginfo"] = _text_chunks(header.get("text"), provenance)
    elif kind == "JPEG":
        options |= {"quality": lossy, "subsampling": "4:4:4"}
    elif kind == "WEBP":
        options |= {"quality": lossy, "lossless": lossy == 100, "exact": True}
    elif kind == "AVIF":
        options |= {"quality": lossy, "subsampling": "4:4:4", "speed": 8}
    options = {key: value for key, value in options.items() if value is not None}
    if pixels.itemsize == 2:
        _save_deep_png(path, pixels, options)
    else:
        _image(pixels).save(path, format=kind, **options)


def _written_header(kind: str, grid: Grid) -> dict[str, object]:
    """Return the header without a profile that the format or the pixels cannot have."""
    header = dict(grid.header)
    icc = header.get("icc")
    space = profile_space(icc) if isinstance(icc, bytes) else None
    is_fitting = space is not None and space.matrix is not None and grid.values.shape[1] == 3
    if kind in _NO_PROFILE or space is None or not is_fitting or not space.is_invertible:
        header.pop("icc", None)
    return header


def _codes(grid: Grid, depth: int, *, alpha: bool) -> NDArray[Any]:
    """Return the codes of a file, ``(H, W, C)``; ``alpha`` adds the alpha of the header."""
    import torch

    values = grid.values.detach().to("cpu", torch.float32)
    if values.shape[1] not in (1, 3):
        raise ShapeError(
            "write",
            expected="1 or 3 channels for a picture",
            got=values.shape[1],
            remedy="choose the channels to show",
        )
    if not bool(values.isfinite().all()):
        raise NumericalError(
            "write",
            expected="finite values for a picture",
            got="NaN or infinity",
            remedy="use a smaller learning rate or check the input",
        )
    space = space_of_header(grid.header)
    if space is not None:
        codes = space.from_srgb(values[0].permute(1, 2, 0).numpy())
        values = torch.from_numpy(codes).permute(2, 0, 1)[None]
    values = values.clamp(0, 1)
    mask = opacity(grid)
    if mask is not None:
        values = torch.cat([values, mask], 1) if alpha else values * mask + (1 - mask)
    if depth < 32:
        values = values.mul(_WHITE[depth]).round_()
        values = values.to(torch.uint8 if depth == 8 else torch.uint16)
    return values[0].permute(1, 2, 0).contiguous().numpy()


def _image(pixels: NDArray[Any]) -> PIL.Image.Image:
    from PIL import Image

    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _text_chunks(text: object, provenance: Mapping[str, str]) -> Any:
    from PIL import PngImagePlugin

    chunks = PngImagePlugin.PngInfo()
    entries = dict(text) if isinstance(text, Mapping) else {}
    for key, value in (entries | dict(provenance)).items():
        chunks.add_text(key, value)
    return chunks


def _save_deep_png(path: Path, pixels: NDArray[Any], options: Mapping[str, Any]) -> None:
    """Write a 16-bit PNG: OpenCV encodes the pixels, and Pillow the other chunks."""
    import cv2
    import numpy as np

    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3], 2: [0, 0, 0, 1]}[pixels.shape[2]]
    is_encoded, encoded = cv2.imencode(".png", np.ascontiguousarray(pixels[..., order]))
    if not is_encoded:
        raise OutputFileError(
            "write",
            expected=(f"to encode {pixels.shape[1]} × {pixels.shape[0]} pixels as a 16-bit PNG"),
            got="a refusal from OpenCV",
            remedy="write .tif",
        )
    small = io.BytesIO()
    _image(pixels[:1, :1, : 3 if len(order) > 1 else 1].astype(np.uint8)).save(
        small, format="PNG", **options
    )
    header_end = 8 + 25  # the signature and the first chunk, both of fixed length
    chunks = small.getvalue()[header_end : small.getvalue().index(b"IDAT") - 4]
    with path.open("wb") as file:
        file.write(encoded[:header_end].tobytes() + chunks)
        file.write(encoded[header_end:].data)


def _save_tiff(
    path: Path, pixels: NDArray[Any], header: Mapping[str, object], exif: PIL.Image.Exif
) -> None:
    """Write one deflated strip; integers as differences along the row, which compress better.

    tifffile would not write the EXIF directories of the input.
    """
    import zlib

    import numpy as np
    from PIL import TiffImagePlugin

    height, width, samples = pixels.shape
    floating = pixels.dtype == np.float32
    rows = pixels
    if not floating:
        rows = pixels.copy()
        rows[:, 1:] -= pixels[:, :-1]  # modulo 2^bits, as the predictor wants it
    strip = zlib.compress(np.ascontiguousarray(rows, rows.dtype.newbyteorder("<")).data, 6)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag in exif:
        tags[tag] = exif[tag]
    colours = samples - 1 + samples % 2
    values: dict[int, Any] = {
        256: width,
        257: height,
        258: (8 * pixels.itemsize,) * samples,
        259: 8,  # deflate
        262: 2 if colours == 3 else 1,  # RGB, black is zero
        273: 0,  # the strip's offset from the end of the tags, which Pillow adds
        277: samples,
        278: height,
        279: len(strip),
        317: 1 if floating else 2,  # none, horizontal differences
        339: (3 if floating else 1,) * samples,
    }
    if colours != samples:
        values[338] = (2,)  # alpha, colours not multiplied by it
    dpi, icc = header.get("dpi"), header.get("icc")
    if isinstance(dpi, tuple):
        values |= {282: dpi[0], 283: dpi[1], 296: 2}
    if isinstance(icc, bytes):
        values[34675] = icc
    for tag, value in values.items():
        tags[tag] = value
    with path.open("wb") as file:
        tags.save(file)
        file.write(strip)


def _format(kind: str, *suffixes: str, writes: bool = True) -> Format:
    return Format(
        name=kind,
        suffixes=suffixes,
        spatial_dims=2,
        read=read_image,
        write=functools.partial(_write_image, kind) if writes else None,
        unsupported_metadata=_lost(kind),
        read_provenance=None if kind in ("BMP", "GIF", "HEIF") else request_provenance,
    )


def _lost(kind: str) -> tuple[str, ...]:
    """What a picture has and the format does not store, see `convnd.io.lost_metadata`."""
    most = _DEPTHS.get(kind, (8,))[-1]
    bits = (f"more than {most} bits",) if most < 32 else ()
    return (*(("transparency",) if kind in _NO_ALPHA else ()), *bits)


FORMATS = (
    _format("PNG", ".png"),
    _format("JPEG", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg"),
    _format("WEBP", ".webp"),
    _format("TIFF", ".tif", ".tiff"),
    _format("BMP", ".bmp"),
    _format("AVIF", ".avif"),
    _format("GIF", ".gif", writes=False),
    _format("HEIF", ".heic", ".heif", ".hif", writes=False),
)
