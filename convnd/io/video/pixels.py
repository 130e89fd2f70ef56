"""Turns a decoded video frame into upright R, G, B, as players show it.

FFmpeg's scaler converts frames of 8 bits. For deeper ones it gives wrong colours (4:2:0 and 4:4:0
to 16-bit RGB), and it does not support YCgCo. Such frames are only brought to 4:4:4 of their own
depth by the scaler; the matrix is applied here.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from convnd.errors import InputFileError
from convnd.io.reading import import_optional
from convnd.io.video.types import ColorTags, transparency_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "SCALER_FLAGS",
    "SCALER_MATRICES",
    "Orientation",
    "matrix_code",
    "open_container",
    "orientation",
    "pyav",
    "rgb_pixels",
]

SCALER_FLAGS = 2 | 0x2000 | 0x40000
"""Bilinear, chroma for every pixel, accurate rounding: without these flags, shortcuts of the scaler
darken each picture by more than one code, when it is read and when it is written."""

SCALER_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
"""From codes of ISO/IEC 23091-4 to codes of the scaler."""

_FORMATS = "mov,matroska,avi,gif,apng,mpegts,mpeg,mpegvideo,mxf,asf,flv,ogg"
_MPEG, _JPEG = 1, 2  # limited and full range
_UNSPECIFIED = 2
_YCGCO, _BY_PRIMARIES = 8, 12
_MATRICES_OF_PRIMARIES = {1: 1, 6: 7, 7: 7, 9: 9}
# Weights of red and blue in luma, of ISO/IEC 23091-4, table 4, by the scaler's code.
_LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
_UNSUPPORTED_MATRICES = {
    11: "Y'D'zD'x",
    13: "constant luminance by primaries",
    14: "ICtCp",
    15: "IPT-C2",
    16: "YCgCo-Re",
    17: "YCgCo-Ro",
}
_OPAQUE = 65280 / 65535  # the scaler fills 10 or 12 bits up with zeros
_DEPTHS = {"yuv444p": (8, 9, 10, 12, 14, 16), "yuva444p": (8, 9, 10, 12, 16)}
_DEPTHS |= {"gbrp": (8, 9, 10, 12, 14, 16), "gbrap": (8, 10, 12, 14, 16)}
_DEPTHS |= {"gray": (8, 9, 10, 12, 14, 16)}


def pyav() -> Any:
    """Import PyAV and switch its log off.

    Raises:
        DependencyError: it is not installed.
    """
    av = import_optional("av", "video", extra="video")
    av.logging.set_level(None)
    return av


def open_container(path: Path) -> Any:
    """Open a video file with PyAV; formats that would open further files are disabled.

    Args:
        path: an existing file.
    """
    return pyav().open(
        str(path), container_options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
    )


def matrix_code(tags: ColorTags, height: int) -> int:
    """Return the scaler's code of a colour matrix; if it is unspecified, the one players assume.

    >>> matrix_code(ColorTags(matrix=6), 1080), matrix_code(ColorTags(), 1080)
    (5, 1)
    """
    assumed = 1 if height >= 720 else 5
    if tags.matrix == _BY_PRIMARIES:
        return _MATRICES_OF_PRIMARIES.get(tags.primaries, assumed)
    return SCALER_MATRICES.get(tags.matrix, assumed)


def rgb_pixels(frame: Any, path: Path) -> NDArray[Any]:
    """Convert a frame of any pixel format, matrix and range to R, G, B.

    Grey is taken as full range, as FFmpeg does, whatever the file declares.

    Args:
        frame: an ``av.VideoFrame``; its tags of primaries and transfer curve are removed.
        path: the file, for messages.

    Returns:
        ``(H, W, 3)``, uint8, or uint16 for frames of more than 8 bits.

    Raises:
        InputFileError: a pixel is transparent, or the matrix or the pixel format is not supported.
    """
    tags = ColorTags(primaries=int(frame.color_primaries), matrix=int(frame.colorspace))
    # If the scaler knew transfer curves and primaries, it would convert between them, too.
    frame.color_primaries, frame.color_trc = _UNSPECIFIED, _UNSPECIFIED
    layout = _plane_layout(frame)
    if layout.startswith("yuv") and tags.matrix in _UNSUPPORTED_MATRICES:
        raise InputFileError(
            f"read {path}",
            expected="colours of a known matrix",
            got=_UNSUPPORTED_MATRICES[tags.matrix],
            remedy="convert it to BT.709 first",
        )
    try:
        pixels, opacity = _convert(frame, layout, tags)
    except MemoryError:
        raise
    except pyav().error.FFmpegError as error:
        raise InputFileError(
            f"read {path}",
            expected="a pixel format that can be converted",
            got=frame.format.name,
            remedy="convert it to yuv420p first",
        ) from error
    if opacity < _OPAQUE:
        raise transparency_error(path)
    return pixels


def _plane_layout(frame: Any) -> str:
    """The layout of full planes that a frame is converted through: "yuv444p", "gbrp" or "gray"."""
    colors = [part for part in frame.format.components if not part.is_alpha]
    if len(colors) < 2:
        return "gray"
    return "gbrp" if frame.format.is_rgb or frame.format.name.startswith("xyz") else "yuv444p"


def _convert(frame: Any, layout: str, tags: ColorTags) -> tuple[NDArray[Any], float]:
    """R, G, B of a frame, and its smallest opacity of 0 to 1."""
    depth = max((part.bits for part in frame.format.components), default=8)
    if layout == "yuv444p" and (depth > 8 or tags.matrix == _YCGCO):
        return _from_yuv(frame, depth, tags)
    # The scaler would fill up 9 to 14 bits with zeros, and leave white below 65535.
    if depth in (9, 10, 12, 14) and (layout == "gray" or frame.format.is_planar):
        return _from_planes(frame, layout, depth)
    return _from_scaler(frame, layout, depth, tags)


def _has_alpha(frame: Any) -> bool:
    return any(part.is_alpha for part in frame.format.components)


def _from_scaler(
    frame: Any, layout: str, depth: int, tags: ColorTags
) -> tuple[NDArray[Any], float]:
    """Let FFmpeg's scaler do everything."""
    import numpy as np

    options: dict[str, Any] = {"dst_color_range": _JPEG, "interpolation": SCALER_FLAGS}
    if layout != "gbrp":
        options |= {
            "src_colorspace": matrix_code(tags, frame.height),
            "src_color_range": int(frame.color_range) or _MPEG,
        }
    deep = depth > 8
    if not (_has_alpha(frame) or frame.format.name == "pal8"):
        pixels = frame.reformat(format="rgb48le" if deep else "rgb24", **options).to_ndarray()
        return np.asarray(pixels), 1.0
    pixels = frame.reformat(format="rgba64le" if deep else "rgba", **options).to_ndarray()
    return np.asarray(pixels[..., :3]), float(pixels[..., 3].min()) / (65535 if deep else 255)


def _from_planes(frame: Any, layout: str, depth: int) -> tuple[NDArray[Any], float]:
    """Scale planes of R, G, B or grey."""
    import numpy as np

    planes, depth, opacity = _full_planes(frame, layout, depth, _JPEG)
    order = [planes[0]] * 3 if layout == "gray" else [planes[2], planes[0], planes[1]]
    return _to_uint16(np.stack(order, -1).astype(np.float32) / (2**depth - 1)), opacity


def _from_yuv(frame: Any, depth: int, tags: ColorTags) -> tuple[NDArray[Any], float]:
    """Apply the matrix to luma and chroma.

    Source: ITU-T H.273 (ISO/IEC 23091-2), matrix coefficients.
    """
    import numpy as np

    is_full = frame.format.name.startswith("yuvj") or int(frame.color_range) == _JPEG
    color_range = _JPEG if is_full else _MPEG
    planes, depth, opacity = _full_planes(frame, "yuv444p", depth, color_range)
    unit = 2.0 ** (depth - 8)
    luma, blue, red = (plane.astype(np.float32) for plane in planes)
    luma -= 0 if is_full else 16 * unit
    luma /= 2**depth - 1 if is_full else 219 * unit
    for plane in (blue, red):
        plane -= 128 * unit
        plane /= 2**depth - 1 if is_full else 224 * unit
    colors = np.empty((*luma.shape, 3), np.float32)
    if tags.matrix == _YCGCO:  # `blue` is the green difference, `red` the orange one
        colors[..., 0] = luma - blue + red
        colors[..., 1] = luma + blue
        colors[..., 2] = luma - blue - red
    else:
        red_weight, blue_weight = _LUMA_WEIGHTS[matrix_code(tags, frame.height)]
        colors[..., 0] = luma + 2 * (1 - red_weight) * red
        colors[..., 2] = luma + 2 * (1 - blue_weight) * blue
        colors[..., 1] = luma - red_weight * colors[..., 0] - blue_weight * colors[..., 2]
        colors[..., 1] /= 1 - red_weight - blue_weight
    return _to_uint16(colors), opacity


def _full_planes(
    frame: Any, layout: str, depth: int, color_range: int
) -> tuple[list[NDArray[Any]], int, float]:
    """Bring a frame to full planes without changing values; returns depth and opacity, too."""
    import numpy as np

    alpha = _has_alpha(frame) and layout != "gray"
    layout = {"yuv444p": "yuva444p", "gbrp": "gbrap"}[layout] if alpha else layout
    depth = next(bits for bits in _DEPTHS[layout] if bits >= depth)
    options = {"src_color_range": color_range, "dst_color_range": color_range}
    if layout.startswith("yuv"):
        options |= {"src_colorspace": 1, "dst_colorspace": 1}  # the same matrix: no conversion
    name = layout if depth == 8 else f"{layout}{depth}le"
    converted = frame.reformat(format=name, interpolation=SCALER_FLAGS, **options)
    planes = []
    for plane in converted.planes:
        lines = np.frombuffer(plane, "u1" if depth == 8 else "<u2").reshape(plane.height, -1)
        planes.append(lines[:, : plane.width])
    opacity = float(planes.pop().min()) / (2**depth - 1) if alpha else 1.0
    return planes, depth, opacity


def _to_uint16(colors: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    colors *= 65535.0
    colors += 0.5
    return np.clip(colors, 0, 65535, out=colors).astype(np.uint16)


class Orientation(NamedTuple):
    """How a frame is turned and mirrored to stand upright.

    Args:
        swaps: whether rows become columns.
        flips_x: whether the result is mirrored from left to right, after that.
        flips_y: whether it is mirrored from top to bottom.
    """

    swaps: bool = False
    flips_x: bool = False
    flips_y: bool = False

    def apply(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Turn and mirror pixels ``(H, W, 3)``."""
        import numpy as np

        if self.swaps:
            pixels = pixels.swapaxes(0, 1)
        if self.flips_x:
            pixels = pixels[:, ::-1]
        if self.flips_y:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)


def orientation(frame: Any, path: Path) -> Orientation:
    """Read the display matrix of a frame; without one, the frame stands upright.

    A pixel at ``(x, y)`` is shown at ``(a x + c y, b x + d y)``. The sizes of these entries are
    ignored, as FFmpeg does.

    Args:
        frame: an ``av.VideoFrame``.
        path: the file, for messages.

    Raises:
        InputFileError: the matrix turns by something else than a multiple of 90 degrees.
    """
    from av.sidedata.sidedata import Type

    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return Orientation()
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix)[:36])  # a, b, u, c, d, v, x, y, w
    largest = max(map(abs, (a, b, c, d)))
    a, b, c, d = (0 if 100 * abs(entry) < largest else entry for entry in (a, b, c, d))
    if a and d and not (b or c):
        return Orientation(flips_x=a < 0, flips_y=d < 0)
    if b and c and not (a or d):
        return Orientation(swaps=True, flips_x=c < 0, flips_y=b < 0)
    raise InputFileError(
        f"read {path}",
        expected="frames turned by a multiple of 90 degrees",
        got="another display matrix",
        remedy="turn it upright first",
    )
