"""Video files: MP4, MOV, Matroska, WebM, AVI and animated GIF, decoded in a child process.

Times are exactly those of the file. The display matrix is applied, so that frames stand upright.
HDR (PQ, HLG, deep BT.2020) and transparency are refused, since results of 8 bits cannot hold them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.provenance import parse_provenance
from convnd.io.reading import check_file, check_positions, size_limit, translate_errors
from convnd.io.registry import Format
from convnd.io.video.codecs import Encoding
from convnd.io.video.types import VIDEO_SUFFIXES, Chapter, ColorTags, VideoFrame, VideoInfo
from convnd.io.worker.client import request

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["FORMATS", "MAX_FRAME", "MAX_PIXELS", "VideoFile"]

MAX_FRAME = 2**25
"""Largest number of pixels of a frame: 8K."""

_LONGEST = 2**40  # ticks of a frame

MAX_PIXELS = 2**28
"""Largest number of pixels of a whole video that is read into one grid: 3 GiB as float32."""


class VideoFile:
    """A video in a file; see `convnd.io.video.types.Video`. A child process decodes it.

    Args:
        path: an existing file.
        deinterlace: whether frames of two fields are turned into progressive ones.
        tone_map: whether high dynamic range is brought into BT.709; it is refused otherwise.
        timeout: seconds without a frame before the child is ended; None for
            `convnd.io.worker.client.TIMEOUT`.
        command: starts the child; None for `convnd.io.worker.client.COMMAND`.

    Raises:
        InputFileError: missing, damaged, without a video stream or frames, too large, HDR, or
            with transparency; or the decoder hangs, dies, or asks for too much memory.
        DependencyError: PyAV is missing.
    """

    def __init__(
        self,
        path: Path,
        *,
        deinterlace: bool = False,
        tone_map: bool = False,
        timeout: float | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        check_file(path)
        self._path = path
        self._choices = {"deinterlace": deinterlace, "tone_map": tone_map}
        self._options: dict[str, Any] = {"timeout": timeout, "command": command}
        self.damage = ""
        self.info = VideoInfo(path=path, size=(1, 1), time_base=Fraction(1))
        with self._request(what="describe") as messages:
            self.info = _info(path, next(messages)[0])

    def frames(
        self, start: Fraction = Fraction(0), end: Fraction | None = None, every: int = 1
    ) -> Iterator[VideoFrame]:
        """See `convnd.io.video.types.Video.frames`."""
        import torch

        self.damage = ""
        limits = {"start": str(start), "end": None if end is None else str(end)}
        origin = self.info.start
        with self._request(what="frames", origin=origin, every=every, **limits) as messages:
            for message, pixels in messages:
                if message["kind"] == "end":
                    self.damage = str(message["damage"])
                if pixels is None:
                    continue
                if pixels.shape[2:] != (3,):
                    raise InputFileError(
                        f"read {self._path}",
                        expected="frames of three colours",
                        got="others",
                        remedy="the file is damaged",
                    )
                if pixels.shape[:2] != self.info.size:
                    time = (message["pts"] - self.info.start) * self.info.time_base
                    end_time = math.floor(time * 1000) / 1000  # before that frame
                    raise InputFileError(
                        f"read {self._path}",
                        expected=f"frames of {_size_text(self.info.size)} as the first",
                        got=f"{_size_text(pixels.shape)} at {end_time:.3f} s",
                        remedy=f"end there (--to {end_time:.3f}), or split it",
                    )
                white = 255.0 if pixels.itemsize == 1 else 65535.0
                planes = torch.from_numpy(pixels.astype("float32")).permute(2, 0, 1)[None]
                values = planes.contiguous().div_(white)
                yield VideoFrame(
                    int(message["pts"]),
                    values,
                    duration=min(max(0, int(message["duration"])), _LONGEST),
                )

    @contextlib.contextmanager
    def _request(self, **parameters: Any) -> Iterator[Iterator[tuple[dict[str, Any], Any]]]:
        with (
            translate_errors(self._path, "a video"),
            _request(self._path, {**parameters, **self._choices}, **self._options) as messages,
        ):
            yield messages


def _request(
    path: Path, parameters: Mapping[str, Any], **options: Any
) -> contextlib.AbstractContextManager[Iterator[tuple[dict[str, Any], Any]]]:
    largest = size_limit(None, MAX_FRAME)
    message = {"decoder": "video.decoder", "max_frame": largest, **parameters}
    return request(path, message, max_values=3 * largest, **options)


def _info(path: Path, description: Mapping[str, Any]) -> VideoInfo:
    height, width = description["size"]
    return VideoInfo(
        path=path,
        size=(height, width),
        time_base=Fraction(description["time_base"]),
        start=description["start"],
        offset=description["offset"],
        rate=None if description["rate"] is None else Fraction(description["rate"]),
        frames=description["frames"],
        aspect=Fraction(description["aspect"]),
        colors=ColorTags(
            full_range=description["full_range"],
            primaries=description["primaries"],
            transfer=description["transfer"],
            matrix=description["matrix"],
        ),
        audio=tuple(description["audio"]),
        tags=description["tags"],
        stream_tags=description["stream_tags"],
        chapters=tuple(
            Chapter(Fraction(chapter["start"]), Fraction(chapter["end"]), chapter["title"])
            for chapter in description["chapters"]
        ),
        loops=description["loops"],
        remarks=tuple(description["remarks"]),
    )


def read_video(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read a whole video into one grid, for what needs all frames at once.

    Args:
        path: an existing file.
        max_pixels: largest ``T · H · W``; None for `MAX_PIXELS`.

    Returns:
        Values ``(1, 3, T, H, W)``; the spacing along time follows from the average rate.

    Raises:
        InputFileError: as `VideoFile`; or the video is too long, or frames of it are missing.
    """
    import torch

    from convnd.grid import Grid

    video = VideoFile(path)
    limit = size_limit(max_pixels, MAX_PIXELS)
    frames: list[Any] = []
    for frame in video.frames():
        check_positions(path, (len(frames) + 1, *video.info.size), limit)
        frames.append(frame.values[0])
    if video.damage:
        raise InputFileError(
            f"read {path}",
            expected="a whole video",
            got=f"a damaged one: {video.damage}",
            remedy="convnd.io.open_video gives the good frames",
        )
    return Grid(
        values=torch.stack(frames, 1)[None],
        spacing=(float(1 / (video.info.rate or 25)), 1.0, 1.0),
        units=("s", "px", "px"),
        axes=("t", "y", "x"),
        channels=("R", "G", "B"),
        header={"video": video.info},
    )


def _write_video(
    path: Path, grid: Grid, *, provenance: Mapping[str, str], quality: int | None
) -> None:
    """Write a grid of three axes as a video of constant rate."""
    from convnd.io.video.writing import encode

    rate = Fraction(1 / grid.spacing[0]).limit_denominator(1001)
    info = VideoInfo(path=path, size=(grid.shape[1], grid.shape[2]), time_base=1 / rate, rate=rate)
    encoding = Encoding(crf=None if quality is None else round(51 * (1 - quality / 100)))
    frames = (VideoFrame(t, grid.values[:, :, t]) for t in range(grid.shape[0]))
    encode(path, info, frames, encoding=encoding, provenance=provenance)


def _size_text(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"


def _read_provenance(path: Path) -> dict[str, str]:
    with _request(path, {"what": "comment"}) as messages:
        return parse_provenance(str(next(messages)[0]["text"]))


_WRITTEN = (".mp4", ".m4v", ".mov", ".mkv", ".webm")

FORMATS = (
    Format(
        name="video",
        suffixes=_WRITTEN,
        spatial_dims=3,
        read=read_video,
        write=_write_video,
        read_provenance=_read_provenance,
        video=True,
    ),
    Format(
        name="video (read only)",
        # GIF counts as a picture; `open_video` and `write_video` take it as a video, too.
        suffixes=tuple(suffix for suffix in VIDEO_SUFFIXES if suffix not in (*_WRITTEN, ".gif")),
        spatial_dims=3,
        read=read_video,
        write=None,
        video=True,
    ),
)
