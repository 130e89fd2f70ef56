"""Writes videos frame by frame, with the times and tags of the source and a copy of its sound.

The suffix selects container and codec, see `CODECS`. Frames are encoded as they come; the file
appears whole or not at all. Audio packets are copied byte by byte, shifted with the frames if the
result does not begin where the source begins. Matroska and WebM store times in milliseconds, GIF in
hundredths of a second: only there, times are rounded.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import NumericalError, OutputFileError, UsageError
from convnd.io.atomic import atomic_path, check_target, error_text
from convnd.io.provenance import check_sidecar, remove_sidecar, write_sidecar
from convnd.io.video.types import SRGB_TRANSFER, ColorTags, VideoFrame, VideoInfo
from convnd.io.worker.video_decoder import SCALER_FLAGS, matrix_code, pyav

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CODECS", "check_video_output", "encode", "write_video"]

CODECS: Mapping[str, tuple[str, str, int | None]] = {
    ".mp4": ("mp4", "libx264", 18),
    ".m4v": ("mp4", "libx264", 18),
    ".mkv": ("matroska", "libx264", 18),
    ".webm": ("webm", "libvpx-vp9", 24),
    ".gif": ("gif", "gif", None),
}
"""Container, codec and default constant rate factor of each suffix; a smaller factor loses less."""

_RGB = 0
_GIF_PALETTE = (
    ("split", ""),
    ("palettegen", "stats_mode=single"),  # a palette for each frame, since frames come one by one
    ("paletteuse", "new=1"),
)


def check_video_output(
    path: Path,
    info: VideoInfo,
    *,
    overwrite: bool = False,
    audio: bool = True,
    provenance: bool = False,
) -> None:
    """Check, before any work, that a video can be written here.

    Args:
        path: the output.
        info: description of the source.
        overwrite: whether an existing file may be replaced.
        audio: whether the sound of the source is to be copied.
        provenance: whether provenance will be stored with it.

    Raises:
        UsageError: no video is written under its suffix, or its container cannot hold the sound or
            the shape of the pixels.
        OutputExistsError: it exists and ``overwrite`` is false, or another file has the
            name of its sidecar.
        OutputFileError: its folder takes no new files.
        DependencyError: PyAV is missing.
    """
    kind = _container(path)
    check_target(path, overwrite=overwrite)
    if provenance and kind == "gif":  # GIF has no place for it
        check_sidecar(path)
    if kind == "webm" and info.aspect != 1:  # neither VP9 nor PyAV can store it
        raise UsageError(
            f"write {path}: expected square pixels for WebM, got {info.aspect}; choose .mp4 or .mkv"
        )
    if not audio or kind == "gif":
        return
    with pyav().open(io.BytesIO(), "w", format=kind) as container:
        supported = container.supported_codecs
    for codec in info.audio:
        if codec not in supported:
            raise UsageError(
                f"write {path}: expected sound that {kind} holds, got {codec}; choose .mkv, or "
                "leave it out (--no-audio)"
            )


def write_video(
    path: Path,
    info: VideoInfo,
    frames: Iterable[VideoFrame],
    *,
    overwrite: bool = False,
    crf: int | None = None,
    audio: bool = True,
    end: Fraction | None = None,
    provenance: Mapping[str, str] | None = None,
) -> int:
    """Write a video so that its file appears whole or not at all; see `encode`.

    Raises:
        ConvndError: as `check_video_output` and `encode`; errors of ``frames`` pass unchanged.
    """
    check_video_output(path, info, overwrite=overwrite, audio=audio, provenance=bool(provenance))
    with atomic_path(path, overwrite=overwrite) as temporary:
        count = encode(
            temporary, info, frames, crf=crf, audio=audio, end=end, provenance=provenance
        )
    if _container(path) == "gif":
        if provenance:
            write_sidecar(path, provenance)
        else:
            remove_sidecar(path)
    return count


def encode(
    path: Path,
    info: VideoInfo,
    frames: Iterable[VideoFrame],
    *,
    crf: int | None = None,
    audio: bool = False,
    end: Fraction | None = None,
    provenance: Mapping[str, str] | None = None,
) -> int:
    """Encode frames, as they come, into a file that may exist.

    Args:
        path: its suffix selects the codec.
        info: description of the source: times, pixel aspect, colour tags, sound.
        frames: frames of one size; their times are in ticks of ``info.time_base``.
        crf: constant rate factor; None for the default of `CODECS`.
        audio: whether to copy the sound of ``info.path``.
        end: seconds after the first frame where the sound ends; None for all of it.
        provenance: how the result was made, stored as the comment of the container.

    Returns:
        The number of frames.

    Raises:
        OutputFileError: the encoder or the disk fails, or there are no frames.
        UsageError: no video is written under this suffix.
        NumericalError: values are not finite.
    """
    av = pyav()
    kind = _container(path)
    count = 0
    try:
        with contextlib.ExitStack() as stack:
            out = stack.enter_context(
                av.open(str(path), "w", format=kind, options=_container_options(kind, info))
            )
            if provenance:
                out.metadata["comment"] = json.dumps(dict(provenance))
            video: _VideoStream | None = None
            sound: _AudioStream | None = None
            origin = 0
            for frame in frames:
                if video is None:
                    # A part of a video begins at 0; a whole one keeps its start.
                    origin = frame.pts if frame.pts > info.start or kind == "gif" else 0
                    video = _VideoStream(av, out, kind, path, info, frame.values, crf)
                    if audio and info.audio and kind != "gif":
                        source = stack.enter_context(av.open(str(info.path)))
                        sound = _AudioStream(source, out, info, origin, end)
                if sound is not None:
                    sound.copy_until(frame.pts * info.time_base)
                video.add(frame.pts - origin, frame.values)
                count += 1
            if video is None:
                raise OutputFileError(f"write {path}: expected at least one frame, got none")
            video.close()
            if sound is not None:
                sound.copy_until(None)
    except av.error.FFmpegError as error:
        raise OutputFileError(
            f"write {path}",
            expected="to encode and store the video",
            got=f"'{error_text(error)}'",
            remedy="choose another folder or format",
        ) from error
    return count


def _container_options(kind: str, info: VideoInfo) -> dict[str, str]:
    if kind == "mp4":
        # The container rounds the beginnings of streams to this.
        ticks = math.lcm(info.time_base.denominator, 48000)
        return {"movie_timescale": str(min(ticks, 2**31 - 1))}
    # Matroska without random numbers: the same video gives the same bytes.
    return {"fflags": "+bitexact"} if kind in ("matroska", "webm") else {}


class _VideoStream:
    """Encodes the frames of one file."""

    def __init__(
        self,
        av: Any,
        out: Any,
        kind: str,
        path: Path,
        info: VideoInfo,
        first: Tensor,
        crf: int | None,
    ) -> None:
        _, codec, default_crf = CODECS[path.suffix.lower()]
        self._av, self._out, self._info = av, out, info
        height, width = first.shape[2:]
        self._tags = info.colors
        if info.colors.matrix == _RGB:  # pictures and GIF, for which players assume sRGB
            self._tags = ColorTags(False, 1, SRGB_TRANSFER, 1)
        even = height % 2 == 0 and width % 2 == 0
        self._format = "bgra" if kind == "gif" else "yuv420p" if even else "yuv444p"
        options = {} if default_crf is None else {"crf": str(default_crf if crf is None else crf)}
        if codec == "libvpx-vp9":
            options |= {"b": "0", "row-mt": "1", "cpu-used": "4"}
        rate = info.rate or Fraction(25)
        stream = out.add_stream(codec, rate=rate.limit_denominator(65535), options=options)
        stream.width, stream.height = width, height
        stream.pix_fmt = "pal8" if kind == "gif" else self._format
        context = stream.codec_context
        context.time_base = Fraction(1, 100) if kind == "gif" else info.time_base
        stream.time_base = context.time_base
        context.sample_aspect_ratio = info.aspect
        if kind != "gif":
            context.color_range = {None: 0, False: 1, True: 2}[self._tags.full_range]
            context.color_primaries = self._tags.primaries
            context.color_trc = self._tags.transfer
            context.colorspace = self._tags.matrix
        self._stream = stream
        self._graph = _palette_graph(av, width, height) if kind == "gif" else None

    def add(self, pts: int, values: Tensor) -> None:
        av, info = self._av, self._info
        picture = av.VideoFrame.from_ndarray(_codes(values), format="rgb24")
        if self._graph is not None:
            picture.pts = pts
            picture.time_base = info.time_base
            self._graph.push(picture)
            picture = self._graph.pull()
            picture.pts = round(pts * info.time_base * 100)
            picture.time_base = Fraction(1, 100)
        else:
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
        self._out.mux(self._stream.encode(picture))

    def close(self) -> None:
        self._out.mux(self._stream.encode(None))


class _AudioStream:
    """Copies audio packets of another file."""

    def __init__(
        self, source: Any, out: Any, info: VideoInfo, origin: int, end: Fraction | None
    ) -> None:
        self._streams = {
            stream.index: out.add_stream_from_template(stream) for stream in source.streams.audio
        }
        self._origin = origin * info.time_base
        self._end = None if end is None else info.start * info.time_base + end
        self._packets = source.demux(*source.streams.audio)
        self._out = out
        self._next: Any = None

    def copy_until(self, time: Fraction | None) -> None:
        """Copy packets before ``time``, in seconds; None for all that are left."""
        while True:
            packet = self._next if self._next is not None else next(self._packets, None)
            self._next = None
            if packet is None:
                return
            if packet.dts is None:
                continue
            packet_time = packet.pts * packet.time_base
            if self._origin and packet_time < self._origin:
                continue
            if self._end is not None and packet_time >= self._end:
                continue
            if time is not None and packet_time >= time:
                self._next = packet
                return
            if self._origin:
                ticks = round(self._origin / packet.time_base)
                packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
            packet.stream = self._streams[packet.stream.index]
            self._out.mux(packet)


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


def _codes(values: Tensor) -> Any:
    import torch

    planes = values[0].detach().to("cpu", torch.float32)
    if not bool(planes.isfinite().all()):
        raise NumericalError(
            "write: expected finite values for a frame, got NaN or infinity; use a smaller "
            "learning rate, or check the input"
        )
    codes = planes.clamp(0, 1).mul(255).round_().to(torch.uint8)
    return codes.permute(1, 2, 0).contiguous().numpy()


def _container(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in CODECS:
        raise UsageError(
            f"write {path}: expected a name ending in {', '.join(CODECS)}, got {path.name!r}; "
            "choose one of these"
        )
    return CODECS[suffix][0]
