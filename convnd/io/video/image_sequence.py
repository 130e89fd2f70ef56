"""Videos as folders of numbered pictures."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path

from convnd.errors import InputFileError
from convnd.io.atomic import error_text
from convnd.io.atomic_folder import merged_folder
from convnd.io.files import read, write
from convnd.io.reading import size_limit
from convnd.io.registry import find_format
from convnd.io.video.encoder import square_pixels
from convnd.io.video.file import MAX_FRAME
from convnd.io.video.types import (
    SRGB_TRANSFER,
    ColorTags,
    VideoFrame,
    VideoInfo,
    damaged_frames_text,
    transparency_error,
)

__all__ = [
    "ImageSequence",
    "numbered_images",
    "write_image_sequence",
]


def numbered_images(folder: Path) -> dict[int, Path]:
    """Find the pictures of a folder that have a number, in the order of the numbers.

    The number is the one at the end of a name. Where names do not end in a number, or all end in
    the same one, as "IMG_0001 (1)", it is the last one that differs from picture to picture.
    Hidden files and files of other formats are left out.

    Raises:
        InputFileError: the folder cannot be listed, or two pictures have one number.
    """
    pictures: dict[int, Path] = {}
    for number, path in _numbers(_pictures(folder)):
        if number in pictures:
            raise InputFileError(
                f"read {folder}",
                expected="one picture for each number",
                got=f"{pictures[number].name} and {path.name}",
                remedy="remove one",
            )
        pictures[number] = path
    return dict(sorted(pictures.items()))


def _pictures(folder: Path) -> list[Path]:
    """All pictures of a folder but hidden ones."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise InputFileError(
            f"read {folder}",
            expected="a folder that can be listed",
            got=f"'{error_text(error)}'",
            remedy="check it",
        ) from error
    pictures = []
    for path in paths:
        kind = find_format(path)
        if kind is not None and kind.spatial_dims == 2 and not path.name.startswith("."):
            pictures.append(path)
    return pictures


def _numbers(pictures: list[Path]) -> list[tuple[int, Path]]:
    """Each picture that has a number, with it."""
    parts = {path: re.split(r"([0-9]+)", path.stem) for path in pictures}
    ending = [
        (int(texts[-2]), path) for path, texts in parts.items() if not texts[-1] and texts[1:]
    ]
    if ending and len({number for number, _ in ending}) == len(ending):
        return ending
    if len({tuple(texts[::2]) for texts in parts.values()}) == 1:  # only numbers differ
        for place in reversed(range(1, len(next(iter(parts.values()))), 2)):
            numbered = [(int(texts[place]), path) for path, texts in parts.items()]
            if len({number for number, _ in numbered}) == len(numbered):
                return numbered
    return ending


def _gap_text(numbers: list[int]) -> str:
    """Say which numbers are missing from a sequence of even steps; "" if none is.

    >>> _gap_text([1, 2, 5, 6]), _gap_text([10, 20, 30]), _gap_text([1, 3, 4])
    ('missing pictures: 3 to 4; the others follow each other', '', \
'missing pictures: 2; the others follow each other')
    """
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    step = min(steps, default=1)
    gaps = [
        (before + step, after - step)
        for before, after in itertools.pairwise(numbers)
        if after - before > step
    ]
    if not gaps:
        return ""
    texts = [str(first) if first >= last else f"{first} to {last}" for first, last in gaps[:5]]
    ending = f" and {len(gaps) - 5} more gaps" if len(gaps) > 5 else ""
    return f"missing pictures: {', '.join(texts)}{ending}; the others follow each other"


class ImageSequence:
    """A folder of numbered pictures as a `convnd.io.video.types.Video`.

    Args:
        folder: holds at least one picture whose name ends in a number.
        rate: frames per second; None for 25, which a remark tells.

    Raises:
        InputFileError: there is no such picture, or the first cannot be read.
    """

    def __init__(self, folder: Path, *, rate: Fraction | None = None) -> None:
        numbered = numbered_images(folder)
        self._files = list(numbered.values())
        self.damage = ""
        if not self._files:
            raise InputFileError(
                f"read {folder}",
                expected="pictures whose names end in a number, as frame-0001.png",
                got="none",
                remedy="give another folder",
            )
        remarks = [_gap_text(list(numbered))]
        other_pictures = [path.name for path in _pictures(folder) if path not in self._files]
        if other_pictures:
            remarks.append(
                f"left out, since their names have no number: {', '.join(other_pictures[:5])}"
            )
            remarks[-1] += f" and {len(other_pictures) - 5} more" if len(other_pictures) > 5 else ""
        if rate is None:
            rate = Fraction(25)
            remarks.append("25 frames a second, since no --rate was given")
        first = read(self._files[0], max_pixels=size_limit(None, MAX_FRAME))
        self.info = VideoInfo(
            path=folder,
            size=(first.shape[0], first.shape[1]),
            time_base=1 / rate,
            rate=rate,
            frames=len(self._files),
            colors=ColorTags(True, 1, SRGB_TRANSFER, 0),
            remarks=tuple(filter(None, remarks)),
        )

    def frames(
        self, start: Fraction = Fraction(0), end: Fraction | None = None, every: int = 1
    ) -> Iterator[VideoFrame]:
        """See `convnd.io.video.types.Video.frames`; pictures that cannot be read are left out."""
        self.damage = ""
        lost_frames = 0
        times = [number * self.info.time_base for number in range(len(self._files))]
        numbers = [
            number
            for number, time in enumerate(times)
            if time >= start and (end is None or time < end)
        ]
        for number in numbers[::every]:
            path = self._files[number]
            try:
                grid = read(path, max_pixels=size_limit(None, MAX_FRAME))
            except InputFileError:
                lost_frames += 1
                self.damage = damaged_frames_text(lost_frames)
                continue
            if grid.shape != self.info.size:
                raise InputFileError(
                    f"read {path}",
                    expected=f"frames of {self.info.size[1]}x{self.info.size[0]} as the first",
                    got=f"{grid.shape[1]}x{grid.shape[0]}",
                    remedy="bring all to one size",
                )
            if "alpha" in grid.header:
                raise transparency_error(path)
            yield VideoFrame(number, grid.values, path.name, duration=every)


def write_image_sequence(
    folder: Path,
    frames: Iterable[VideoFrame],
    *,
    overwrite: bool = False,
    aspect: Fraction = Fraction(1),
    provenance: Mapping[str, str] | None = None,
) -> int:
    """Write frames as PNG files into a folder; they appear when all of them are complete.

    Args:
        folder: a new or empty folder; with ``overwrite``, files of the same names are replaced.
        frames: frames with names keep them, with ``.png``; others are numbered from 1.
        overwrite: whether the folder may hold files.
        aspect: width of a pixel divided by its height; pictures get square ones.
        provenance: see `convnd.io.write`.

    Returns:
        The number of frames.

    Raises:
        OutputExistsError: the folder holds files and ``overwrite`` is false.
        OutputFileError: the folder takes no new files.
    """
    from convnd.grid import Grid

    count = 0
    with merged_folder(folder, overwrite=overwrite) as temporary:
        for count, frame in enumerate(frames, 1):
            name = Path(frame.name or f"frame-{count:06d}").with_suffix(".png").name
            values = square_pixels(frame.values, aspect).clamp(0, 1)
            grid = Grid(values=values, axes=("y", "x"), channels=("R", "G", "B"))
            write(temporary / name, grid, provenance=provenance)
    return count
