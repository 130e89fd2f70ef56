"""Decodes animated WebP with Pillow, in the child process of `convnd.io.worker.client`.

FFmpeg writes animated WebP and does not decode it. Source: the WebP container specification (RIFF
chunks ``VP8X``, ``ANIM`` and ``ANMF``), https://developers.google.com/speed/webp/docs/riff_container.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from convnd.io.reading import check_positions, translate_errors
from convnd.io.video.types import transparency_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["WebpDecoder", "is_webp", "set_last_delay"]

BYTES_PER_PIXEL = 32
"""Bytes per pixel of a frame: canvas, frame and copies of four colours."""
_TICK = Fraction(1, 1000)
_STILL = 40  # ms that a still picture is shown
_DURATION = 12  # bytes of an ANMF chunk before its duration


def is_webp(path: Path) -> bool:
    """Whether a file begins as WebP does."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[:4] == b"RIFF" and head[8:] == b"WEBP"


class WebpDecoder:
    """Decodes one animated WebP; see `convnd.io.video.decoding.VideoDecoder`.

    Args:
        path: an existing file.
        max_frame: largest number of pixels of a frame.
        reserve_memory: is called with the number of bytes that decoding will need.

    Attributes:
        damage: always "": a damaged file is refused.
    """

    damage = ""

    def __init__(
        self, path: Path, max_frame: int, reserve_memory: Callable[[int], None] = lambda _: None
    ) -> None:
        self._path = path
        self._max_frame = max_frame
        self._reserve_memory = reserve_memory
        self._durations: list[int] = []
        self._loops, self._has_profile = 1, False
        with path.open("rb") as file:
            for name, position in _chunks(file):
                file.seek(position)
                if name == b"ANIM":
                    self._loops = int.from_bytes(file.read(6)[4:], "little")
                elif name == b"ANMF":
                    duration = file.read(_DURATION + 3)[_DURATION:]
                    self._durations.append(int.from_bytes(duration, "little"))
                self._has_profile |= name == b"ICCP"
        self._durations = self._durations or [_STILL]

    def describe(self) -> dict[str, Any]:
        """Return the fields of `convnd.io.video.types.VideoInfo` as JSON types.

        Raises:
            InputFileError: damaged, too large, or with transparency.
        """
        first = next(self._pixels())
        total = sum(self._durations)
        remark = "its colour profile is not used: colours are taken as sRGB"
        return {
            "size": first.shape[:2],
            "time_base": str(_TICK),
            "start": 0,
            "offset": 0,
            "rate": str(len(self._durations) / (total * _TICK)) if total else None,
            "frames": len(self._durations),
            "aspect": "1",
            **{"full_range": True, "primaries": 1, "transfer": 13, "matrix": 0},
            **{"audio": [], "tags": {}, "stream_tags": {}, "chapters": []},
            "loops": self._loops,
            "remarks": [remark] if self._has_profile else [],
        }

    def frames(
        self, start: Fraction, end: Fraction | None, *, origin: int | None = None, every: int = 1
    ) -> Iterator[tuple[int, int, NDArray[Any] | None]]:
        """See `convnd.io.video.decoding.VideoDecoder.frames`."""
        del origin
        limit = None if end is None else end / _TICK
        times = [0]
        for duration in self._durations:
            times.append(times[-1] + max(1, duration))
        first = next((k for k, time in enumerate(times) if time * _TICK >= start), len(times))
        for number, pixels in enumerate(self._pixels()):
            if limit is not None and times[number] >= limit:
                return
            if number < first or (number - first) % every:
                yield times[number], 0, None
                continue
            following = times[min(number + every, len(times) - 1)]
            if limit is not None:
                following = min(following, int(limit))
            yield times[number], max(1, following - times[number]), pixels

    def comment(self) -> str:
        """Return "": the provenance of an animated WebP is in a sidecar file."""
        return ""

    def _pixels(self) -> Iterator[NDArray[Any]]:
        import numpy as np
        from PIL import Image

        with (
            translate_errors(self._path, "an animated WebP"),
            Image.open(self._path, formats=("WEBP",)) as picture,
        ):
            check_positions(self._path, picture.size, self._max_frame)
            self._reserve_memory(BYTES_PER_PIXEL * picture.width * picture.height)
            for number in range(len(self._durations)):
                picture.seek(number)
                codes = np.asarray(picture.convert("RGBA"))
                if codes[..., 3].min() < 255:
                    raise transparency_error(self._path)
                yield np.ascontiguousarray(codes[..., :3])


def set_last_delay(path: Path, milliseconds: int) -> None:
    """Write the duration of the last frame; FFmpeg repeats that of the one before.

    Args:
        path: an animated WebP.
        milliseconds: at most 16777215.
    """
    with path.open("r+b") as file:
        last = max((place for name, place in _chunks(file) if name == b"ANMF"), default=None)
        if last is not None:
            file.seek(last + _DURATION)
            file.write(min(milliseconds, 2**24 - 1).to_bytes(3, "little"))


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield the name of each chunk, and the position of its content."""
    position = 12
    while True:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            return
        yield head[:4], position + 8
        length = int.from_bytes(head[4:], "little")
        position += 8 + length + length % 2
