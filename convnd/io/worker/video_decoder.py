"""What decodes a clip with PyAV: it runs in a process of its own, see `convnd.io.worker.client`.

FFmpeg is a million lines of C that are given files from anywhere.
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
from convnd.io.reading import check_positions, too_large_error, translate_errors
from convnd.io.signals.signal import import_optional
from convnd.io.video.types import ColorTags, damaged_frames_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SCALER_FLAGS", "VideoDecoder", "matrix_code", "pyav", "serve"]

_PQ, _HLG, _BT2020 = 16, 18, 9
_UNSAID = 2
_CLOCK = re.compile(r"(\d{1,9}):(\d{1,9}):(\d{1,9}(?:\.\d{1,12})?)", re.ASCII)
SCALER_FLAGS = 2 | 0x2000 | 0x40000
"""Bilinear, chroma for every pixel, accurate rounding: without these flags the scaler's shortcuts
darken every picture by more than one code each way."""
BYTES_PER_PIXEL = 128
"""Bytes for each pixel of a frame: 16 frames to look back to, some in each thread, deep ones."""
_MPEG, _JPEG = 1, 2  # limited and full range
# Codes of ISO/IEC 23091-4 to those of the scaler.
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}


def pyav() -> Any:
    """The package that decodes and encodes, made to keep its remarks to itself.

    Raises:
        DependencyError: it is not installed.
    """
    av = import_optional("av", "video", extra="video")
    av.logging.set_level(None)
    return av


def matrix_code(tags: ColorTags, height: int) -> int:
    """The scaler's code of a clip's matrix; where it is not said, what players take.

    >>> matrix_code(ColorTags(matrix=6), 1080), matrix_code(ColorTags(), 1080)
    (5, 1)
    """
    return _MATRICES.get(tags.matrix, 1 if height >= 720 else 5)


class VideoDecoder:
    """A clip in a file.

    Args:
        path: an existing file.
        max_frame: largest number of pixels of a frame.
        grant: is called with the bytes that decoding will need.

    Raises:
        DependencyError: PyAV is missing.
    """

    def __init__(
        self, path: Path, max_frame: int, grant: Callable[[int], None] = lambda _: None
    ) -> None:
        self._av = pyav()
        self._path = path
        self._max_frame = max_frame
        self._grant = grant
        self.damage = ""

    def describe(self) -> dict[str, Any]:
        """What `convnd.io.video.types.VideoInfo` wants to know, in words of JSON.

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
            _, pixels, turned, range_ = first
            aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
            context = stream.codec_context
            others = {each.type for each in container.streams} - {"video", "audio", "data"}
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
                "aspect": str(1 / aspect if turned % 2 else aspect),
                "full_range": {_MPEG: False, _JPEG: True}.get(range_),
                "primaries": int(context.color_primaries),
                "transfer": int(context.color_trc),
                "matrix": int(context.colorspace),
                "audio": [
                    each.codec_context.codec.canonical_name for each in container.streams.audio
                ],
                "remarks": remarks,
            }

    def frames(
        self, start: Fraction, end: Fraction | None
    ) -> Iterator[tuple[int, NDArray[Any] | None]]:
        """Time and pixels of each frame; None for those before ``start``, which show life."""
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
        """The comment of the container, where records are."""
        with self._too_much(), self._av.open(str(self._path)) as container:
            told = {key.lower(): value for key, value in container.metadata.items()}
        return str(told.get("comment", ""))

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[Any, Any]]:
        with (
            translate_errors(self._path, "a clip"),
            self._too_much(),
            self._av.open(str(self._path)) as container,
        ):
            stream = container.streams.best("video")
            if stream is None:
                raise InputFileError(
                    f"read {self._path}: expected a video stream, got "
                    f"{', '.join(each.type for each in container.streams) or 'none'}; "
                    "give another file"
                )
            stream.thread_type = "AUTO"
            yield container, stream

    @contextlib.contextmanager
    def _too_much(self) -> Iterator[None]:
        """FFmpeg says that memory is out where a header asks for more than it ever gives."""
        try:
            yield
        except MemoryError as error:
            raise too_large_error(self._path) from error

    def _check_stream(self, stream: Any) -> None:
        context = stream.codec_context
        check_positions(self._path, (context.height, context.width), self._max_frame)
        self._grant(BYTES_PER_PIXEL * context.height * context.width)
        depth = max((each.bits for each in context.format.components), default=8)
        if int(context.color_trc) in (_PQ, _HLG) or (
            depth > 8 and int(context.color_primaries) == _BT2020
        ):
            name = {_PQ: "HDR (PQ)", _HLG: "HDR (HLG)"}.get(int(context.color_trc), "BT.2020")
            raise InputFileError(
                f"read {self._path}: expected a clip in standard dynamic range, got {name} of "
                f"{depth} bits; convert it to BT.709 first"
            )
        if stream.metadata.get("alpha_mode") == "1":
            raise self._transparent()

    def _decoded(
        self, container: Any, stream: Any, end: Fraction | None, *, whole: bool = False
    ) -> Iterator[tuple[int, NDArray[Any], int, int]]:
        """Time, upright pixels, quarter turns and range of each good frame before ``end``.

        ``whole`` compares what came with what the file says it has.
        """
        import numpy as np

        lost, count = 0, 0
        first = stream.start_time or 0
        before: int | None = None
        length = 0
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except self._av.error.FFmpegError as error:
                self.damage = f"the file ends early ('{error_text(error)}')"
                break
            if packet is None:
                break
            if packet.is_corrupt:
                lost += 1
                continue
            try:
                found = packet.decode()
            except self._av.error.FFmpegError:
                lost += 1
                continue
            for frame in found:
                if (
                    frame.is_corrupt
                    or frame.pts is None
                    or (before is not None and frame.pts <= before)
                ):
                    lost += 1
                    continue
                if end is not None and (frame.pts - first) * stream.time_base >= end:
                    return
                before, length = frame.pts, frame.duration or 0
                count += 1
                turns = self._quarter_turns(frame)
                pixels = np.ascontiguousarray(np.rot90(self._pixels(frame), turns))
                yield frame.pts, pixels, turns, int(frame.color_range)
        if lost:
            self.damage = damaged_frames_text(lost)
        elif whole and not self.damage and before is not None:
            missing = stream.frames - count
            told = _declared_end(container, stream)
            shown = (before + length - first) * stream.time_base
            if missing > 0 and not first:
                self.damage = f"{missing} of {stream.frames} frames are missing"
            elif told is not None and shown + Fraction(3, 2) / (stream.average_rate or 25) < told:
                self.damage = f"the file ends at {float(shown):.2f} s of {float(told):.2f} s"

    def _pixels(self, frame: Any) -> NDArray[Any]:
        check_positions(self._path, (frame.height, frame.width), self._max_frame)
        parts = frame.format.components
        deep = max(each.bits for each in parts) > 8
        # The scaler would convert between transfer curves and primaries, too, if it knew them.
        tags = ColorTags(matrix=int(frame.colorspace))
        frame.color_primaries, frame.color_trc = _UNSAID, _UNSAID
        options: dict[str, Any] = {"dst_color_range": _JPEG, "interpolation": SCALER_FLAGS}
        if not frame.format.is_rgb:
            options |= {
                "src_colorspace": matrix_code(tags, frame.height),
                "src_color_range": int(frame.color_range) or _MPEG,
            }
        alpha = frame.format.name == "pal8" or any(each.is_alpha for each in parts)
        if alpha:
            pixels = frame.reformat(format="rgba64le" if deep else "rgba", **options).to_ndarray()
            # The scaler fills 10 or 12 bits up with zeros.
            if pixels[..., 3].min() < (65280 if deep else 255):
                raise self._transparent()
            kept: NDArray[Any] = pixels[..., :3]
            return kept
        found: NDArray[Any] = frame.reformat(
            format="rgb48le" if deep else "rgb24", **options
        ).to_ndarray()
        return found

    def _quarter_turns(self, frame: Any) -> int:
        turned = int(frame.rotation)
        if turned % 90:
            raise InputFileError(
                f"read {self._path}: expected frames turned by a multiple of 90 degrees, got "
                f"{turned}; turn it upright first"
            )
        return turned // 90 % 4

    def _transparent(self) -> InputFileError:
        return InputFileError(
            f"read {self._path}: expected opaque frames, got transparency; put it on a background "
            "first"
        )


def _declared_end(container: Any, stream: Any) -> Fraction | None:
    """Seconds of pictures that the file says it has."""
    if stream.duration:
        return Fraction(stream.duration * stream.time_base)
    # No exponents: a fraction of 1e99999999 would be worked out.
    told = _CLOCK.fullmatch(stream.metadata.get("DURATION", ""))
    if told is not None:
        hours, minutes, seconds = (Fraction(part) for part in told.groups())
        return hours * 3600 + minutes * 60 + seconds
    if container.duration and len(container.streams) == 1:
        return Fraction(container.duration, 1_000_000)
    return None


def serve(
    path: Path, asked: Mapping[str, Any], grant: Callable[[int], None]
) -> Iterator[tuple[str, dict[str, Any], NDArray[Any] | None]]:
    """Yield a video's description, comment or frames; see `convnd.io.worker.worker`."""
    decoder = VideoDecoder(path, int(asked["max_frame"]), grant)
    if asked["what"] == "describe":
        yield "info", decoder.describe(), None
    elif asked["what"] == "comment":
        yield "comment", {"text": decoder.comment()}, None
    else:
        end = None if asked["end"] is None else Fraction(asked["end"])
        for pts, pixels in decoder.frames(Fraction(asked["start"]), end):
            yield ("alive" if pixels is None else "array"), {"pts": pts}, pixels
        yield "end", {"damage": decoder.damage}, None
