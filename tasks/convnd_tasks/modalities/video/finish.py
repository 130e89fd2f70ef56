"""Colours, strength and mask, applied to the stylised frames of a video."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.grid import Grid
from convnd_tasks.modalities.grid_transfer import mix_with_content
from convnd_tasks.modalities.images.codec import (
    Moments,
    color_moments,
    keep_luminance_only,
    match_colors,
    pooled_moments,
)
from convnd_tasks.modalities.video.files import content_fingerprint
from convnd_tasks.modalities.video.flow import estimate_flow, warping_error
from convnd_tasks.modalities.video.frame_cache import FINAL, FrameCache, quantize
from convnd_tasks.modalities.video.input import FrameRange, VideoSource, resize_frame
from convnd_tasks.runtime.prefetch import prefetch

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.io import Video
    from convnd_tasks.modalities.video.options import VideoOptions

__all__ = ["FrameFinisher", "check_mask"]


class FrameFinisher:
    """Applies ``colors``, ``strength`` and the mask to the frames of a pass.

    Args:
        options: options, of which ``colors`` and ``strength`` are used.
        mask: a picture for all frames, a video of as many frames as the input, or None.
        frame_range: frames of the input and of the mask that are used.
        palette: mean and covariance of the colours that all frames of a texture get together, or
            None.
    """

    def __init__(
        self,
        options: VideoOptions,
        mask: Grid | Video | None,
        frame_range: FrameRange,
        palette: Moments | None = None,
    ) -> None:
        self.options = options
        self.mask = mask
        self.frame_range = frame_range
        self.palette = palette

    @property
    def changes_frames(self) -> bool:
        """Whether finished frames differ from stylised ones."""
        options = self.options
        changes_colors = options.colors == "luminance" or options.strength < 1
        return changes_colors or self.mask is not None or self.palette is not None

    def fingerprint(self) -> object:
        """Compute a value that identifies the mask, and changes with it."""
        if self.mask is None or isinstance(self.mask, Grid):
            return None if self.mask is None else self.mask.values
        return content_fingerprint(self.mask.info)

    def run(
        self,
        source: VideoSource,
        cache: FrameCache,
        pass_index: int,
        records: Sequence[Mapping[str, Any]],
    ) -> Iterator[int]:
        """Finish the frames of a pass, and save them in the cache under `FINAL`.

        Args:
            source: the input.
            cache: cache that holds the stylised frames.
            pass_index: pass of the stylised frames.
            records: records of the stylised frames; their warping errors are measured again.

        Yields:
            The number of each finished frame.

        Raises:
            InputFileError: the mask has fewer or more frames than the input.
        """
        masks = self._masks(source.size)
        moments = None
        if self.palette is not None:  # one change for all frames, so that nothing flickers
            frames = (cache.load(pass_index, number) for number in range(len(records)))
            moments = pooled_moments([color_moments(values) for values in frames])
        previous: tuple[Tensor, Tensor] | None = None
        for number, (_, content) in enumerate(prefetch(source.frames)):
            mask = next(masks, None)
            if self.mask is not None and mask is None:
                raise InputFileError(
                    "--mask",
                    expected=f"a frame for each of {len(records)} of the video",
                    got=number,
                    remedy="give one picture, or a video of as many frames",
                )
            if (FINAL, number) in cache.records:
                previous = content, cache.load(FINAL, number)
                continue
            values = cache.load(pass_index, number)
            if self.palette is not None:
                values = match_colors(values, self.palette, moments)
            values = self._finish(content, values, mask)
            record = dict(records[number])
            if previous is not None and record["e_warp"] is not None:
                flows = estimate_flow(previous[0], content)
                record["e_warp"] = warping_error(previous[1], values, flows)
            cache.save(FINAL, number, values, record)
            previous = content, values
            yield number
        is_video = self.mask is not None and not isinstance(self.mask, Grid)
        if is_video and self.frame_range.count is None and next(masks, None) is not None:
            raise InputFileError(
                "--mask",
                expected=f"a frame for each of {len(records)} of the video",
                got="more",
                remedy="give one picture, or a video of as many frames",
            )

    def _finish(self, content: Tensor, values: Tensor, mask: Grid | None) -> Tensor:
        if self.options.colors == "luminance":
            values = keep_luminance_only(values, content).clamp(0, 1)
        mixed_grid = mix_with_content(
            Grid(values=values), Grid(values=content), mask, self.options.strength
        )
        return quantize(mixed_grid.values)

    def _masks(self, size: tuple[int, int]) -> Iterator[Grid]:
        """Yield the mask of each frame at the size of the result."""
        if self.mask is None:
            return
        if isinstance(self.mask, Grid):
            mask = self.mask.with_values(resize_frame(self.mask.values, size))
            yield from itertools.repeat(mask)
        else:
            for frame in self.frame_range.frames(self.mask):
                values = resize_frame(frame.values, size)
                yield Grid(values=values, channels=("R", "G", "B"))


def check_mask(mask: Grid | Video | None, video: Video) -> None:
    """Check, before any work, that a mask belongs to a video.

    Raises:
        InputFileError: its size differs, its number of frames differs, or it is 0 everywhere.
    """
    if mask is None:
        return
    size = tuple(mask.shape) if isinstance(mask, Grid) else mask.info.size
    if size != video.info.size:
        height, width = video.info.size
        raise InputFileError(
            "--mask",
            expected=f"the video's size {width}x{height}",
            got="x".join(str(extent) for extent in reversed(size)),
            remedy="resize the mask",
        )
    if isinstance(mask, Grid):
        if not bool((mask.values > 0).any()):
            raise InputFileError(
                "--mask", expected="values above 0", got="none", remedy="give another mask"
            )
        return
    expected, actual = video.info.frames, mask.info.frames
    if expected is not None and actual is not None and expected != actual:
        raise InputFileError(
            "--mask",
            expected=f"a picture, or a video of {expected} frames",
            got=f"one of {actual}",
            remedy="give a mask for each frame",
        )
