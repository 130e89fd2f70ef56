"""The options of stylising videos: those of pictures, and those of coherence in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Self

from convnd.errors import UsageError
from convnd.options import LOOK, LOSS, STEPS, WEIGHT, WORK, Flag, Range, check_range, flag_name
from convnd.registry import check_name
from convnd_tasks.modalities.base import MIN_EXTENT
from convnd_tasks.modalities.images.options import ImageOptions

BLOCK = "Blocks of frames (--mode block)"
"""Heading of these options in the help."""

__all__ = ["MODES", "VideoOptions", "check_one_pass"]

MODES = ("flow", "block", "independent")
"""Ways to keep frames coherent: along the optical flow, as one block, or not (for comparison)."""

_BLOCK_ONLY = ("block_frames", "block_overlap", "temporal_decay", "style_motion", "inflation")


@dataclass(frozen=True, kw_only=True)
class VideoOptions(ImageOptions):
    """How a video is stylised; the other options are those of `ImageOptions`.

    ``size`` is an upper limit of the longest side: a smaller video keeps its size. ``steps`` is the
    number of steps of a frame that begins a scene. Colours do not flicker: ``colors="luminance"``
    keeps the colours of each frame, and ``"match"`` gives the styles the colours of the whole video
    (of 16 frames distributed over it), the same for all frames. ``strength`` applies to
    the statistics of each frame, as for pictures; in blocks, with keyframes and in one pass, to the
    change of finished frames. With ``instant``, such 16 frames also give the statistics that are
    matched, and with mode ``"flow"`` later frames keep the strokes of earlier ones along the
    motion.

    Args:
        mode: one of `MODES`.
        temporal_weight: weight of the temporal loss, which compares a frame with the warped results
            of earlier ones.
        block_frames: number of frames of a block; only with mode ``"block"``.
        block_overlap: number of frames that a block shares with the block before; only with mode
            ``"block"``.
        temporal_decay: share of a neighbouring frame's change that a frame takes along the motion,
            see `convnd_tasks.modalities.video.motion_average.MotionCompensatedMean`; only with mode
            ``"block"``.
        style_motion: share of the change that moves like a style video; the rest follows the motion
            of the content. Only with mode ``"block"``.
        passes: number of passes; the second one runs from the end of the video to its beginning.
        references: distances, in frames, of the earlier frames that the temporal loss compares a
            frame with, nearest first. Each pixel is compared with the nearest frame whose flow is
            consistent there.
        frame_steps: largest number of steps of a frame that continues a scene.
        settle_over: number of steps over which the decrease of such a frame's loss is measured.
        settle_tolerance: relative decrease of the loss below which such a frame is finished.

    Raises:
        UsageError: a value is outside its range; the message names option and range.

    >>> VideoOptions(passes=3)
    Traceback (most recent call last):
    convnd.errors.UsageError: passes: expected 1 <= passes <= 2, got 3; the default is 1
    """

    backbone: Annotated[str, Flag("Network, see `convnd backbones`.", LOSS)] = "compact"
    style_weight: float = 20.0
    size: Annotated[
        int, Flag("Longest side at most, in pixels; 0: the video's own.", WORK), Range(0, 1 << 20)
    ] = 512
    steps: Annotated[int, Flag("Steps of a frame that begins a scene.", WORK), STEPS] = 80
    mode: Annotated[
        str,
        Flag(
            "flow: frames follow the optical flow; block: frames are one block with time as third "
            "axis; independent: each frame is a picture.",
            WORK,
            choices=MODES,
        ),
    ] = "flow"
    temporal_weight: Annotated[
        float, Flag("Weight of the temporal loss against flicker.", LOOK), WEIGHT
    ] = 60.0
    block_frames: Annotated[int, Flag("Frames of a block.", BLOCK), Range(MIN_EXTENT, 4096)] = 16
    block_overlap: Annotated[
        int, Flag("Frames that two blocks share, over which they are blended.", BLOCK)
    ] = 8
    temporal_decay: Annotated[
        float,
        Flag(
            "Share of its neighbours' change that a frame takes along the motion; 0: none.", BLOCK
        ),
        Range(0, 1),
    ] = 0.9
    style_motion: Annotated[
        float,
        Flag("Share of the change that moves like a style video; 0: none.", BLOCK),
        Range(0, 1),
    ] = 0.6
    inflation: Annotated[
        str,
        Flag(
            "How the network sees time: multiplanar (it also reads slices along time), or "
            "by kernels that gain the axis: mean, centre or acs. Default: it does not; each "
            "frame is a picture.",
            BLOCK,
            choices=("auto", "multiplanar", "mean", "centre", "acs"),
        ),
    ] = "auto"
    passes: Annotated[
        int,
        Flag("Passes over the video; 2 optimises it once more, from the end.", WORK),
        Range(1, 2),
    ] = 1
    references: Annotated[
        tuple[int, ...],
        Flag(
            "Distances, in frames, of the earlier frames that the temporal loss compares with, "
            "nearest first.",
            WORK,
            metavar="N,N,...",
        ),
    ] = (1, 4)
    frame_steps: Annotated[
        int,
        Flag(
            "Most steps of a frame that continues a scene, at most --steps; fewer when its "
            "loss has settled.",
            WORK,
        ),
        Range(1, 10_000_000),
    ] = 40
    settle_over: Annotated[
        int,
        Flag("Steps over which the decrease of a later frame's loss is measured.", WORK),
        Range(1, 10_000_000),
    ] = 4
    settle_tolerance: Annotated[
        float,
        Flag("Relative decrease over --settle-over steps below which the loss has settled.", WORK),
        Range(0, 1),
    ] = 0.03

    @classmethod
    def for_dim(cls, spatial_dims: int, **given: Any) -> Self:
        """Make the options of a job; later frames take at most as many steps as the first.

        Args:
            spatial_dims: number of spatial axes, with time.
            given: values of options; None is the default.

        >>> VideoOptions.for_dim(3, steps=2).frame_steps, VideoOptions.for_dim(3).frame_steps
        (2, 40)
        """
        steps = given.get("steps")
        if isinstance(steps, int) and given.get("frame_steps") is None:
            given["frame_steps"] = min(steps, cls.frame_steps)
        return super().for_dim(spatial_dims, **given)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(
            "block_overlap",
            self.block_overlap,
            Range(1, max(1, self.block_frames // 2)),
            self.block_frames // 2 or 1,
        )
        check_name("mode", self.mode, MODES)
        if self.is_instant:
            check_one_pass(self)
        if self.mode != "flow" and self.passes > 1:
            raise UsageError(
                "passes",
                expected="1 without flow",
                got=f"{self.passes} with --mode {self.mode}",
                remedy="use --mode flow",
            )
        if self.mode != "block":
            for name in _BLOCK_ONLY:
                if getattr(self, name) != getattr(VideoOptions, name):
                    raise UsageError(
                        name,
                        expected="--mode block, in which time is an axis",
                        got=f"--mode {self.mode}",
                        remedy=f"add it, or leave {flag_name(name)} out",
                    )
        distances = tuple(sorted(set(self.references)))
        if not distances or distances != self.references or distances[0] != 1 or distances[-1] > 64:
            raise UsageError(
                "references",
                expected="rising numbers from 1 to 64 that begin with 1",
                got=", ".join(map(str, self.references)) or "none",
                remedy="for example 1,4",
            )


def check_one_pass(options: VideoOptions, *, texture: bool = False) -> None:
    """Check options whose frames a network stylises in one pass each.

    Args:
        options: the options.
        texture: whether there is no content.

    Raises:
        UsageError: there is no content, or the mode is "block", in which frames are optimised
            together.
    """
    if texture:
        raise UsageError(
            "one pass of a network",
            expected="a content to start from",
            got="none, for a texture",
            remedy="leave --texture out, or optimise with a video or picture as style",
        )
    if options.mode == "block":
        raise UsageError(
            "mode",
            expected="flow or independent with one pass of a network",
            got=options.mode,
            remedy="leave --mode out",
        )
