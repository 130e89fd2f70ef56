"""The second pass over a video, from its last frame to the first."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import torch

from convnd_tasks.modalities.video.flow import estimate_flow, warp, warping_error
from convnd_tasks.modalities.video.frame_cache import CONTENT, FIRST_PASS, SECOND_PASS, FrameCache
from convnd_tasks.modalities.video.frame_regions import references_in_region
from convnd_tasks.modalities.video.input import StylizedFrame
from convnd_tasks.modalities.video.progress import step_callback

if TYPE_CHECKING:
    from convnd.transfer.progress import Progress
    from convnd_tasks.modalities.video.frame_optimizer import FrameOptimizer
    from convnd_tasks.modalities.video.video_regions import VideoRegions

__all__ = ["run_second_pass"]


def run_second_pass(
    optimizer: FrameOptimizer,
    cache: FrameCache,
    count: int,
    video_regions: VideoRegions | None = None,
    keyframes: Collection[int] = (),
) -> Iterator[Progress | StylizedFrame]:
    """Optimise the frames again, each close to the frame after it.

    Args:
        optimizer: the optimiser of the first pass.
        cache: cache that holds the content and the frames of the first pass.
        count: number of frames.
        video_regions: regions of the frames; None is all of each frame.
        keyframes: numbers of frames that stay as they are.

    Yields:
        The steps of each frame, followed by the frame.

    Raises:
        InputFileError: a frame is missing in the cache.
        NumericalError: see `convnd.optimize.minimize`.
    """
    later: StylizedFrame | None = None
    for number in reversed(range(count)):
        content = cache.load(CONTENT, number)
        began = time.perf_counter()
        flows = None if later is None else estimate_flow(content, later.content)
        flow_seconds = time.perf_counter() - began
        record: dict[str, Any] | None = cache.records.get((SECOND_PASS, number))
        if record is not None:
            values = cache.load(SECOND_PASS, number)
        else:
            values = cache.load(FIRST_PASS, number)
            record = dict(cache.records[FIRST_PASS, number])
            record |= {"flow": record["flow"] + flow_seconds}
            regions = None if video_regions is None else video_regions.at(number)
            changes = (regions is None or regions.present) and number not in keyframes
            if later is not None and flows and changes and not later.record["cut"]:
                began = time.perf_counter()
                to_progress = step_callback(2 * count - 1 - number, count, 2)
                target, mask = warp(later.values, flows.forward), flows.valid_forward
                if video_regions is not None:
                    after = video_regions.at(number + 1)
                    mask = mask * references_in_region(regions, after, flows.forward)
                start = torch.where(mask > 0, (values + target) / 2, values)
                outcome = yield from optimizer.optimize(
                    content, start, target, mask, to_progress, number=number, regions=regions
                )
                values = outcome.values
                record |= {
                    **outcome.record(),
                    "steps": record["steps"] + outcome.steps,
                    "rejected_steps": record["rejected_steps"] + outcome.rejected_steps,
                    "features": record["features"] + time.perf_counter() - began,
                    "later_e_warp": warping_error(values, later.values, flows),
                }
            cache.save(SECOND_PASS, number, values, record)
        later = StylizedFrame(number=number, content=content, values=values, record=record)
        yield later
