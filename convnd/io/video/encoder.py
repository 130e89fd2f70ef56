"""Encodes the frames of one video file."""

from __future__ import annotations

import dataclasses
import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import NumericalError
from convnd.io.video.codecs import ANIMATIONS, Encoding
from convnd.io.video.pixels import SCALER_FLAGS, SCALER_MATRICES, matrix_code
from convnd.io.video.types import SRGB_TRANSFER, ColorTags, VideoInfo

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["VideoStream", "square_pixels"]

_RGB = 0
_DERIVED = (2, 12)  # matrices that follow from the size, or from the primaries
_GIF_PALETTE = (
    ("split", ""),
    ("palettegen", "stats_mode=single"),  # a palette for each frame, since frames come one by one
    ("paletteuse", "new=1"),
)


def square_pixels(values: Tensor, aspect: Fraction) -> Tensor:
    """Resize a frame ``(1, 3, H, W)`` so that its pixels are square; it only grows.

    Args:
        values: the frame.
        aspect: width of a pixel divided by its height.
    """
    if aspect == 1:
        return values
    from convnd.nn import resize_nd

    height, width = values.shape[2:]
    if aspect > 1:
        width = round(width * aspect)
    else:
        height = round(height / aspect)
    return resize_nd(values, (height, width), mode="linear")


class VideoStream:
    """Encodes the frames of one file; each is held back until its duration is known."""

    def __init__(
        self,
        av: Any,
        out: Any,
        kind: str,
        path: Path,
        info: VideoInfo,
        first: Tensor,
        encoding: Encoding,
    ) -> None:
        codec, animation = encoding.codec_of(path), kind in ANIMATIONS
        self._av, self._out, self._info = av, out, info
        height, width = first.shape[2:]
        self._pad = (width % 2, height % 2) if codec.even else (0, 0)
        self._tags = info.colors
        if info.colors.matrix == _RGB:  # pictures and GIF, for which players assume sRGB
            self._tags = ColorTags(False, 1, SRGB_TRANSFER, 1)
        elif info.colors.matrix not in (*SCALER_MATRICES, *_DERIVED):
            self._tags = dataclasses.replace(info.colors, matrix=1)
        self._format = encoding.pixel_format(path)
        os.environ.setdefault("SVT_LOG", "1")  # of the encoder of AV1: errors only
        rate = info.rate or Fraction(25)
        stream = out.add_stream(
            codec.encoder, rate=rate.limit_denominator(65535), options=encoding.options(path)
        )
        stream.width, stream.height = width + self._pad[0], height + self._pad[1]
        stream.pix_fmt = "pal8" if kind == "gif" else self._format
        for key in ("language", "title"):
            if key in info.stream_tags:
                stream.metadata[key] = info.stream_tags[key]
        context = stream.codec_context
        if codec.tag and kind in ("mp4", "mov"):
            context.codec_tag = codec.tag
        context.time_base = Fraction(1, 100) if kind == "gif" else info.time_base
        stream.time_base = context.time_base
        context.sample_aspect_ratio = info.aspect if encoding.has_aspect(path) else Fraction(1)
        if not animation:
            context.color_range = {None: 0, False: 1, True: 2}[self._tags.full_range]
            context.color_primaries = self._tags.primaries
            context.color_trc = self._tags.transfer
            context.colorspace = self._tags.matrix
        self._stream = stream
        # x265 measures the delay of decoding times at the third frame, so those of videos of one
        # or two frames are undefined. Such videos have no frames in another order.
        self._x265, self._count = codec.encoder == "libx265", 0
        self._animation = animation
        self._graph = _palette_graph(av, width, height) if kind == "gif" else None
        self._waiting: tuple[int, int, Any] | None = None  # time, duration, picture
        self._previous = 0
        self._durations: dict[int, int] = {}

    def add(self, pts: int, values: Tensor, duration: int = 0) -> None:
        """Add a frame at time ``pts``, in ticks; ``duration`` counts if no other frame follows."""
        picture = self._convert(pts, values)
        if self._waiting is not None:
            self._previous = pts - self._waiting[0]
            self._encode(self._waiting[2], self._waiting[0], self._previous)
        self._waiting = pts, duration, picture

    def close(self) -> int:
        """Encode what is left; return the duration of the last frame, 0 if it has none."""
        assert self._waiting is not None
        pts, duration, picture = self._waiting
        if not self._animation and duration and self._previous not in (0, duration):
            # MP4 stores how long the packet is shown that comes last. That is this one, if no
            # earlier frame refers to it.
            picture.pict_type = self._av.video.frame.PictureType.I
        self._encode(picture, pts, duration)
        self._mux(self._stream.encode(None))
        return duration

    def _encode(self, picture: Any, pts: int, duration: int) -> None:
        self._count += 1
        if duration:
            self._durations[pts] = duration
        self._mux(self._stream.encode(picture))

    def _mux(self, packets: Any) -> None:
        for packet in packets:
            duration = self._durations.pop(packet.pts, 0)
            if duration and self._graph is None:
                packet.duration = duration
            if self._x265 and self._count <= 2:
                packet.dts = packet.pts
            self._out.mux(packet)

    def _convert(self, pts: int, values: Tensor) -> Any:
        """A frame as the encoder takes it."""
        av, info = self._av, self._info
        if any(self._pad):
            from torch.nn import functional

            values = functional.pad(values, (0, self._pad[0], 0, self._pad[1]), mode="replicate")
        deep = "10" in self._format
        picture = av.VideoFrame.from_ndarray(
            _codes(values, deep=deep), format="rgb48le" if deep else "rgb24"
        )
        if self._graph is not None:
            picture.pts = pts
            picture.time_base = info.time_base
            self._graph.push(picture)
            picture = self._graph.pull()
            picture.pts = round(pts * info.time_base * 100)
            picture.time_base = Fraction(1, 100)
            return picture
        if self._animation:
            picture = picture.reformat(format=self._format)
            picture.pts, picture.time_base = pts, info.time_base
            return picture
        tags = self._tags
        picture = picture.reformat(
            format=self._format,
            src_color_range=2,
            interpolation=SCALER_FLAGS,
            dst_colorspace=matrix_code(tags, picture.height),
            dst_color_range=2 if tags.full_range else 1,
        )
        picture.colorspace, picture.color_trc = tags.matrix, tags.transfer
        picture.color_primaries = tags.primaries
        picture.pts, picture.time_base = pts, info.time_base
        return picture


def _palette_graph(av: Any, width: int, height: int) -> Any:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=width, height=height, format="rgb24", time_base=Fraction(1, 1000)
    )
    split, palette, use = (graph.add(*step) for step in _GIF_PALETTE)
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph


def _codes(values: Tensor, *, deep: bool) -> Any:
    """The codes of a frame ``(H, W, 3)``, of 16 bits where ``deep``, else of 8."""
    import torch

    planes = values[0].detach().to("cpu", torch.float32)
    if not bool(planes.isfinite().all()):
        raise NumericalError(
            "write",
            expected="finite values for a frame",
            got="NaN or infinity",
            remedy="use a smaller learning rate, or check the input",
        )
    white, kind = (65535, torch.uint16) if deep else (255, torch.uint8)
    codes = planes.clamp(0, 1).mul(white).round_().to(torch.int32).to(kind)
    return codes.permute(1, 2, 0).contiguous().numpy()
