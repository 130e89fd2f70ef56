"""Colours, strength and mask, applied to the stylised frames of a video."""

from __future__ import annotations

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
from convnd_tasks.modalities.video.flow import estimate_flow, warping_error
from convnd_tasks.modalities.video.frame_cache import FINAL, FrameCache, quantize
from convnd_tasks.modalities.video.input import VideoSource
from convnd_tasks.modalities.video.region_map import check_map_frames
from convnd_tasks.runtime.prefetch import prefetch

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.io import Video
    from convnd_tasks.modalities.video.options import VideoOptions
    from convnd_tasks.modalities.video.video_regions import VideoRegions

__all__ = ["FrameFinisher", "check_mask"]


class FrameFinisher:
    """Applies ``colors``, ``strength`` and the mask to the frames of a pass.

    Args:
        options: options, of which ``colors`` is used.
        palette: mean and covariance of the colours that all frames of a texture get together, or
            None.
        regions: regions of the frames, outside of which the content is kept; None is all of each
            frame.
        strength: share of the change that is applied to the values.
    """

    def __init__(
        self,
        options: VideoOptions,
        palette: Moments | None = None,
        regions: VideoRegions | None = None,
        strength: float = 1.0,
    ) -> None:
        self.options = options
        self.strength = strength
        self.palette = palette
        self.regions = regions

    @property
    def changes_frames(self) -> bool:
        """Whether finished frames differ from stylised ones."""
        options = self.options
        changes_colors = options.colors == "luminance" or self.strength < 1
        return changes_colors or self.palette is not None or self.regions is not None

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
            InputFileError: a map of regions or a mask has more frames than the input.
        """
        moments = None
        if self.palette is not None:  # one change for all frames, so that nothing flickers
            frames = (cache.load(pass_index, number) for number in range(len(records)))
            moments = pooled_moments([color_moments(values) for values in frames])
        previous: tuple[Tensor, Tensor] | None = None
        for number, (_, content) in enumerate(prefetch(source.frames)):
            mask = None
            if self.regions is not None:
                mask = Grid(values=self.regions.at(number).mask)
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
        if self.regions is not None:
            self.regions.check_end(len(records))

    def _finish(self, content: Tensor, values: Tensor, mask: Grid | None) -> Tensor:
        if self.options.colors == "luminance":
            values = keep_luminance_only(values, content).clamp(0, 1)
        mixed_grid = mix_with_content(
            Grid(values=values), Grid(values=content), mask, self.strength
        )
        return quantize(mixed_grid.values)


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
    check_map_frames("--mask", mask, video)
