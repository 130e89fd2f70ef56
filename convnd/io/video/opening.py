"""Opening a video: a file, or a folder of numbered pictures."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

from convnd.errors import InputFileError, UsageError
from convnd.io.missing import missing_file_error
from convnd.io.video.file import VideoFile
from convnd.io.video.image_sequence import ImageSequence
from convnd.io.video.types import ANIMATED_SUFFIXES, VIDEO_SUFFIXES, Video

__all__ = ["open_video"]


def open_video(
    path: str | os.PathLike[str],
    *,
    rate: Fraction | None = None,
    deinterlace: bool = False,
    tone_map: bool = False,
) -> Video:
    """Open a video file, or a folder of numbered pictures as a video.

    Args:
        path: the file or folder.
        rate: frames per second of a folder; None for 25. A file has its own rate.
        deinterlace: whether frames of two fields are turned into progressive ones.
        tone_map: whether high dynamic range is brought into BT.709; it is refused otherwise.

    Raises:
        InputFileError: missing, damaged, without a video stream or frames, too large, HDR, or
            with transparency.
        UsageError: a rate was given for a file.
        DependencyError: PyAV is missing.
    """
    source = Path(path)
    if source.is_dir():
        return ImageSequence(source, rate=rate)
    if source.suffix.lower() not in (*VIDEO_SUFFIXES, *ANIMATED_SUFFIXES):
        if not source.exists():
            raise missing_file_error(path)
        raise InputFileError(
            f"read {path}",
            expected="a video, such as .mp4, .mov, .mkv, .webm, .avi or .gif, or a folder of "
            "numbered pictures",
            got=repr(source.name),
            remedy="convert the file (convnd formats lists all formats)",
        )
    if rate is not None:
        raise UsageError(
            "--rate",
            expected="a folder of pictures",
            got=f"{path}, which knows its times",
            remedy="leave it out",
        )
    return VideoFile(source, deinterlace=deinterlace, tone_map=tone_map)
