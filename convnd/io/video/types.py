"""The interface of a video: frames that come one by one, each with its exact time.

A video is never held in memory. `convnd.io.open_video` returns a `Video`, which decodes frames as
they are asked for, from a file (`convnd.io.video.file`) or a folder of numbered pictures
(`convnd.io.video.image_sequence`); `convnd.io.video.writing` encodes one. A frame is
``(1, 3, H, W)`` in R, G, B, float32 in ``[0, 1]``, upright, in the gamma-encoded space of the file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from convnd.errors import InputFileError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ANIMATED_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Chapter",
    "ColorTags",
    "Video",
    "VideoFrame",
    "VideoInfo",
    "damaged_frames_text",
    "is_animated",
    "is_video",
    "transparency_error",
]

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif"),
    *(".3gp", ".3g2", ".mpg", ".mpeg", ".vob", ".ts", ".m2ts", ".mts", ".mxf"),
    *(".wmv", ".asf", ".flv", ".f4v", ".ogv", ".apng"),
)
"""Suffixes of files that are read as videos; `convnd.io.video.codecs` has those written."""

ANIMATED_SUFFIXES = (".gif", ".apng", ".png", ".webp", ".avif")
"""Suffixes of pictures that may be animated; `convnd.io.open_video` reads them as videos."""

SRGB_TRANSFER = 13
"""The transfer function of ordinary pictures, as ISO/IEC 23091-4 numbers them."""


@dataclass(frozen=True)
class ColorTags:
    """How a file encodes colours; the numbers are those of ISO/IEC 23091-4.

    Args:
        full_range: whether codes span all of 0 … 255; None if the file does not say.
        primaries: colours of R, G and B; 2 means unspecified, here and below.
        transfer: the curve between light and code.
        matrix: from R, G, B to luma and chroma; 0 is R, G, B itself.
    """

    full_range: bool | None = None
    primaries: int = 2
    transfer: int = 2
    matrix: int = 2


@dataclass(frozen=True)
class Chapter:
    """A named part of a video; ``start`` and ``end`` are seconds on the clock of the file."""

    start: Fraction
    end: Fraction
    title: str


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """The properties of a video file that are known before its frames are decoded.

    Args:
        path: the file or folder.
        size: height and width of the upright frames.
        time_base: seconds of one tick; times of frames are multiples of it.
        start: time of the first frame, in ticks of ``time_base``.
        offset: time at which the file begins, sound or pictures, in ticks; 0 in a result.
        rate: average frames per second; None if unknown.
        frames: number of frames that the file declares; None if it declares none.
        aspect: width of a pixel divided by its height.
        colors: colour tags of the file.
        audio: codec of each audio stream that can be copied.
        tags: title, date and other texts of the file.
        stream_tags: those of the video stream, for example its language.
        chapters: named parts.
        loops: how many times an animation plays; 0 means forever.
        remarks: notes for people about the file, one line each.
    """

    path: Path
    size: tuple[int, int]
    time_base: Fraction
    start: int = 0
    offset: int = 0
    rate: Fraction | None = None
    frames: int | None = None
    aspect: Fraction = Fraction(1)
    colors: ColorTags = ColorTags()
    audio: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    stream_tags: Mapping[str, str] = field(default_factory=dict)
    chapters: tuple[Chapter, ...] = ()
    loops: int = 0
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class VideoFrame:
    """One frame of a video.

    Args:
        pts: its time, in ticks of ``time_base``.
        values: ``(1, 3, H, W)``.
        name: name of its file, if each frame has one.
        duration: how long it is shown, in ticks; 0 where only the next frame tells.
    """

    pts: int
    values: Tensor
    name: str = ""
    duration: int = 0


class Video(Protocol):
    """A video that can be read several times.

    Attributes:
        info: description of the video.
        damage: what was wrong with frames of the last reading; empty if nothing was.
    """

    info: VideoInfo
    damage: str

    def frames(
        self, start: Fraction = Fraction(0), end: Fraction | None = None, every: int = 1
    ) -> Iterator[VideoFrame]:
        """Yield frames in the order of their times.

        Args:
            start: seconds after the first frame; earlier frames are left out.
            end: seconds after the first frame; frames at or after it are left out. None: no end.
            every: keep every n-th frame, beginning with the first.

        Raises:
            InputFileError: a frame cannot be used: of another size, HDR, or with transparency.
        """
        ...


def damaged_frames_text(count: int) -> str:
    """Return the text of `Video.damage` for a number of damaged frames.

    >>> damaged_frames_text(1), damaged_frames_text(2)
    ('1 damaged frame was left out', '2 damaged frames were left out')
    """
    return f"{count} damaged frame{' was' if count == 1 else 's were'} left out"


def transparency_error(path: str | os.PathLike[str]) -> InputFileError:
    """Return the error for frames that are not opaque.

    Args:
        path: the video.
    """
    return InputFileError(
        f"read {path}",
        expected="opaque frames",
        got="transparency",
        remedy="put it on a background first",
    )


def is_animated(path: str | os.PathLike[str]) -> bool:
    """Whether a picture's file says in its first 4 KiB that it has several frames.

    Args:
        path: a PNG, WebP or AVIF file; others, and files that cannot be read, are not animated.
    """
    head = b""
    with contextlib.suppress(OSError):
        if Path(path).is_file():
            with Path(path).open("rb") as file:
                head = file.read(4096)
    png = head.startswith(b"\x89PNG") and b"acTL" in head.partition(b"IDAT")[0]
    webp = head[8:16] == b"WEBPVP8X" and any(code & 2 for code in head[20:21])
    return png or webp or b"avis" in head[4:64]


def is_video(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path is a video: by its suffix, or because it is an existing folder.

    >>> is_video("holiday.MP4"), is_video("photo.jpg")
    (True, False)
    """
    return Path(path).suffix.lower() in VIDEO_SUFFIXES or Path(path).is_dir()
