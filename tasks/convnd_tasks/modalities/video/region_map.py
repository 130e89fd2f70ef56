"""A map of regions, or a mask, of a video."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from convnd.errors import InputFileError
from convnd.grid import Grid
from convnd_tasks.modalities.video.files import content_fingerprint
from convnd_tasks.modalities.video.input import VideoSource

if TYPE_CHECKING:
    from convnd.io import Video

__all__ = ["RegionMap", "check_map_frames", "frame_count_error"]


class RegionMap(NamedTuple):
    """A map of regions or a mask.

    Args:
        option: the option that names it, for messages.
        name: its name, for messages.
        data: a picture for all frames, or a video of one picture for each.
    """

    option: str
    name: str
    data: Grid | Video

    def frames(self, source: VideoSource) -> Iterator[Grid]:
        """Yield the map of each frame of a source."""
        if isinstance(self.data, Grid):
            yield from itertools.repeat(self.data)
        else:
            for frame in source.frame_range.frames(self.data):
                yield Grid(values=frame.values, channels=("R", "G", "B"))

    def sample(self, source: VideoSource, count: int) -> list[Grid]:
        """Return some of these maps, those of `VideoSource.sample`."""
        if isinstance(self.data, Grid):
            return [self.data]
        size = self.data.info.size
        maps = VideoSource(video=self.data, size=size, frame_range=source.frame_range)
        return [Grid(values=frame, channels=("R", "G", "B")) for frame in maps.sample(count)]

    def fingerprint(self) -> object:
        """Compute a value that identifies the map, and changes with it."""
        if isinstance(self.data, Grid):
            return self.data.values
        return content_fingerprint(self.data.info)

    @property
    def size(self) -> tuple[int, ...]:
        """Height and width of the map."""
        return tuple(self.data.shape) if isinstance(self.data, Grid) else self.data.info.size


def check_map_frames(option: str, data: Grid | Video, video: Video) -> None:
    """Check that a map or a mask of a video is a picture, or has as many frames.

    Args:
        option: the option that names it.
        data: the map.
        video: the video.

    Raises:
        InputFileError: both hold their numbers of frames, which differ.
    """
    if isinstance(data, Grid):
        return
    expected, actual = video.info.frames, data.info.frames
    if expected is not None and actual is not None and expected != actual:
        raise frame_count_error(option, expected, f"one of {actual}")


def frame_count_error(option: str, expected: object, actual: object) -> InputFileError:
    """Make the error of a map with more or fewer frames than the video.

    Args:
        option: the option that names the map.
        expected: number of frames of the video.
        actual: number of frames of the map.
    """
    return InputFileError(
        option,
        expected=f"a picture, or one for each of {expected} frames of the video",
        got=f"{actual}",
        remedy="give one picture, or a video of as many frames",
    )
