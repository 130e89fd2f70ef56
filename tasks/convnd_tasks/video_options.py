"""The options of stylising clips: those of pictures, and what holds frames together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from convnd.errors import UsageError
from convnd.registry import unknown_name
from convnd_tasks.flags import LOOK, LOSS, WORK, Flag
from convnd_tasks.options import StyleOptions

__all__ = ["MODES", "NOT_OF_CLIPS", "VideoOptions"]

MODES = ("flow", "independent")
"""How frames are held together: by motion, or not at all (to compare with)."""

NOT_OF_CLIPS = ("colors", "start", "inflation")
"""Fields that clips cannot have, or where the name means something else on the command line."""


@dataclass(frozen=True, kw_only=True)
class VideoOptions(StyleOptions):
    """How a clip is stylised; what is not named here is as in `StyleOptions`.

    ``size`` is the longest side *at most*: a smaller clip keeps its own. ``steps`` are those of a
    frame that begins a scene.

    Args:
        mode: one of `MODES`.
        temporal_weight: how much a frame is held to the warped results of earlier ones.
        passes: 2 goes over the clip a second time, backwards.
        references: how many frames before, nearest first; a pixel is held to the nearest in which
            it can be relied on.
        frame_steps: of a later frame, at most.
        settle_over: steps that are looked back to see whether a later frame has come to rest.
        settle_tolerance: the relative decrease of the loss over them below which it has.

    Raises:
        UsageError: a value is outside its range; the message names option and range.

    >>> VideoOptions(passes=3)
    Traceback (most recent call last):
    convnd.errors.UsageError: passes: expected 1 <= passes <= 2, got 3; correct it
    """

    backbone: Annotated[str, Flag(help="Network, see `convnd backbones`.", panel=LOSS)] = "compact"
    size: Annotated[
        int, Flag(help="Longest side at most, in pixels; 0: the clip's own.", panel=WORK)
    ] = 512
    steps: Annotated[int, Flag(help="Of a frame that begins a scene.", panel=WORK)] = 80
    seed: Annotated[int, Flag(help="Of everything random.", panel=WORK)] = 0
    mode: Annotated[
        str,
        Flag(
            help=f"{' or '.join(MODES)}: frames held together by motion, or each by itself.",
            panel=WORK,
        ),
    ] = "flow"
    temporal_weight: Annotated[
        float, Flag(help="How much frames are held to earlier ones.", panel=LOOK)
    ] = 60.0
    passes: Annotated[int, Flag(help="2: once more, backwards.", panel=WORK)] = 1
    references: Annotated[
        tuple[int, ...],
        Flag(
            help="How many frames before, nearest first, a frame is held to.",
            panel=WORK,
            metavar="N,N,...",
        ),
    ] = (1, 4)
    frame_steps: Annotated[
        int,
        Flag(help="Of a later frame, at most: it ends when it has come to rest.", panel=WORK),
    ] = 40
    settle_over: Annotated[
        int,
        Flag(help="Steps looked back to see whether a later frame has come to rest.", panel=WORK),
    ] = 4
    settle_tolerance: Annotated[
        float,
        Flag(help="It has when the loss falls by less than this share over them.", panel=WORK),
    ] = 0.03

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low, high in (
            ("temporal_weight", 0, 1e12),
            ("passes", 1, 2),
            ("frame_steps", 1, 10_000_000),
            ("settle_over", 1, 10_000_000),
            ("settle_tolerance", 0, 1),
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise UsageError(
                    f"{name}: expected {low:g} <= {name} <= {high:g}, got {value:g}; correct it"
                )
        if self.colors != StyleOptions.colors:
            raise UsageError(
                f"colors: expected {StyleOptions.colors} for clips, got {self.colors}; leave it out"
            )
        if self.mode not in MODES:
            raise unknown_name("mode", self.mode, list(MODES))
        if self.mode != "flow" and self.passes > 1:
            raise UsageError(
                "passes: expected 1 for independent frames, which know nothing of each other, got "
                f"{self.passes}; use --mode flow"
            )
        wanted = tuple(sorted(set(self.references)))
        if not wanted or wanted != self.references or wanted[0] != 1 or wanted[-1] > 64:
            raise UsageError(
                "references: expected rising numbers from 1 to 64 that begin with 1, got "
                f"{', '.join(map(str, self.references)) or 'none'}; for example 1,4"
            )
