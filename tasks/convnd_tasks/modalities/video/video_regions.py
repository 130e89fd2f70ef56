"""The regions of each frame of a video, and the styles that they take.

A map of regions is one picture for all frames, a video of as many frames as the content, or one
picture that moves along the optical flow of the content from its first frame on.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from convnd.errors import InputFileError, UsageError
from convnd.grid import Grid
from convnd.transfer.regions import fit_share
from convnd_tasks.modalities.regions import (
    LabelMap,
    check_style_part,
    mask_share,
    no_style_error,
    read_style_maps,
)
from convnd_tasks.modalities.video.frame_regions import FrameRegions, RegionStyles
from convnd_tasks.modalities.video.input import VideoSource
from convnd_tasks.modalities.video.region_map import (
    RegionMap,
    check_labels,
    check_map_frames,
    describe_regions,
    frame_count_error,
)
from convnd_tasks.modalities.video.region_motion import RegionMotion

if TYPE_CHECKING:
    from torch import Tensor

    from convnd_tasks.modalities.inputs import TransferInputs
    from convnd_tasks.modalities.video.flow import FlowPair
    from convnd_tasks.runtime.settings import JobSettings

__all__ = ["VideoRegions", "check_region_settings", "make_regions"]

_SAMPLE_MAPS = 16
"""Number of frames of a map whose labels and areas are listed before the work."""

_OTHERS = "others"
"""Name of the region of all labels without a style of their own."""

_LEVELS = 65535


class VideoRegions:
    """The regions of the frames of one video.

    Args:
        source: the frames.
        parts: the regions that have styles.
        split: divides a map into the shares of these regions, ``(1, K, H, W)``; None with a mask
            alone.
        region_map: map of the regions; None is a mask alone.
        mask: share of the change that applies; None is 1.
        tracked: whether the map, a picture, moves along the flow.
        messages: lines for users.

    Attributes:
        tracked: as above.
        on_message: callback that gets lines for users during the work.
    """

    def __init__(
        self,
        source: VideoSource,
        parts: Sequence[RegionStyles],
        split: Callable[[Grid], Tensor] | None,
        region_map: RegionMap | None,
        mask: RegionMap | None,
        *,
        tracked: bool = False,
        messages: Sequence[str] = (),
    ) -> None:
        self.parts = parts
        self.tracked = tracked
        self.messages = messages
        self.on_message: Callable[[str], None] | None = None
        self._source = source
        self._split = split
        self._map, self._mask = region_map, mask
        self._motion: RegionMotion | None = None
        self._planes: dict[int, bytes] = {}
        self._still: FrameRegions | None = None
        self._maps = itertools.repeat(None) if region_map is None else region_map.frames(source)
        self._masks = itertools.repeat(None) if mask is None else mask.frames(source)

    def fingerprint(self) -> object:
        """Compute a value that identifies the maps and styles, and changes with them."""
        shares = [share for part in self.parts for share in part.style_shares]
        return [
            self.tracked,
            [(part.name, list(part.styles)) for part in self.parts],
            [None if one is None else one.fingerprint() for one in (self._map, self._mask)],
            shares,
        ]

    def add(self, number: int, flow: FlowPair | None, frame: Tensor) -> FrameRegions:
        """Compute the regions of a frame; frames have to be added in their order.

        Args:
            number: number of the frame, from 0.
            flow: flow from the frame before; None if the frame begins a scene.
            frame: frame of the input, ``(1, 3, H, W)``.

        Raises:
            InputFileError: the maps or the masks have fewer frames than the video.
        """
        if number in self._planes or self._still is not None:
            return self.at(number)
        grid, mask = (
            self._next(self._maps, number, self._map),
            self._next(self._masks, number, self._mask),
        )
        shares = self._move(number, grid, flow, frame) if self.tracked else self._divide(grid)
        regions = self._frame(shares, mask)
        constant = all(one is None or isinstance(one.data, Grid) for one in (self._map, self._mask))
        if constant and not self.tracked:
            self._still = regions
            return regions
        planes = torch.cat([regions.shares, regions.mask], 1).mul(_LEVELS).round().int()
        self._planes[number] = zlib.compress(planes.numpy().astype(np.uint16).tobytes(), 1)
        return self.at(number)

    def at(self, number: int) -> FrameRegions:
        """Return the regions of a frame that was added.

        Args:
            number: number of the frame, from 0.
        """
        if self._still is not None:
            return self._still
        codes = np.frombuffer(zlib.decompress(self._planes[number]), np.uint16)
        levels = torch.from_numpy(codes.astype(np.float32))
        planes = levels.view(1, -1, *self._source.size) / _LEVELS
        return FrameRegions(self.parts, planes[:, :-1], planes[:, -1:])

    def sample(self, count: int) -> list[FrameRegions]:
        """Compute the regions of some frames, those of `VideoSource.sample`.

        Args:
            count: number of frames.
        """
        maps: list[Any] = [None] if self._map is None else self._map.sample(self._source, count)
        masks: list[Any] = [None] if self._mask is None else self._mask.sample(self._source, count)
        length = max(len(maps), len(masks))
        maps, masks = (one * length if len(one) == 1 else one for one in (maps, masks))
        return [
            self._frame(self._divide(grid), mask) for grid, mask in zip(maps, masks, strict=False)
        ]

    def check_end(self, count: int) -> None:
        """Check that maps and masks have no more frames than the video.

        Args:
            count: number of frames of the video.
        """
        if self._source.frame_range.count is not None:
            return
        for frames, one in ((self._maps, self._map), (self._masks, self._mask)):
            is_video = one is not None and not isinstance(one.data, Grid)
            if is_video and next(frames, None) is not None:
                assert one is not None
                raise frame_count_error(one.option, count, "more")

    def _divide(self, grid: Grid | None) -> Tensor | None:
        return None if grid is None or self._split is None else self._split(grid)

    def _next(self, frames: Iterator[Any], number: int, source: RegionMap | None) -> Grid | None:
        try:
            grid: Grid | None = next(frames)
        except StopIteration:
            assert source is not None
            raise frame_count_error(source.option, self._source.count() or "some", number) from None
        return grid

    def _move(self, number: int, grid: Grid | None, flow: FlowPair | None, frame: Tensor) -> Tensor:
        assert grid is not None
        assert self._split is not None
        if self._motion is None or flow is None:
            if self._motion is not None and self.on_message is not None:
                self.on_message(
                    f"frame {number} begins a scene, where the map of regions starts anew; a video "
                    "of maps would follow it"
                )
            self._motion = RegionMotion(self._split(grid))
            return self._motion.shares()
        self._motion.advance(flow, frame)
        return self._motion.shares()

    def _frame(self, shares: Tensor | None, mask: Grid | None) -> FrameRegions:
        """Make the regions of a frame from their shares and a mask."""
        size = self._source.size
        factor = None if mask is None else fit_share(mask_share(mask), size)
        if shares is None:
            assert factor is not None
            return FrameRegions(self.parts, factor, factor)
        styled = shares.sum(1, keepdim=True).clamp(0, 1)
        styled = styled.where(styled < 1 - 1e-5, 1.0)
        return FrameRegions(self.parts, shares, styled if factor is None else styled * factor)


def make_regions(
    inputs: TransferInputs, source: VideoSource, label_map: LabelMap, *, tracked: bool
) -> VideoRegions | None:
    """Make the regions of a video; None if all of it takes all styles.

    Args:
        inputs: inputs with a map of regions, a mask, or neither.
        source: the frames.
        label_map: splits a map into labels.
        tracked: whether the map of the first frame moves along the flow.

    Raises:
        InputFileError: a map or a mask does not fit the video, or no region has a style.
        UsageError: the map is a video and is to move along the flow.
    """
    maps, mask_data = inputs.regions, inputs.mask
    mask = None if mask_data is None else RegionMap("--mask", "mask", mask_data)
    if maps is None:
        styles = tuple(range(len(inputs.styles)))
        keyed = bool(inputs.keyframes)
        whole = [RegionStyles("mask", styles, (None,) * len(styles), follows_keyframes=keyed)]
        return None if mask is None else VideoRegions(source, whole, None, None, mask)
    region_map = RegionMap(f"--regions {maps.name}", maps.name, maps.grid)
    if tracked and not isinstance(maps.grid, Grid):
        raise UsageError(
            "--track-regions",
            expected="one picture as map, for the first frame",
            got=f"the video {maps.name}, whose regions move already",
            remedy="leave it out",
        )
    check_map_frames(region_map.option, maps.grid, source.video)
    samples = region_map.sample(source, _SAMPLE_MAPS)
    if not samples:
        raise frame_count_error(region_map.option, source.count() or "some", 0)
    check_labels([*maps.styles], region_map, samples, source, label_map)
    style_labels = read_style_maps(inputs, [*maps.styles], label_map)

    parts = []
    for label, number in maps.styles.items():
        if number is not None:
            check_style_part(label, (number,), style_labels)
            share = style_labels[number][label] if style_labels else None
            parts.append(RegionStyles(f"region {label}", (number,), (share,)))
    if maps.shared:
        shared = tuple(maps.shared)
        none, keyed = (None,) * len(shared), bool(inputs.keyframes)
        parts.append(RegionStyles(f"region {_OTHERS}", shared, none, follows_keyframes=keyed))
    named = [label for label, number in maps.styles.items() if number is not None]

    def split(grid: Grid) -> Tensor:
        labels = label_map(grid, [*maps.styles], maps.name)
        empty = torch.zeros(1, 1, *grid.shape)
        shares = [labels.get(label, empty) for label in named]
        if maps.shared:
            total: Tensor = sum((labels.get(label, empty) for label in maps.styles), empty)
            shares.append((1 - total).clamp(0, 1))
        return fit_share(torch.cat(shares, 1), source.size)

    if not parts:
        raise no_style_error(maps.name)
    areas = torch.cat([split(grid) for grid in samples]).mean((0, 2, 3)).tolist()
    if inputs.keyframes and not areas[-1]:
        raise InputFileError(
            f"--keyframe with --regions {maps.name}",
            expected="a region for the keyframes, to which --region gives no style",
            got="none",
            remedy="leave one out of --region",
        )
    messages = describe_regions(inputs, region_map, source, areas)
    return VideoRegions(source, parts, split, region_map, mask, tracked=tracked, messages=messages)


def check_region_settings(settings: JobSettings, *, is_instant: bool) -> None:
    """Check settings about regions before any input is read.

    Args:
        settings: settings of the job.
        is_instant: whether the network for any style makes the result.

    Raises:
        UsageError: a setting does not fit the others.
    """
    if settings.style_regions and is_instant:
        raise UsageError(
            "--style-regions",
            expected="an optimisation, which reads parts of styles",
            got="--instant",
            remedy="leave one of the two out",
        )
    if settings.track_regions and settings.regions is None:
        raise UsageError(
            "--track-regions",
            expected="a map of the first frame's regions",
            got="none",
            remedy="give one with --regions FILE",
        )
