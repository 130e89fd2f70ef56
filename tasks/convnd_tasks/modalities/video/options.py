"""The options of stylising clips: those of pictures, and what holds frames together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from convnd.errors import UsageError
from convnd.options import LOOK, LOSS, SEED, STEPS, WEIGHT, WORK, Flag, Range, check_range
from convnd.registry import unknown_name
from convnd_tasks.modalities.base import SMALLEST
from convnd_tasks.modalities.images.options import ImageOptions

BLOCK = "Blocks of frames (--mode block)"
"""Heading of the help."""

__all__ = ["MODES", "NOT_OF_CLIPS", "VideoOptions"]

MODES = ("flow", "block", "independent")
"""How frames are held together: by motion, as one block, or not at all (to compare with)."""

NOT_OF_CLIPS = ("colors", "init", "strength")
"""Fields that clips cannot have, or where the name means something else on the command line."""


@dataclass(frozen=True, kw_only=True)
class VideoOptions(ImageOptions):
    """How a clip is stylised; what is not named here is as in `ImageOptions`.

    ``size`` is the longest side *at most*: a smaller clip keeps its own. ``steps`` are those of a
    frame that begins a scene.

    Args:
        mode: one of `MODES`.
        temporal_weight: how much a frame is held to the warped results of earlier ones.
        window: frames of a block; ``"block"`` only, as the next three.
        overlap: of them, how many are those of the block before.
        temporal_decay: share of a neighbouring frame's change that a frame takes along the motion,
            see `convnd_tasks.modalities.video.along.AlongMotion`.
        style_motion: share of the change that moves as a style video does; the rest follows the
            motion of the content.
        texture: there is no content: the clip is the style, of which a moving texture is made as
            long and large as it.
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
        int,
        Flag(help="Longest side at most, in pixels; 0: the clip's own.", panel=WORK),
        Range(0, 1 << 20),
    ] = 512
    steps: Annotated[int, Flag(help="Of a frame that begins a scene.", panel=WORK), STEPS] = 80
    seed: Annotated[int, Flag(help="Of everything random.", panel=WORK), SEED] = 0
    mode: Annotated[
        str,
        Flag(
            help="flow, block or independent: frames held together by motion, as one block with "
            "time as third axis, or each by itself.",
            panel=WORK,
        ),
    ] = "flow"
    temporal_weight: Annotated[
        float, Flag(help="How much frames are held to earlier ones.", panel=LOOK), WEIGHT
    ] = 60.0
    window: Annotated[int, Flag(help="Frames of a block.", panel=BLOCK), Range(SMALLEST, 4096)] = 16
    overlap: Annotated[
        int, Flag(help="Frames of it that are those of the block before, faded over.", panel=BLOCK)
    ] = 8
    temporal_decay: Annotated[
        float,
        Flag(
            help="How much a frame changes with its neighbours, along the motion; 0: by itself.",
            panel=BLOCK,
        ),
        Range(0, 1),
    ] = 0.9
    style_motion: Annotated[
        float,
        Flag(
            help="How much of the change moves as a clip does that is given as style; 0: nothing.",
            panel=BLOCK,
        ),
        Range(0, 1),
    ] = 0.6
    texture: Annotated[
        bool,
        Flag(
            help="No content: make a moving texture out of the clip, as long and large as it.",
            panel=BLOCK,
            names=("--texture",),
        ),
    ] = False
    inflation: Annotated[
        str,
        Flag(
            help="How the network sees time: planes (slices along it, too), or with kernels: mean "
            "(over frames), centre (while pooling) or acs (some lie across it). Default: not at "
            "all; each frame is a picture.",
            panel=BLOCK,
        ),
    ] = "auto"
    passes: Annotated[int, Flag(help="2: once more, backwards.", panel=WORK), Range(1, 2)] = 1
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
        Range(1, 10_000_000),
    ] = 40
    settle_over: Annotated[
        int,
        Flag(help="Steps looked back to see whether a later frame has come to rest.", panel=WORK),
        Range(1, 10_000_000),
    ] = 4
    settle_tolerance: Annotated[
        float,
        Flag(help="It has when the loss falls by less than this share over them.", panel=WORK),
        Range(0, 1),
    ] = 0.03

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("overlap", self.overlap, Range(1, max(1, self.window // 2)))
        if self.colors != ImageOptions.colors:
            raise UsageError(
                f"colors: expected {ImageOptions.colors} for clips, got {self.colors}; leave it out"
            )
        if self.mode not in MODES:
            raise unknown_name("mode", self.mode, list(MODES))
        if self.mode != "flow" and self.passes > 1:
            raise UsageError(
                f"passes: expected 1 without motion, got {self.passes} with --mode {self.mode}; "
                "use --mode flow"
            )
        if self.mode != "block":
            for name in (
                "window",
                "overlap",
                "temporal_decay",
                "style_motion",
                "texture",
                "inflation",
            ):
                if getattr(self, name) != getattr(VideoOptions, name):
                    raise UsageError(
                        f"{name}: expected --mode block, where time is an axis, got --mode "
                        f"{self.mode}; add it, or leave --{name} out"
                    )
        wanted = tuple(sorted(set(self.references)))
        if not wanted or wanted != self.references or wanted[0] != 1 or wanted[-1] > 64:
            raise UsageError(
                "references: expected rising numbers from 1 to 64 that begin with 1, got "
                f"{', '.join(map(str, self.references)) or 'none'}; for example 1,4"
            )
