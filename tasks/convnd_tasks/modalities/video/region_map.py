"""A map of regions, or a mask, of a video."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from convnd.errors import InputFileError
from convnd.grid import Grid
from convnd_tasks.modalities.regions import LabelMap
from convnd_tasks.modalities.video.files import content_fingerprint
from convnd_tasks.modalities.video.input import VideoSource

if TYPE_CHECKING:
    from convnd.io import Video
    from convnd_tasks.modalities.inputs import TransferInputs

__all__ = [
    "RegionMap",
    "check_labels",
    "check_map_frames",
    "describe_regions",
    "frame_count_error",
]


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


def check_labels(
    names: Sequence[str],
    region_map: RegionMap,
    samples: Sequence[Grid],
    source: VideoSource,
    label_map: LabelMap,
) -> None:
    """Check that a map has all named labels in some frame.

    Args:
        names: the labels.
        region_map: the map.
        samples: the map of some frames.
        source: the frames.
        label_map: splits a map into labels.

    Raises:
        InputFileError: it lacks one.
    """
    missing, labels = {*names}, dict[str, None]()
    rest = iter(()) if isinstance(region_map.data, Grid) else region_map.frames(source)
    for grid in itertools.chain(samples, rest):
        present = label_map(grid, names, region_map.name)
        labels |= dict.fromkeys(present)
        missing -= {*present}
        if not missing:
            return
    label = next(name for name in names if name in missing)
    raise InputFileError(
        f"--region {label}",
        expected=f"a label of {region_map.name}: {', '.join([*labels][:12])}",
        got=repr(label),
        remedy="name one of these",
    )


def describe_regions(
    inputs: TransferInputs, region_map: RegionMap, source: VideoSource, areas: Sequence[float]
) -> list[str]:
    """Describe the regions of a video in lines for users.

    Args:
        inputs: inputs with a map of regions.
        region_map: the map.
        source: the frames.
        areas: share of the frames that each region with a style covers.
    """
    maps = inputs.regions
    assert maps is not None
    messages = []
    size = source.video.info.size
    if region_map.size != size:
        before, now = ("x".join(str(n) for n in reversed(one)) for one in (region_map.size, size))
        messages.append(f"{maps.name}: resized from {before} to {now}")
    percents = (100 * area for area in areas)
    for label, number in maps.styles.items():
        if number is None:
            messages.append(f"region {label} keeps the content")
        else:
            messages.append(
                f"region {label} ({next(percents):.3g} %) takes {inputs.style_name(number)}"
            )
    if maps.shared:
        names = " and ".join(map(inputs.style_name, maps.shared))
        messages.append(f"all other regions ({next(percents):.3g} %) take {names}")
    else:
        messages.append("all other regions keep the content, since they have no style")
    return messages
