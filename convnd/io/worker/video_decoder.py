"""Decodes videos with PyAV, in the child process of `convnd.io.worker.client`.

FFmpeg is a million lines of C that get files from anywhere.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.atomic import error_text
from convnd.io.reading import check_positions, import_optional, too_large_error, translate_errors
from convnd.io.video.types import ColorTags, damaged_frames_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SCALER_FLAGS", "VideoDecoder", "matrix_code", "pyav", "serve"]

_PQ, _HLG, _BT2020 = 16, 18, 9
_UNSPECIFIED = 2
_CLOCK = re.compile(r"(\d{1,9}):(\d{1,9}):(\d{1,9}(?:\.\d{1,12})?)", re.ASCII)
SCALER_FLAGS = 2 | 0x2000 | 0x40000
"""Bilinear, chroma for every pixel, accurate rounding: without these flags, shortcuts of the scaler
darken each picture by more than one code, when it is read and when it is written."""
MEMORY = 2**30
"""Bytes that decoding may take in addition to `BYTES_PER_PIXEL`."""
BYTES_PER_PIXEL = 128
"""Bytes per pixel of a frame: 16 reference frames, some more for each thread, of up to 16 bits."""
_MPEG, _JPEG = 1, 2  # limited and full range
# From codes of ISO/IEC 23091-4 to codes of the scaler.
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}


def pyav() -> Any:
    """Import PyAV and switch its log off.

    Raises:
        DependencyError: it is not installed.
    """
    av = import_optional("av", "video", extra="video")
    av.logging.set_level(None)
    return av


def matrix_code(tags: ColorTags, height: int) -> int:
    """Return the scaler's code of a colour matrix; if it is unspecified, the one players assume.

    >>> matrix_code(ColorTags(matrix=6), 1080), matrix_code(ColorTags(), 1080)
    (5, 1)
    """
    return _MATRICES.get(tags.matrix, 1 if height >= 720 else 5)


class VideoDecoder:
    """Decodes one video file.

    Args:
        path: an existing file.
        max_frame: largest number of pixels of a frame.
        reserve_memory: is called with the number of bytes that decoding will need.

    Raises:
        DependencyError: PyAV is missing.
    """

    def __init__(
        self, path: Path, max_frame: int, reserve_memory: Callable[[int], None] = lambda _: None
    ) -> None:
        self._av = pyav()
        self._path = path
        self._max_frame = max_frame
        self._reserve_memory = reserve_memory
        self.damage = ""

    def describe(self) -> dict[str, Any]:
        """Return the fields of `convnd.io.video.types.VideoInfo` as JSON types.

        Raises:
            InputFileError: damaged, without a video stream or frames, too large, HDR, or with
                transparency.
        """
        with self._open() as (container, stream):
            self._check_stream(stream)
            first = next(self._decoded(container, stream, None), None)
            if first is None:
                raise InputFileError(
                    f"read {self._path}: expected at least one frame, got "
                    f"{self.damage or 'none'}; save it again"
                )
            _, pixels, turns, color_range = first
            aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
            context = stream.codec_context
            others = {other.type for other in container.streams} - {"video", "audio", "data"}
            remarks = [f"left out of the result: {kind} streams" for kind in sorted(others)]
            if container.streams.video[0] is not stream or len(container.streams.video) > 1:
                remarks.append("several video streams: the first is taken")
            rate = stream.average_rate or stream.guessed_rate
            return {
                "size": pixels.shape[:2],
                "time_base": str(Fraction(stream.time_base)),
                "start": stream.start_time or 0,
                "rate": None if rate is None else str(Fraction(rate)),
                "frames": stream.frames or None,
                "aspect": str(1 / aspect if turns % 2 else aspect),
                "full_range": {_MPEG: False, _JPEG: True}.get(color_range),
                "primaries": int(context.color_primaries),
                "transfer": int(context.color_trc),
                "matrix": int(context.colorspace),
                "audio": [
                    sound.codec_context.codec.canonical_name for sound in container.streams.audio
                ],
                "remarks": remarks,
            }

    def frames(
        self, start: Fraction, end: Fraction | None
    ) -> Iterator[tuple[int, NDArray[Any] | None]]:
        """Yield time and pixels of each frame; None as pixels of frames before ``start``.

        Those tell the parent that the child is at work.
        """
        self.damage = ""
        with self._open() as (container, stream):
            self._check_stream(stream)
            base = Fraction(stream.time_base)
            first = stream.start_time or 0
            if start > 0:
                container.seek(first + int(start / base), stream=stream, backward=True)
            whole = start <= 0 and end is None
            for pts, pixels, _, _ in self._decoded(container, stream, end, whole=whole):
                yield pts, None if (pts - first) * base < start else pixels

    def comment(self) -> str:
        """Return the comment of the container, which holds provenance."""
        with self._memory_errors(), self._av.open(str(self._path)) as container:
            metadata = {key.lower(): value for key, value in container.metadata.items()}
        return str(metadata.get("comment", ""))

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[Any, Any]]:
        with (
            translate_errors(self._path, "a video"),
            self._memory_errors(),
            self._av.open(str(self._path)) as container,
        ):
            stream = container.streams.best("video")
            if stream is None:
                raise InputFileError(
                    f"read {self._path}: expected a video stream, got "
                    f"{', '.join(other.type for other in container.streams) or 'none'}; "
                    "give another file"
                )
            stream.thread_type = "AUTO"
            yield container, stream

    @contextlib.contextmanager
    def _memory_errors(self) -> Iterator[None]:
        """FFmpeg reports a lack of memory if a header asks for more than it ever allocates."""
        try:
            yield
        except MemoryError as error:
            raise too_large_error(self._path) from error

    def _check_stream(self, stream: Any) -> None:
        context = stream.codec_context
        check_positions(self._path, (context.height, context.width), self._max_frame)
        self._reserve_memory(BYTES_PER_PIXEL * context.height * context.width)
        depth = max((part.bits for part in context.format.components), default=8)
        if int(context.color_trc) in (_PQ, _HLG) or (
            depth > 8 and int(context.color_primaries) == _BT2020
        ):
            name = {_PQ: "HDR (PQ)", _HLG: "HDR (HLG)"}.get(int(context.color_trc), "BT.2020")
            raise InputFileError(
                f"read {self._path}: expected a video in standard dynamic range, got {name} of "
                f"{depth} bits; convert it to BT.709 first"
            )
        if stream.metadata.get("alpha_mode") == "1":
            raise self._transparency_error()

    def _decoded(
        self, container: Any, stream: Any, end: Fraction | None, *, whole: bool = False
    ) -> Iterator[tuple[int, NDArray[Any], int, int]]:
        """Yield time, upright pixels, quarter turns and colour range of each good frame."""
        import numpy as np

        lost, count = 0, 0
        start = stream.start_time or 0
        previous: int | None = None
        length = 0
        for frame in self._raw_frames(container, stream):
            is_late = previous is not None and frame is not None and (frame.pts or 0) <= previous
            if frame is None or frame.is_corrupt or frame.pts is None or is_late:
                lost += 1
                continue
            if end is not None and (frame.pts - start) * stream.time_base >= end:
                return
            previous, length = frame.pts, frame.duration or 0
            count += 1
            turns = self._quarter_turns(frame)
            pixels = np.ascontiguousarray(np.rot90(self._pixels(frame), turns))
            yield frame.pts, pixels, turns, int(frame.color_range)
        if lost:
            self.damage = damaged_frames_text(lost)
        elif whole and not self.damage and previous is not None:
            shown = (previous + length - start) * stream.time_base
            self.damage = _missing_frames_text(container, stream, count, shown)

    def _raw_frames(self, container: Any, stream: Any) -> Iterator[Any]:
        """Yield frames as PyAV decodes them; None for each packet that cannot be decoded."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except self._av.error.FFmpegError as error:
                self.damage = f"the file ends early ('{error_text(error)}')"
                return
            if packet is None:
                return
            if packet.is_corrupt:
                yield None
                continue
            try:
                frames = packet.decode()
            except self._av.error.FFmpegError:
                yield None
                continue
            yield from frames

    def _pixels(self, frame: Any) -> NDArray[Any]:
        import numpy as np

        check_positions(self._path, (frame.height, frame.width), self._max_frame)
        components = frame.format.components
        deep = max(component.bits for component in components) > 8
        # If the scaler knew transfer curves and primaries, it would convert between them, too.
        tags = ColorTags(matrix=int(frame.colorspace))
        frame.color_primaries, frame.color_trc = _UNSPECIFIED, _UNSPECIFIED
        options: dict[str, Any] = {"dst_color_range": _JPEG, "interpolation": SCALER_FLAGS}
        if not frame.format.is_rgb:
            options |= {
                "src_colorspace": matrix_code(tags, frame.height),
                "src_color_range": int(frame.color_range) or _MPEG,
            }
        alpha = frame.format.name == "pal8" or any(component.is_alpha for component in components)
        if alpha:
            pixels = frame.reformat(format="rgba64le" if deep else "rgba", **options).to_ndarray()
            # The scaler fills 10 or 12 bits up with zeros.
            if pixels[..., 3].min() < (65280 if deep else 255):
                raise self._transparency_error()
            pixels = pixels[..., :3]
        else:
            pixels = frame.reformat(format="rgb48le" if deep else "rgb24", **options).to_ndarray()
        return np.asarray(pixels)

    def _quarter_turns(self, frame: Any) -> int:
        degrees = int(frame.rotation)
        if degrees % 90:
            raise InputFileError(
                f"read {self._path}: expected frames turned by a multiple of 90 degrees, got "
                f"{degrees}; turn it upright first"
            )
        return degrees // 90 % 4

    def _transparency_error(self) -> InputFileError:
        return InputFileError(
            f"read {self._path}: expected opaque frames, got transparency; put it on a background "
            "first"
        )


def _missing_frames_text(container: Any, stream: Any, count: int, shown: Fraction) -> str:
    """Compare the frames that came, and the seconds they show, with what the file declares."""
    missing = stream.frames - count
    if missing > 0 and not stream.start_time:
        return f"{missing} of {stream.frames} frames are missing"
    declared = _declared_seconds(container, stream)
    if declared is None or shown + Fraction(3, 2) / (stream.average_rate or 25) >= declared:
        return ""
    return f"the file ends at {float(shown):.2f} s of {float(declared):.2f} s"


def _declared_seconds(container: Any, stream: Any) -> Fraction | None:
    """Return the length of the video that the file declares, in seconds; None if it has none."""
    if stream.duration:
        return Fraction(stream.duration * stream.time_base)
    # Exponents are not matched: a fraction of 1e99999999 would be computed.
    clock = _CLOCK.fullmatch(stream.metadata.get("DURATION", ""))
    if clock is not None:
        hours, minutes, seconds = (Fraction(part) for part in clock.groups())
        return hours * 3600 + minutes * 60 + seconds
    if container.duration and len(container.streams) == 1:
        return Fraction(container.duration, 1_000_000)
    return None


def serve(
    path: Path, parameters: Mapping[str, Any], reserve_memory: Callable[[int], None]
) -> Iterator[tuple[str, dict[str, Any], NDArray[Any] | None]]:
    """Yield a video's description, comment or frames; see `convnd.io.worker.worker`."""
    decoder = VideoDecoder(path, int(parameters["max_frame"]), reserve_memory)
    if parameters["what"] == "describe":
        yield "info", decoder.describe(), None
    elif parameters["what"] == "comment":
        yield "comment", {"text": decoder.comment()}, None
    else:
        end = None if parameters["end"] is None else Fraction(parameters["end"])
        for pts, pixels in decoder.frames(Fraction(parameters["start"]), end):
            yield ("alive" if pixels is None else "array"), {"pts": pts}, pixels
        yield "end", {"damage": decoder.damage}, None
