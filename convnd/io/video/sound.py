"""Copies the sound of a video, packet by packet, without decoding it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from convnd.io.video.types import VideoInfo

__all__ = ["SoundCopier"]

_TAGS = ("language", "title", "name", "handler_name")


class SoundCopier:
    """Copies the packets of all sound tracks whose codec is known, with their languages.

    Args:
        source: the opened source.
        out: the opened result.
        info: description of the source.
        origin: time of the source that becomes 0 in the result, in ticks of ``info.time_base``.
        is_part: whether the result begins later than the source; earlier sound is left out.
        end: seconds after the first frame where the sound ends; None is its own end.
    """

    def __init__(
        self,
        source: Any,
        out: Any,
        info: VideoInfo,
        origin: int,
        *,
        is_part: bool,
        end: Fraction | None,
    ) -> None:
        tracks = [track for track in source.streams.audio if track.codec_context is not None]
        self._streams = {track.index: _copy_track(track, out) for track in tracks}
        self._origin = origin * info.time_base
        self._first = self._origin if is_part else None
        self._end = None if end is None else info.start * info.time_base + end
        self._packets = source.demux(*tracks)
        self._out = out
        self._waiting: Any = None
        self._last: dict[int, tuple[int, int]] = {}  # time of decoding, offset of a track

    def copy_until(self, time: Fraction | None) -> None:
        """Copy packets before ``time``, in seconds; None for all that are left."""
        while True:
            packet = self._waiting if self._waiting is not None else next(self._packets, None)
            self._waiting = None
            if packet is None:
                return
            packet.dts = packet.pts if packet.dts is None else packet.dts
            packet.pts = packet.dts if packet.pts is None else packet.pts
            if not packet.size or packet.pts is None:
                continue
            packet_time = packet.pts * packet.time_base
            if self._first is not None and packet_time < self._first:
                continue
            if self._end is not None and packet_time >= self._end:
                continue
            if time is not None and packet_time >= time:
                self._waiting = packet
                return
            self._write(packet)

    def _write(self, packet: Any) -> None:
        """Write a packet; where times of a track jump back, the rest follows on."""
        track = packet.stream.index
        before, offset = self._last.get(track, (None, 0))
        dts = packet.dts + offset
        if before is not None and dts <= before:
            offset += before + max(1, packet.duration or 1) - dts
            dts = packet.dts + offset
        self._last[track] = dts, offset
        shift = offset - round(self._origin / packet.time_base)
        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
        packet.stream = self._streams[track]
        self._out.mux(packet)


def _copy_track(track: Any, out: Any) -> Any:
    copy = out.add_stream_from_template(track)
    for key in _TAGS:
        if key in track.metadata:
            copy.metadata[key] = track.metadata[key]
    if "name" in track.metadata:  # MP4 has names there, and FFmpeg writes them from "title"
        copy.metadata["title"] = copy.metadata.pop("name")
    copy.disposition = track.disposition
    return copy
