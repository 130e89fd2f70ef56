"""Colours of frames in every pixel format, matrix and range, against the formulas of the standard.

The frames are written sample by sample here. Nothing of FFmpeg's scaler is in the oracle.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type
from av.video import format as av_format
from av.video.format import VideoFormat
from error_fields import raises
from numpy.typing import NDArray

from convnd import io
from convnd.errors import InputFileError
from convnd.io.video.pixels import orientation, rgb_pixels
from convnd.io.video.tone_mapping import tone_map

HEIGHT, WIDTH = 48, 64
# ITU-T H.273, table 4: weights of red and blue in luma.
WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}
YCGCO = 8
MATRICES = (*WEIGHTS, YCGCO)


def planar_formats() -> list[str]:
    """YUV in planes or half planes, of 8 to 16 bits, in both orders of bytes."""
    formats = []
    names: Any = av_format  # its stubs lack some attributes
    for name in sorted(names.names):
        kind = VideoFormat(name, WIDTH, HEIGHT)
        if kind.is_planar and not kind.is_rgb and len(kind.components) >= 3:
            formats.append(name)
    return formats


def smooth_picture() -> NDArray[Any]:
    y, x = np.mgrid[:HEIGHT, :WIDTH] / np.array([HEIGHT, WIDTH])[:, None, None]
    red = 0.5 + 0.45 * np.sin(2 * x + y)
    green = 0.5 + 0.45 * np.sin(x - 2 * y + 1)
    return np.stack([red, green, 0.5 + 0.45 * np.cos(2 * x * y + 2)], -1)


def to_codes(rgb: NDArray[Any], matrix: int, full: bool, bits: int) -> list[NDArray[Any]]:
    """Luma, both chromas and opacity, in codes of a depth."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    if matrix == YCGCO:
        luma = green / 2 + (red + blue) / 4
        first, second = green / 2 - (red + blue) / 4, (red - blue) / 2
    else:
        red_weight, blue_weight = WEIGHTS[matrix]
        luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
        first, second = (blue - luma) / (2 - 2 * blue_weight), (red - luma) / (2 - 2 * red_weight)
    unit, top = 2 ** (bits - 8), 2**bits - 1
    if full:
        planes = [luma * top, first * top + 128 * unit, second * top + 128 * unit]
    else:
        planes = [(16 + 219 * luma) * unit, *((128 + 224 * c) * unit for c in (first, second))]
    return [*planes, np.full_like(luma, top)]


def pack(name: str, codes: list[NDArray[Any]]) -> Any:
    """A frame of planes, each the mean of the codes that one of its samples stands for."""
    frame = av.VideoFrame(WIDTH, HEIGHT, name)
    parts: Any = frame.format.components
    for part, plane_codes in zip(parts, codes, strict=False):
        bits, size = part.bits, (part.height, WIDTH // part.width)
        means = plane_codes.reshape(size[0], HEIGHT // size[0], part.width, size[1]).mean((1, 3))
        samples = np.round(means).astype(np.uint32)
        if name.startswith(("p0", "p2", "p4")) or "msb" in name:  # in the upper bits
            samples <<= 16 - bits
        plane = frame.planes[part.plane]
        sharing = [other.index for other in parts if other.plane == part.plane]
        place = sharing.index(part.index)
        if name in ("nv21", "nv42") and len(sharing) > 1:
            place = 1 - place
        order = ">" if frame.format.is_big_endian else "<"
        kind = np.dtype(f"{order}u{1 if bits <= 8 else 2}")
        lines = np.frombuffer(bytes(plane), kind).reshape(-1, plane.line_size // kind.itemsize)
        lines = lines.copy()
        lines[: part.height, place : place + len(sharing) * part.width : len(sharing)] = samples
        plane.update(lines.tobytes())
    return frame


def decibels(pixels: NDArray[Any], rgb: NDArray[Any]) -> float:
    values = pixels / (255 if pixels.dtype == np.uint8 else 65535)
    return float(-10 * np.log10(np.square(values - rgb).mean()))


@pytest.mark.parametrize("name", planar_formats())
def test_every_format_matrix_and_range(name: str) -> None:
    rgb = smooth_picture()
    bits = VideoFormat(name, WIDTH, HEIGHT).components[0].bits
    for matrix in MATRICES:
        for full in (False, True):
            if name.startswith("yuvj") and not full:  # the name says full range
                continue
            frame = pack(name, to_codes(rgb, matrix, full, bits))
            frame.colorspace, frame.color_range = matrix, 2 if full else 1
            quality = decibels(rgb_pixels(frame, Path("x")), rgb)
            assert quality >= 45, (matrix, full)


PACKED = ("yuyv422", "uyvy422", "yvyu422", "vuya", "vuyx", "ayuv", "vyu444")
DEEP_PACKED = ("xv30le", "v30xle", "xv36le", "xv48le", "y210le", "y212le", "y216le", "ayuv64le")


@pytest.mark.parametrize("name", [*PACKED, *DEEP_PACKED])
def test_packed_formats(name: str) -> None:
    """FFmpeg only brings the samples into their order; it changes no colour."""
    rgb, flags = smooth_picture(), 2 | 0x2000 | 0x40000
    bits = max(part.bits for part in VideoFormat(name, WIDTH, HEIGHT).components)
    planes = "yuv444p" if bits == 8 else f"yuv444p{bits}le"
    for matrix in (1, 6, 9, YCGCO):
        for full in (1, 2):
            frame = pack(planes, to_codes(rgb, matrix, full == 2, bits))
            same = {"src_color_range": full, "dst_color_range": full}
            same |= {"src_colorspace": 1, "dst_colorspace": 1}
            frame = frame.reformat(format=name, interpolation=flags, **same)
            frame.colorspace, frame.color_range = matrix, full
            assert decibels(rgb_pixels(frame, Path("x")), rgb) >= 45, (matrix, full)


@pytest.mark.parametrize("bits", [8, 9, 10, 12, 14, 16])
def test_white_is_white_in_rgb_and_grey_of_every_depth(bits: int) -> None:
    """FFmpeg's scaler fills 10 bits up with zeros: white would be 0.999."""
    end = "" if bits == 8 else f"{bits}le"
    kind = np.dtype("u1" if bits == 8 else "<u2")
    for name in (f"gbrp{end}", f"gray{end}"):
        frame = av.VideoFrame(WIDTH, HEIGHT, name)
        for index, plane in enumerate(frame.planes):
            codes = np.zeros(plane.buffer_size // kind.itemsize, kind)
            codes[:] = 2**bits - 1 if index != 1 else 0  # in gbrp, the second plane is blue
            plane.update(codes.tobytes())
        frame.color_range = 1  # grey and R, G, B have full range, whatever a file says
        pixels = rgb_pixels(frame, Path("x"))
        white = 255 if pixels.dtype == np.uint8 else 65535
        expected = [white] * 3 if name.startswith("gray") else [white, white, 0]
        assert pixels.reshape(-1, 3).tolist() == [expected] * (HEIGHT * WIDTH)


def test_matrices_by_primaries_and_without_a_formula() -> None:
    rgb = smooth_picture()
    frame = pack("yuv444p12le", to_codes(rgb, 9, False, 12))
    frame.colorspace, frame.color_range, frame.color_primaries = 12, 1, 9
    assert decibels(rgb_pixels(frame, Path("x")), rgb) >= 45
    frame.colorspace = 14
    with raises(InputFileError, operation="read x", got="ICtCp"):
        rgb_pixels(frame, Path("x"))


@pytest.mark.parametrize(
    ("codec", "name", "pix_fmt"),
    [
        ("libx264", "a.mp4", "yuv420p10le"),
        ("libx265", "b.mkv", "yuv420p10le"),
        ("prores_ks", "d.mov", "yuv422p10le"),
        ("ffv1", "e.mkv", "yuv420p16le"),
        ("rawvideo", "f.avi", "yuv420p"),
    ],
)
def test_files_of_common_codecs(tmp_path: Path, codec: str, name: str, pix_fmt: str) -> None:
    rgb = smooth_picture()
    best = {"libx264": {"qp": "0"}, "libx265": {"x265-params": "lossless=1:log-level=none"}}
    with av.open(str(tmp_path / name), "w") as out:
        stream: Any = out.add_stream(codec, rate=25, options=best.get(codec, {}))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        context = stream.codec_context
        context.color_range, context.colorspace = 1, 1
        bits = VideoFormat(pix_fmt, WIDTH, HEIGHT).components[0].bits
        for time in range(2):
            frame = pack(pix_fmt, to_codes(rgb, 1 if name != "f.avi" else 6, False, bits))
            frame.pts, frame.time_base = time, Fraction(1, 25)
            frame.colorspace, frame.color_range = 1, 1
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    for video_frame in io.open_video(tmp_path / name).frames():
        values = video_frame.values[0].permute(1, 2, 0).numpy()
        assert -10 * np.log10(np.square(values - rgb).mean()) >= 45


def test_a_matrix_that_no_encoder_writes_becomes_bt709(tmp_path: Path) -> None:
    rgb = smooth_picture()
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        stream: Any = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        stream.codec_context.colorspace, stream.codec_context.color_range = YCGCO, 2
        frame = pack("yuv444p", to_codes(rgb, YCGCO, True, 8))
        frame.colorspace, frame.color_range, frame.pts = YCGCO, 2, 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    video = io.open_video(tmp_path / "a.mkv")
    io.write_video(tmp_path / "b.mp4", video.info, video.frames(), encoding=io.Encoding(crf=1))
    again = io.open_video(tmp_path / "b.mp4")
    assert again.info.colors.matrix == 1
    values = next(again.frames()).values[0].permute(1, 2, 0).numpy()
    assert -10 * np.log10(np.square(values - rgb).mean()) > 40


# Rows of the matrix in the track header: (a, b, u), (c, d, v); x' = ax + cy, y' = bx + dy.
@pytest.mark.parametrize("matrix", [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)])
def test_mirrors(matrix: tuple[int, int, int, int]) -> None:
    check_orientation(matrix)


@pytest.mark.parametrize("matrix", [(0, b, c, 0) for b in (1, -1) for c in (1, -1)])
def test_turned_mirrors(matrix: tuple[int, int, int, int]) -> None:
    check_orientation(matrix)


def check_orientation(matrix: tuple[int, int, int, int]) -> None:
    """A marked pixel lands where the matrix moves it, relative to the centre."""
    a, b, c, d = matrix
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0, 5] = 9  # at the right and top: (1, -1), y downwards
    shown = orientation(Displayed(matrix), Path("x")).apply(pixels)
    x, y = a - c, b - d
    assert shown.shape[:2] == ((4, 6) if a else (6, 4))
    assert shown[0 if y < 0 else -1, 0 if x < 0 else -1].tolist() == [9, 9, 9]


class Displayed:
    """A frame with a display matrix."""

    def __init__(self, matrix: tuple[float, float, float, float]) -> None:
        a, b, c, d = (round(65536 * entry) for entry in matrix)
        entries = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], np.int32)
        self.side_data = {Type.DISPLAYMATRIX: entries.tobytes()}


def test_other_display_matrices() -> None:
    small = orientation(Displayed((0.5, 0, 0, -0.5)), Path("x"))
    assert small == (False, False, True)
    with raises(
        InputFileError, operation="read x", expected="90 degrees", got="another display matrix"
    ):
        orientation(Displayed((0.7, 0.7, -0.7, 0.7)), Path("x"))


def test_tone_mapping_of_known_light() -> None:
    """Codes of BT.2408: PQ 0.5081 is 100 cd/m², 0.5807 is 203, 0.7518 is 1000; HLG 0.75 is 203."""
    codes = np.array([0, 0.3, 0.5081, 0.5807, 0.6526, 0.7518, 0.9], np.float32)
    grey = np.repeat(codes[:, None], 3, 1)[None]
    mapped = tone_map(grey, 16, is_wide=True)[0]
    assert abs(mapped - mapped[:, :1]).max() < 2e-3  # grey stays grey
    assert (np.diff(mapped[:, 0]) >= 0).all()
    assert mapped[0, 0] == 0
    assert mapped[-2:, 0] == pytest.approx([1, 1], abs=2e-3)
    assert pytest.approx(mapped[2, 0], abs=0.01) == (100 / 203) ** (1 / 2.4)  # below the knee
    assert 0.85 < mapped[3, 0] < 0.95 < mapped[4, 0] < 1
    white = tone_map(np.full((1, 1, 3), 0.75, np.float32), 18, is_wide=True)
    assert white[0, 0, 0] == pytest.approx(mapped[3, 0], abs=0.01)
    # Red of BT.709 within BT.2020 (BT.2087), at 100 cd/m², comes out as red alone.
    light = 100 / 10000 * np.array([0.6274, 0.0691, 0.0164])
    power = light ** (2610 / 16384)
    pq = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    red = tone_map(pq.astype(np.float32)[None, None], 16, is_wide=True)[0, 0]
    assert red[0] > 0.7
    assert red[1:].max() < 0.05


@pytest.mark.parametrize("transfer", [16, 18])
def test_high_dynamic_range_is_refused_or_mapped(tmp_path: Path, transfer: int) -> None:
    path = tmp_path / "a.mkv"
    code = 0.5807 if transfer == 16 else 0.75  # white of graphics
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p10le"
        context = stream.codec_context
        context.color_range, context.color_primaries = 1, 9
        context.color_trc, context.colorspace = transfer, 9
        frame = pack("yuv420p10le", to_codes(np.full((HEIGHT, WIDTH, 3), code), 9, False, 10))
        frame.pts, frame.color_range, frame.color_primaries = 0, 1, 9
        frame.color_trc, frame.colorspace = transfer, 9
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with raises(InputFileError, operation="a.mkv", remedy="--tone-map"):
        io.open_video(path)
    video = io.open_video(path, tone_map=True)
    assert video.info.colors == io.ColorTags(False, 1, 1, 1)
    values = next(video.frames()).values
    assert values.mean() == pytest.approx(230 / 255, abs=0.01)
    io.write_video(tmp_path / "b.mp4", video.info, video.frames())
    again = io.open_video(tmp_path / "b.mp4")
    assert again.info.colors == io.ColorTags(False, 1, 1, 1)
    assert next(again.frames()).values.mean() == pytest.approx(230 / 255, abs=0.01)
