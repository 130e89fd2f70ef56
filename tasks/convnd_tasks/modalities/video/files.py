"""The files of ``convnd stylize-video``: what is opened, and what lies beside a result."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convnd.grid import Grid
    from convnd.io import Video
    from convnd_tasks.modalities.video.job import VideoOutcome
    from convnd_tasks.modalities.video.options import VideoOptions

__all__ = [
    "BLOCK_DEMO",
    "DEMO",
    "clip_style",
    "default_output",
    "drawn_beside",
    "open_video",
    "write_pictures",
]

DEMO = (12, 120, 184)  # frames, height, width: half a minute on two cores
BLOCK_DEMO = (16, 64, 96)  # what a moving texture needs at least


def open_video(name: str, rate: Fraction | None = None, demo: tuple[int, int, int] = DEMO) -> Video:
    """A clip out of a file or folder, or the built-in film when there is no such file.

    Args:
        name: path, or name of the sample.
        rate: frames per second of a folder.
        demo: frames, height and width of the sample.

    Raises:
        InputFileError: see `convnd.io.open_video`.
    """
    from convnd import io
    from convnd_tasks.samples import video

    if name in video.CONTENTS and not Path(name).exists():
        return video.SampleVideo(demo)
    return io.open_video(name, rate=rate)


def clip_style(clip: Video, options: VideoOptions) -> Grid:
    """A clip whose movement is style as well, see `moving_style`."""
    from convnd.grid import Grid
    from convnd_tasks.modalities.video.blocks import moving_style

    return Grid(values=moving_style(clip, options.size), axes=("t", "y", "x"))


def default_output(clip: Video, *, demo: bool, resume: bool) -> Path:
    """The result's path where none is named."""
    from convnd import io
    from convnd.io.video.writing import CODECS

    if demo:
        # The demo must work a second time, and must not replace the first clip.
        target = Path("stylized.mp4")
        return target if resume else io.next_free_path(target)
    path = clip.info.path.resolve()
    if path.is_dir():
        return Path(f"{path.name}_stylized")
    suffix = path.suffix.lower()
    return Path(f"{path.stem}_stylized{suffix if suffix in CODECS else '.mp4'}")


def drawn_beside(target: Path) -> dict[str, Path]:
    """The pictures of a result by what they show."""
    stem = target.stem if target.suffix else target.name
    return {name: target.with_name(f"{stem}-{name}.png") for name in ("sheet", "slit", "frames")}


def write_pictures(drawn: Mapping[str, Path], outcome: VideoOutcome, *, overwrite: bool) -> None:
    """Draw and write them, see `drawn_beside`."""
    from convnd.io.atomic import atomic_path
    from convnd_tasks.modalities.video.figures import course

    for name, path in drawn.items():
        if name == "sheet":
            data = outcome.gallery.sheet()
        elif name == "slit":
            data = outcome.gallery.slit_scan()
        else:
            data = course(outcome.records)
        with atomic_path(path, overwrite=overwrite) as temporary:
            temporary.write_bytes(data)
