"""The interface of a video: frames that come one by one, each with its exact time.

A video is never held in memory. `convnd.io.open_video` returns a `Video`, which decodes frames as
they are asked for, from a file (`convnd.io.video.file`) or a folder of numbered pictures
(`convnd.io.video.image_sequence`); `convnd.io.video.writing` encodes one. A frame is
``(1, 3, H, W)`` in R, G, B, float32 in ``[0, 1]``, upright, in the gamma-encoded space of the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "VIDEO_SUFFIXES",
    "ColorTags",
    "Video",
    "VideoFrame",
    "VideoInfo",
    "damaged_frames_text",
    "is_video",
]

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif")
"""Of files that are read as clips; `convnd.io.video.writing.CODECS` says which are written."""

SRGB_TRANSFER = 13
"""The transfer function of ordinary pictures, as ISO/IEC 23091-4 numbers them."""


@dataclass(frozen=True)
class ColorTags:
    """How a file says that its colours are to be understood; numbers of ISO/IEC 23091-4.

    Args:
        full_range: whether codes span all of 0 … 255; None where the file does not say.
        primaries: 2 is "not said", as in all that follow.
        transfer: the curve between light and code.
        matrix: from R, G, B to luma and chroma; 0 is R, G, B itself.
    """

    full_range: bool | None = None
    primaries: int = 2
    transfer: int = 2
    matrix: int = 2


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What is known of a clip before its frames are.

    Args:
        path: where it is.
        size: height and width of the upright frames.
        time_base: seconds of one tick; times of frames are multiples of it.
        start: time of the first frame, in ticks.
        rate: frames per second on the average; None where it is not known.
        frames: how many the file says it has; None where it does not say.
        aspect: width of a pixel divided by its height.
        colors: as they are tagged.
        audio: codec of each audio stream.
        remarks: what people should know about it, a line each.
    """

    path: Path
    size: tuple[int, int]
    time_base: Fraction
    start: int = 0
    rate: Fraction | None = None
    frames: int | None = None
    aspect: Fraction = Fraction(1)
    colors: ColorTags = ColorTags()
    audio: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class VideoFrame:
    """One frame.

    Args:
        pts: its time, in ticks of the clip's ``time_base``.
        values: ``(1, 3, H, W)``.
        name: of its file, where each frame has one.
    """

    pts: int
    values: Tensor
    name: str = ""


class Video(Protocol):
    """A clip to read, as often as is wanted.

    Attributes:
        info: see `VideoInfo`.
        damage: what was wrong with the frames that the last reading met; empty if nothing was.
    """

    info: VideoInfo
    damage: str

    def frames(
        self, start: Fraction = Fraction(0), end: Fraction | None = None, every: int = 1
    ) -> Iterator[VideoFrame]:
        """Frames in the order of their times.

        Args:
            start: seconds after the first frame, from which on they are wanted.
            end: seconds after the first frame, from which on they are not; None is all.
            every: only each so-manieth, beginning with the first.

        Raises:
            InputFileError: a frame cannot be used: of another size, HDR, or with transparency.
        """
        ...


def damaged_frames_text(count: int) -> str:
    """How `Clip.damage` says that frames were damaged.

    >>> damaged_frames_text(1), damaged_frames_text(2)
    ('1 damaged frame was left out', '2 damaged frames were left out')
    """
    return f"{count} damaged frame{' was' if count == 1 else 's were'} left out"


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a name is that of a clip: by its suffix, or as a folder that is there.

    >>> is_video("holiday.MP4"), is_video("photo.jpg")
    (True, False)
    """
    return Path(path).suffix.lower() in VIDEO_SUFFIXES or Path(path).is_dir()
