"""Small videos of several containers and codecs, and what stands in a file."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

__all__ = ["TICK", "packet_times", "picture", "remux", "request_here", "write_video_file"]

TICK = Fraction(1, 90000)


@contextlib.contextmanager
def request_here(
    path: Path, message: Mapping[str, Any], **_: Any
) -> Iterator[Iterator[tuple[dict[str, Any], Any]]]:
    """Stand in for `convnd.io.worker.client.request`: decode in this process, which is quicker."""

    def answers() -> Iterator[tuple[dict[str, Any], Any]]:
        from convnd.io.video import decoder

        for kind, fields, array in decoder.serve(path, message, lambda _: None):
            yield json.loads(json.dumps({"kind": kind, **fields})), array

    yield answers()


def picture(number: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """Patches of colour, others in every frame."""
    grid = np.random.default_rng(number).integers(40, 210, (height // 16 + 1, width // 16 + 1, 3))
    return grid.repeat(16, 0).repeat(16, 1)[:height, :width].astype(np.uint8)


def write_video_file(
    path: Path,
    times: Sequence[int] = tuple(range(0, 8 * 3600, 3600)),
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    base: Fraction = TICK,
    last: int = 0,
    size: tuple[int, int] = (48, 64),
    aspect: Fraction = Fraction(1),
    tracks: Sequence[str] = (),
    sound_codec: str = "aac",
    metadata: Mapping[str, str] | None = None,
    chapters: Sequence[tuple[int, int, str]] = (),
    interlaced: bool = False,
) -> Path:
    """Write a video with PyAV alone.

    Args:
        path: its suffix selects the container.
        times: of the frames, in ticks of ``base``.
        codec: of the frames.
        pix_fmt: of the frames.
        options: of the encoder.
        base: seconds of a tick.
        last: duration of the last frame, in ticks; 0 lets the container guess.
        size: height and width.
        aspect: width of a pixel divided by its height.
        tracks: language of each sound track.
        sound_codec: of all of them.
        metadata: tags of the file.
        chapters: start and end in milliseconds, and title.
        interlaced: two fields of neighbouring pictures in each frame.
    """
    height, width = size
    with av.open(str(path), "w") as out:
        out.metadata.update(metadata or {})
        if chapters:
            parts = enumerate(chapters, 1)
            out.set_chapters(
                [
                    {
                        "id": number,
                        "start": start,
                        "end": end,
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": title},
                    }
                    for number, (start, end, title) in parts
                ]
            )
        stream: Any = out.add_stream(codec, rate=25, options=dict(options or {}))
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = base
        stream.codec_context.sample_aspect_ratio = aspect
        sounds = [_add_track(out, sound_codec, language) for language in tracks]
        for number, time in enumerate(times):
            pixels = picture(number, height, width)
            if interlaced:
                pixels[1::2] = picture(number + 1, height, width)[1::2]
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = time, base
            for packet in stream.encode(frame):
                out.mux(_with_duration(packet, times, last))
        for packet in stream.encode(None):
            out.mux(_with_duration(packet, times, last))
        seconds = (times[-1] + last) * base
        for sound in sounds:
            _fill_track(out, sound, max(1, round(seconds * 48000 / 1024)))
    return path


def _with_duration(packet: Any, times: Sequence[int], last: int) -> Any:
    if last and packet.pts == times[-1]:
        packet.duration = last
    return packet


def _add_track(out: Any, codec: str, language: str) -> Any:
    sound = out.add_stream(codec, rate=48000)
    sound.layout = "mono"
    sound.metadata["language"] = language
    return sound


def _fill_track(out: Any, sound: Any, count: int) -> None:
    kind = sound.codec_context.format.name
    for number in range(count):
        tone = np.sin(np.arange(1024)[None] * (0.05 + number / 100))
        codes = tone * 20000 if kind.startswith("s16") else tone
        codes = codes.astype(np.int16 if kind.startswith("s16") else np.float32)
        frame = av.AudioFrame.from_ndarray(codes, format=kind, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, 1024 * number, Fraction(1, 48000)
        out.mux(sound.encode(frame))
    out.mux(sound.encode(None))


def remux(
    source: Path, target: Path, shift: Fraction, options: Mapping[str, str] | None = None
) -> Path:
    """Copy packets into another container; their times grow by ``shift`` seconds."""
    with (
        av.open(str(source)) as file,
        av.open(str(target), "w", options=dict(options or {})) as out,
    ):
        streams = {
            stream.index: out.add_stream_from_template(stream)
            for stream in file.streams
            if stream.type in ("video", "audio")
        }
        for packet in file.demux(*(file.streams[index] for index in streams)):
            if not packet.size:
                continue
            ticks = round(shift / packet.time_base)
            packet.pts = (packet.pts or 0) + ticks
            if packet.dts is not None:
                packet.dts += ticks
            packet.stream = streams[packet.stream.index]
            out.mux(packet)
    return target


def packet_times(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    """Time and bytes of each packet of the first stream of a kind, "video" or "audio"."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in container.demux(stream)
            if packet.size
        ]
