"""Opens videos and the built-in one, and identifies their contents."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convnd.io import Video, VideoInfo

__all__ = ["BLOCK_DEMO", "DEMO", "content_fingerprint", "is_sample", "open_video"]

DEMO = (12, 120, 184)  # frames, height, width: half a minute on two cores
BLOCK_DEMO = (16, 64, 96)  # the smallest style for a moving texture


def is_sample(name: str) -> bool:
    """Whether a name is that of the built-in video, and not of a file."""
    from convnd_tasks.samples import video

    return name in video.CONTENTS and not Path(name).exists()


def open_video(
    name: str,
    rate: Fraction | None = None,
    sample_shape: tuple[int, int, int] = DEMO,
    *,
    deinterlace: bool = False,
    tone_map: bool = False,
) -> Video:
    """Open a file, a folder of numbered pictures, or the built-in video.

    Args:
        name: path, or name of the built-in video.
        rate: frames per second of a folder.
        sample_shape: frames, height and width of the built-in video.
        deinterlace: whether interlaced frames are converted to progressive ones.
        tone_map: whether high dynamic range is converted to BT.709.

    Raises:
        InputFileError: see `convnd.io.open_video`.
    """
    from convnd import io
    from convnd_tasks.samples import video

    if is_sample(name):
        return video.SampleVideo(sample_shape)
    return io.open_video(name, rate=rate, deinterlace=deinterlace, tone_map=tone_map)


def content_fingerprint(info: VideoInfo) -> object:
    """Compute a value that identifies the content of an input, and changes with it."""
    if info.path.is_dir():
        return [
            (path.name, path.stat().st_size, path.stat().st_mtime_ns)
            for path in sorted(info.path.iterdir())
        ]
    if not info.path.is_file():
        return str(info)
    with info.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
