"""Decodes videos with PyAV, in the child process of `convnd.io.worker.client`.

FFmpeg is a million lines of C, and the files are untrusted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.atomic import error_text
from convnd.io.reading import check_limit, check_positions, too_large_error, translate_errors
from convnd.io.video import apng, gif
from convnd.io.video.deinterlacing import Deinterlacer
from convnd.io.video.description import chapters, color_tags, frame_count, remarks, texts
from convnd.io.video.pixels import Orientation, open_container, orientation, pyav, rgb_pixels
from convnd.io.video.timing import FrameClock, last_duration, missing_text, stream_offset
from convnd.io.video.tone_mapping import HLG, PQ, tone_map
from convnd.io.video.types import damaged_frames_text, transparency_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["VideoDecoder"]

_BT2020, _UNSPECIFIED = 9, 2
BYTES_PER_PIXEL = 128
"""Bytes per pixel of a frame: 16 reference frames, some more for each thread, of up to 16 bits."""
_MOST_PACKETS = 2**21  # 24 bytes each: half a day of sound


class VideoDecoder:
    """Decodes one video file.

    Args:
        path: an existing file.
        max_frame: largest number of pixels of a frame.
        reserve_memory: is called with the number of bytes that decoding will need.
        deinterlace: whether frames of two fields are turned into progressive ones.
        tone_map: whether high dynamic range is brought into BT.709.

    Raises:
        DependencyError: PyAV is missing.
    """

    def __init__(
        self,
        path: Path,
        max_frame: int,
        reserve_memory: Callable[[int], None] = lambda _: None,
        *,
        deinterlace: bool = False,
        tone_map: bool = False,
    ) -> None:
        self._av = pyav()
        self._path = path
        self._max_frame = max_frame
        self._reserve_memory = reserve_memory
        self._deinterlace = deinterlace
        self._tone_map = tone_map
        self.damage = ""
        self._orientations: dict[int, Orientation] = {}

    def describe(self) -> dict[str, Any]:
        """Return the fields of `convnd.io.video.types.VideoInfo` as JSON types.

        Raises:
            InputFileError: damaged, without a video stream or frames, too large, HDR, or with
                transparency.
        """
        with self._open() as (container, stream):
            self._check_tables(container)
            self._check_stream(stream)
            first = next(self._timed_frames(container, stream), None)
            if first is None:
                raise InputFileError(
                    f"read {self._path}",
                    expected="at least one frame",
                    got=self.damage or "none",
                    remedy="save it again",
                )
            time, frame = first
            is_interlaced, color_range = frame.interlaced_frame, int(frame.color_range)
            swaps_axes = self._orientation(frame).swaps
            mapped = self._is_mapped(frame)
            aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
            context = stream.codec_context
            rate = stream.average_rate or stream.guessed_rate
            return {
                "size": self._pixels(frame).shape[:2],
                "time_base": str(Fraction(stream.time_base)),
                "start": time,
                "offset": stream_offset(container, stream),
                "rate": None if rate is None else str(Fraction(rate)),
                "frames": frame_count(stream),
                "aspect": str(1 / aspect if swaps_axes else aspect),
                **color_tags(context, color_range, mapped=mapped),
                "audio": [
                    sound.codec_context.codec.canonical_name
                    for sound in container.streams.audio
                    if sound.codec_context is not None
                ],
                "tags": texts(container.metadata),
                "stream_tags": texts(stream.metadata),
                "chapters": chapters(container),
                "loops": _loop_count(self._path, container.format.name),
                "remarks": remarks(
                    container, stream, is_interlaced=is_interlaced and not self._deinterlace
                ),
            }

    def frames(
        self, start: Fraction, end: Fraction | None, *, origin: int | None = None, every: int = 1
    ) -> Iterator[tuple[int, int, NDArray[Any] | None]]:
        """Yield time, duration and pixels of each frame; the pixels of skipped frames are None.

        Skipped frames are yielded so that the parent sees that the child is at work.

        Args:
            start: seconds after the first frame; earlier frames are left out.
            end: seconds after the first frame; frames at or after it are left out.
            origin: time of the first frame, in ticks; None for the start of the stream.
            every: pixels of every n-th frame only.
        """
        self.damage = ""
        with self._open() as (container, stream):
            self._check_stream(stream)
            base = Fraction(stream.time_base)
            first = (stream.start_time or 0) if origin is None else origin
            if start > 0:
                container.seek(first + int(start / base), stream=stream, backward=True)
            limit = None if end is None else first + end / base
            pending: tuple[int, NDArray[Any]] | None = None
            last, duration, count = first, 0, 0
            whole = start <= 0 and end is None
            for time, frame in self._timed_frames(container, stream, whole=whole):
                if limit is not None and time >= limit:
                    duration = int(limit) - last
                    break
                last, duration = time, frame.duration or 0
                is_early = (time - first) * base < start
                if is_early or count % every:
                    count += not is_early
                    yield time, 0, None
                    continue
                if pending is not None:
                    yield pending[0], time - pending[0], pending[1]
                pending = time, self._pixels(frame)
                count += 1
            else:
                is_whole = not self.damage
                duration = last_duration(
                    container, stream, self._path, last, duration, whole=is_whole
                )
            if pending is not None:
                yield pending[0], max(1, last + duration - pending[0]), pending[1]

    def comment(self) -> str:
        """Return the comment of the container, which holds provenance."""
        with self._memory_errors(), open_container(self._path) as container:
            metadata = {key.lower(): value for key, value in container.metadata.items()}
        return str(metadata.get("comment", ""))

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[Any, Any]]:
        with (
            translate_errors(self._path, "a video"),
            self._memory_errors(),
            open_container(self._path) as container,
        ):
            stream = container.streams.best("video")
            if stream is None:
                raise InputFileError(
                    f"read {self._path}",
                    expected="a video stream",
                    got=", ".join(other.type for other in container.streams) or "none",
                    remedy="give another file",
                )
            if stream.codec_context is None:
                raise InputFileError(
                    f"read {self._path}",
                    expected="a codec that FFmpeg decodes",
                    got="another",
                    remedy="convert the file to H.264 first",
                )
            stream.thread_type = "AUTO"
            yield container, stream

    @contextlib.contextmanager
    def _memory_errors(self) -> Iterator[None]:
        """Turn "out of memory" into an error of the file: its header asks FFmpeg for too much."""
        try:
            yield
        except MemoryError as error:
            raise too_large_error(self._path) from error

    def _check_tables(self, container: Any) -> None:
        """Refuse tables of packets so long that copying the sound would take much memory."""
        # An index that did not fit into the memory of this process is empty.
        count = sum(max(len(part.index_entries), part.frames) for part in container.streams)
        what = "packets in the tables of the file"
        check_limit(self._path, count, _MOST_PACKETS, what, "split it, or save it again")

    def _check_stream(self, stream: Any) -> None:
        context = stream.codec_context
        check_positions(self._path, (context.height, context.width), self._max_frame)
        self._reserve_memory(BYTES_PER_PIXEL * context.height * context.width)
        self._is_mapped(context)
        if stream.metadata.get("alpha_mode") == "1":
            raise transparency_error(self._path)

    def _is_mapped(self, tagged: Any) -> bool:
        """Whether the tags of a stream or a frame declare high dynamic range.

        Raises:
            InputFileError: they do, and ``tone_map`` is false.
        """
        depth = max((part.bits for part in tagged.format.components), default=8)
        transfer = int(tagged.color_trc)
        if transfer in (PQ, HLG) or (depth > 8 and int(tagged.color_primaries) == _BT2020):
            if self._tone_map:
                return True
            name = {PQ: "HDR (PQ)", HLG: "HDR (HLG)"}.get(transfer, "BT.2020")
            raise InputFileError(
                f"read {self._path}",
                expected="a video in standard dynamic range",
                got=f"{name} of {depth} bits",
                remedy="bring it into BT.709 (--tone-map)",
            )
        return False

    def _timed_frames(
        self, container: Any, stream: Any, *, whole: bool = False
    ) -> Iterator[tuple[int, Any]]:
        """Yield time and frame of each good frame; ``whole`` looks for missing ones at the end."""
        clock = FrameClock(stream, is_avi=container.format.name == "avi")
        deinterlacer = Deinterlacer(self._av, stream) if self._deinterlace else None
        lost_frames, last, duration = 0, 0, 0
        for frame in self._raw_frames(container, stream, clock):
            time = None if frame is None else clock.time_of(frame)
            if time is None or frame.is_corrupt:
                lost_frames += 1
                continue
            last, duration = time, frame.duration or 0
            if deinterlacer is None:
                yield time, frame
            else:
                yield from deinterlacer.add(time, frame)
        if deinterlacer is not None:
            yield from deinterlacer.finish()
        if lost_frames:
            self.damage = damaged_frames_text(lost_frames)
        elif whole and not self.damage:
            end = last + duration
            self.damage = missing_text(container, stream, self._path, self._packets, end)

    def _raw_frames(self, container: Any, stream: Any, clock: FrameClock) -> Iterator[Any]:
        """Yield frames as PyAV decodes them; None for each packet that cannot be decoded."""
        packets = container.demux(stream)
        self._packets = 0
        while True:
            try:
                packet = next(packets, None)
            except self._av.error.FFmpegError as error:
                self.damage = f"the file ends early ('{error_text(error)}')"
                return
            if packet is None:
                break
            self._packets += packet.dts is not None or packet.size > 0
            if not packet.size:  # of AVI: the frame before stays; it would end the decoder
                continue
            if packet.is_corrupt:
                yield None
                continue
            clock.add_packet(packet)
            try:
                frames = packet.decode()
            except self._av.error.FFmpegError:
                clock.drop_packet(packet)
                yield None
                continue
            yield from frames
        with contextlib.suppress(self._av.error.FFmpegError):
            yield from stream.decode(None)

    def _pixels(self, frame: Any) -> NDArray[Any]:
        """Upright R, G, B of a frame."""
        check_positions(self._path, (frame.height, frame.width), self._max_frame)
        if not self._is_mapped(frame):
            return self._orientation(frame).apply(rgb_pixels(frame, self._path))
        import numpy as np

        transfer, is_wide = int(frame.color_trc), int(frame.color_primaries) == _BT2020
        if int(frame.colorspace) == _UNSPECIFIED:
            frame.colorspace = _BT2020
        pixels = rgb_pixels(frame, self._path)
        codes = pixels.astype(np.float32) / np.float32(255 if pixels.itemsize == 1 else 65535)
        mapped = tone_map(codes, transfer, is_wide=is_wide)
        return self._orientation(frame).apply(np.round(65535 * mapped).astype(np.uint16))

    def _orientation(self, frame: Any) -> Orientation:
        """The orientation of a frame; looked up once for each rotation.

        A frame whose side data was read refers to itself, and stays until garbage is collected.
        """
        rotation = int(frame.rotation)
        if rotation not in self._orientations:
            self._orientations[rotation] = orientation(frame, self._path)
        return self._orientations[rotation]


def _loop_count(path: Path, container: str) -> int:
    """Return how many times a video plays; 0 means forever."""
    count = {"gif": gif.loop_count, "apng": apng.loop_count}.get(container)
    return 0 if count is None else count(path)
