"""What a clip is: frames that come one by one, each with its exact time.

Clips are not held in memory. `open_clip` gives a `Clip`, whose frames are decoded as they are
asked for, from a file (`convnd.io.video`) or a folder of numbered pictures
(`convnd.io.sequence`); `convnd.io.video_write` writes one back. A frame is ``(1, 3, H, W)`` in R,
G, B, float32 in ``[0, 1]``, upright, in the gamma-encoded space of the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from convnd.errors import InputFileError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "CLIP_SUFFIXES",
    "Clip",
    "ClipFrame",
    "ClipInfo",
    "ColorTags",
    "is_clip",
    "left_out",
    "open_clip",
]

CLIP_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif")
"""Of files that `open_clip` reads; `convnd.io.video_write.CODECS` says which are written."""

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
class ClipInfo:
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
class ClipFrame:
    """One frame.

    Args:
        pts: its time, in ticks of the clip's ``time_base``.
        values: ``(1, 3, H, W)``.
        name: of its file, where each frame has one.
    """

    pts: int
    values: Tensor
    name: str = ""


class Clip(Protocol):
    """A clip to read, as often as is wanted.

    Attributes:
        info: see `ClipInfo`.
        damage: what was wrong with the frames that the last reading met; empty if nothing was.
    """

    info: ClipInfo
    damage: str

    def frames(
        self, start: Fraction = Fraction(0), end: Fraction | None = None, every: int = 1
    ) -> Iterator[ClipFrame]:
        """Frames in the order of their times.

        Args:
            start: seconds after the first frame, from which on they are wanted.
            end: seconds after the first frame, from which on they are not; None is all.
            every: only each so-manieth, beginning with the first.

        Raises:
            InputFileError: a frame cannot be used: of another size, HDR, or with transparency.
        """
        ...


def left_out(count: int) -> str:
    """How `Clip.damage` says that frames were damaged.

    >>> left_out(1), left_out(2)
    ('1 damaged frame was left out', '2 damaged frames were left out')
    """
    return f"{count} damaged frame{' was' if count == 1 else 's were'} left out"


def is_clip(path: str | os.PathLike[str]) -> bool:
    """Whether a name is that of a clip: by its suffix, or as a folder that is there.

    >>> is_clip("holiday.MP4"), is_clip("photo.jpg")
    (True, False)
    """
    return Path(path).suffix.lower() in CLIP_SUFFIXES or Path(path).is_dir()


def open_clip(path: str | os.PathLike[str], *, rate: Fraction | None = None) -> Clip:
    """A clip out of a file, or out of a folder of numbered pictures.

    Args:
        path: the file or folder.
        rate: frames per second of a folder, whose pictures do not say it; None is 25.

    Raises:
        InputFileError: missing, damaged, without a video stream or frames, too large, HDR, or
            with transparency.
        UsageError: a rate for a file, which knows its own.
        DependencyError: the package that decodes is missing.
    """
    from convnd.io.sequence import FolderClip
    from convnd.io.video import VideoClip

    found = Path(path)
    if found.is_dir():
        return FolderClip(found, rate=Fraction(25) if rate is None else rate)
    if found.suffix.lower() not in CLIP_SUFFIXES:
        raise InputFileError(
            f"read {path}: expected a clip ({', '.join(CLIP_SUFFIXES)}) or a folder of numbered "
            f"pictures, got {found.name!r}; convert the file"
        )
    if rate is not None:
        raise UsageError(
            f"--rate: expected a folder of pictures, got {path}, which knows its times; leave it "
            "out"
        )
    return VideoClip(found)
