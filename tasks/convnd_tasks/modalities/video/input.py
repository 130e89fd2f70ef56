"""The input of a clip's transfer: its frames at the size of the result, their flows, its cuts."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from torch import Tensor

from convnd.errors import InputFileError
from convnd.nn import resize_nd
from convnd.optimize import Step
from convnd.transfer.style_transfer import Progress
from convnd_tasks.modalities.base import SMALLEST
from convnd_tasks.modalities.video.flow import Motion, is_cut, motion
from convnd_tasks.modalities.video.keeping import FrameStore, rounded
from convnd_tasks.modalities.video.options import VideoOptions

if TYPE_CHECKING:
    from convnd.io import Video

__all__ = [
    "Look",
    "Part",
    "count_frames",
    "even_fit",
    "looks",
    "reporter",
    "walked",
    "working_size",
]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Which frames of a clip are wanted, see `convnd.io.Video.frames`."""

    start: Fraction = Fraction(0)
    end: Fraction | None = None
    every: int = 1


@dataclass(frozen=True, kw_only=True)
class Look:
    """A frame of the input, and what it has in common with those before.

    Args:
        number: from 0.
        pts: its time, in ticks of the clip.
        name: of its file, or "".
        content: ``(1, 3, H, W)`` at the size of the result, `rounded`.
        cut: whether it begins a scene.
        motions: against earlier frames of the scene, by how many frames before.
        seconds: that ``codec`` and ``flow`` took.
    """

    number: int
    pts: int
    name: str
    content: Tensor
    cut: bool
    motions: Mapping[int, Motion]
    seconds: Mapping[str, float]


def even_fit(size: Sequence[int], longest: int) -> tuple[int, int]:
    """The size of a result: never enlarged, both sides even, as codecs want them.

    Args:
        size: of the clip.
        longest: the longest side at most; 0 leaves it as it is.

    >>> even_fit((720, 1280), 512), even_fit((144, 176), 512), even_fit((33, 47), 0)
    ((288, 512), (144, 176), (33, 47))
    """
    if longest == 0 or max(size) <= longest:
        return size[0], size[1]
    height, width = (max(2, 2 * round(each * longest / max(size) / 2)) for each in size)
    return height, width


def working_size(clip: Video, longest: int) -> tuple[int, int]:
    """`even_fit` of a clip.

    Raises:
        InputFileError: that is too small for the networks.
    """
    size = even_fit(clip.info.size, longest)
    if min(size) < SMALLEST:
        raise InputFileError(
            f"{clip.info.path}: expected frames of at least {SMALLEST} pixels along each side, "
            f"got {size[1]}x{size[0]}; use a larger --size, or another clip"
        )
    return size


def looks(
    options: VideoOptions, clip: Video, part: Part, size: tuple[int, int], store: FrameStore
) -> Iterator[Look]:
    """Frames of the input with their flows.

    Args:
        options: reads ``mode`` and ``references``.
        clip: the input.
        part: which of its frames.
        size: height and width of the result.
        store: frames that are there already need no flow.
    """
    contents: deque[Tensor] = deque(maxlen=options.references[-1])
    since = 0  # frames of this scene before the present one
    began = time.perf_counter()
    for number, frame in enumerate(clip.frames(part.start, part.end, part.every)):
        values = frame.values
        if tuple(values.shape[2:]) != size:
            values = resize_nd(values, size, mode="linear", antialias=True)
        content = rounded(values)
        decoded = time.perf_counter()
        motions: dict[int, Motion] = {}
        record = store.records.get((1, number))
        cut = number == 0
        if record is not None:
            cut = record["cut"]
        elif number:
            motions[1] = motion(contents[-1], content)
            cut = is_cut(contents[-1], content, motions[1].seen_before)
        since = 0 if cut else since + 1
        if cut:
            motions = {}
        elif record is None and options.mode == "flow":
            for back in options.references[1:]:
                if back <= since:
                    motions[back] = motion(contents[-back], content)
        yield Look(
            number=number,
            pts=frame.pts,
            name=frame.name,
            content=content,
            cut=cut,
            motions=motions,
            seconds={"codec": decoded - began, "flow": time.perf_counter() - decoded},
        )
        contents.append(content)
        began = time.perf_counter()


def count_frames(clip: Video, part: Part) -> int | None:
    """How many frames there will be, about; None where the file does not say."""
    info = clip.info
    if info.frames is None:
        return None
    first, last = 0, info.frames
    if info.rate is not None:
        first = min(last, int(part.start * info.rate))
        last = last if part.end is None else min(last, int(part.end * info.rate) + 1)
    return max(1, -(-(last - first) // part.every))


def walked(steps: Iterable[Progress], report: Callable[[Step], None]) -> Step:
    """The last of the steps of an ordinary transfer, each of them told."""
    last: Step | None = None
    for each in steps:
        last = Step(each.step, each.loss, each.parts, each.values, each.rejected_steps)
        report(last)
    assert last is not None
    return last


def reporter(
    watch: Callable[[Progress], None] | None, number: int, total: int | None, passes: int
) -> Callable[[Step], None]:
    """What tells of a step as one of a whole clip."""
    frames = (total or number + 1) * passes

    def report(step: Step) -> None:
        if watch is not None:
            watch(
                Progress(
                    step=number + 1,
                    steps=max(frames, number + 1),
                    scale=1,
                    scales=1,
                    fraction_done=min(1.0, number / frames),
                    loss=step.loss,
                    parts=step.parts,
                    values=step.values,
                )
            )

    return report
