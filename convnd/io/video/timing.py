"""Repairs wrong times of decoded frames, and finds what is missing at the end of a file."""

from __future__ import annotations

import heapq
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

from convnd.io.video.mp4 import track_end

__all__ = ["FrameClock", "last_duration", "missing_text", "stream_offset"]

# Exponents are not matched: a fraction of 1e99999999 would be computed.
_CLOCK = re.compile(r"(\d{1,9}):(\d{1,9}):(\d{1,9}(?:\.\d{1,12})?)", re.ASCII)
_JUMP = 1  # seconds backwards that are a new recording in the same file


class FrameClock:
    """Gives each decoded frame its time; times rise strictly.

    AVI stores no times of display: the n-th frame that is shown gets the n-th time of its packets.
    In other containers each frame has its own time. After a jump back, as in joined transport
    streams, later times are shifted to follow. A single time that does not rise is increased.

    Args:
        stream: the video stream.
        is_avi: whether the container is AVI.
    """

    def __init__(self, stream: Any, *, is_avi: bool) -> None:
        base = Fraction(stream.time_base)
        rate = stream.average_rate or stream.guessed_rate or 25
        self._step = max(1, round(1 / (rate * base)))
        self._jump = _JUMP / base
        self._is_avi = is_avi
        self._pending: list[int] = []
        self._offset = 0
        self._previous: int | None = None

    def add_packet(self, packet: Any) -> None:
        """Note a packet that the decoder gets."""
        if self._is_avi and packet.dts is not None and packet.size:
            heapq.heappush(self._pending, packet.pts if packet.pts is not None else packet.dts)

    def drop_packet(self, packet: Any) -> None:
        """Forget a packet that cannot be decoded."""
        time = packet.pts if packet.pts is not None else packet.dts
        if time in self._pending:
            self._pending.remove(time)
            heapq.heapify(self._pending)

    def time_of(self, frame: Any) -> int:
        """Return the time of the next frame, in ticks."""
        time = heapq.heappop(self._pending) if self._pending else frame.pts
        previous = self._previous
        if time is None:
            time = frame.dts if frame.dts is not None else (previous or 0) + self._step
        time += self._offset
        if previous is not None and time <= previous:
            if previous - time > self._jump:
                self._offset += previous + self._step - time
                time = previous + self._step
            else:
                time = previous + 1
        self._previous = time
        return int(time)


def stream_offset(container: Any, stream: Any) -> int:
    """Return the time, in ticks of a stream, at which the first stream of a file begins.

    It is 0 for files that begin at 0 or before.
    """
    starts = [
        Fraction(other.start_time * other.time_base)
        for other in container.streams
        if other.type in ("video", "audio") and other.start_time is not None
    ]
    return max(0, int(min(starts, default=Fraction(0)) / stream.time_base))


def missing_text(container: Any, stream: Any, path: Path, packets: int, end: int) -> str:
    """Describe what a file declares and does not contain; "" if it is complete.

    Args:
        container: the file, read to its end.
        stream: its video stream.
        path: its name.
        packets: number of packets that came.
        end: time at which the last frame ends, in ticks.
    """
    name = container.format.name
    if "mp4" in name or name == "avi":
        # An edit list leaves out frames of the index, and an index holds more than is there.
        declared = len(stream.index_entries) if "mp4" in name else _avi_frames(stream, path)
        missing = declared - packets
        return f"{missing} of {declared} frames are missing" if missing > 0 else ""
    seconds = _declared_end(container, stream)
    end_time = end * Fraction(stream.time_base)
    if seconds is None or end_time + Fraction(3, 2) / (stream.average_rate or 25) >= seconds:
        return ""
    return f"the file ends at {float(end_time):.2f} s of {float(seconds):.2f} s"


def last_duration(
    container: Any, stream: Any, path: Path, last: int, declared: int, *, whole: bool
) -> int:
    """Return how long the last frame of a file is shown, in ticks.

    Args:
        container: the file.
        stream: its video stream.
        path: its name.
        last: time of the frame.
        declared: duration that the frame itself has; 0 if it has none.
        whole: whether the file is complete.
    """
    base = Fraction(stream.time_base)
    usual = declared or max(1, round(1 / ((stream.average_rate or 25) * base)))
    end: tuple[Fraction, Fraction] | None = None
    if whole and "mp4" in container.format.name:
        end = track_end(path, stream.id)
    elif whole and "matroska" in container.format.name:
        seconds = _tagged_duration(stream)
        end = None if seconds is None else (seconds, base)
    if end is None:
        return usual
    duration = round(end[0] / base) - last
    if duration <= 0 or abs(duration - usual) * base <= end[1]:
        return usual
    return duration


def _avi_frames(stream: Any, path: Path) -> int:
    """Frames that an AVI file declares; 0 if it is as long as its header says."""
    with path.open("rb") as file:
        header = file.read(8)
    is_whole = path.stat().st_size >= int.from_bytes(header[4:8], "little") + 8
    return 0 if is_whole else int(stream.frames)


def _declared_end(container: Any, stream: Any) -> Fraction | None:
    """The second at which a file says that its video ends; None if it does not."""
    if stream.duration:  # in ASF from 0, elsewhere from the first frame
        return Fraction(stream.duration * stream.time_base)
    tagged = _tagged_duration(stream)
    if tagged is not None:
        return tagged
    if container.duration and len(container.streams) == 1:
        return Fraction(container.duration, 1_000_000)
    return None


def _tagged_duration(stream: Any) -> Fraction | None:
    """The tag of Matroska, which counts from 0 rather than from the first frame."""
    clock = _CLOCK.fullmatch(stream.metadata.get("DURATION", ""))
    if clock is None:
        return None
    hours, minutes, seconds = (Fraction(part) for part in clock.groups())
    return hours * 3600 + minutes * 60 + seconds
