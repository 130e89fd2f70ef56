"""Divides frames into windows, each of which is stylised as one block."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor

from convnd_tasks.modalities.video.flow import FlowPair
from convnd_tasks.modalities.video.frame_cache import FIRST_PASS, SHARED, FrameCache
from convnd_tasks.modalities.video.input import FrameContext

__all__ = ["iter_windows", "load_window", "mirrored_order", "reorder_flows"]


def load_window(
    window: Sequence[FrameContext], count: int, cache: FrameCache
) -> tuple[list[Tensor], dict[str, Any]] | None:
    """Load the frames of a window from the cache; None if one of them is missing.

    Args:
        window: the frames of the window.
        count: number of frames that the next window does not share.
        cache: cache of finished frames.

    Returns:
        The frames, and the record of the last one.
    """
    keys = [
        (FIRST_PASS if index < count else SHARED, context.number)
        for index, context in enumerate(window)
    ]
    if any(key not in cache.records for key in keys):
        return None
    return [cache.load(*key) for key in keys], cache.records[keys[-1]]


def iter_windows(
    contexts: Iterable[FrameContext], length: int, overlap: int
) -> Iterator[tuple[list[FrameContext], int]]:
    """Yield windows, each with the number of frames that it shares with the window before.

    Args:
        contexts: the frames of a video.
        length: number of frames of a window; the last one of a scene may be shorter.
        overlap: number of frames that windows of a scene share.
    """
    window: list[FrameContext] = []
    shared_count = 0
    for context in contexts:
        if context.cut:
            if len(window) > shared_count:
                yield window, shared_count
            window, shared_count = [], 0
        window.append(context)
        if len(window) == length:
            yield window, shared_count
            window, shared_count = window[length - overlap :], overlap
    if len(window) > shared_count:
        yield window, shared_count


def mirrored_order(count: int, length: int, margin: int) -> list[int]:
    """Compute the order of frames of a window that is mirrored at both ends.

    Args:
        count: number of frames of the window.
        length: number of frames in the order.
        margin: number of mirrored frames before the first.

    >>> mirrored_order(3, 9, margin=2), mirrored_order(1, 5, margin=2)
    ([2, 1, 0, 1, 2, 1, 0, 1, 2], [0, 0, 0, 0, 0])
    """
    period = max(1, 2 * (count - 1))
    phases = [(index - margin) % period for index in range(length)]
    return [phase if phase < count else period - phase for phase in phases]


def reorder_flows(flows: Sequence[FlowPair], order: Sequence[int], zero: Tensor) -> list[FlowPair]:
    """Compute the flows between frames in another order.

    Args:
        flows: flow from each frame to the next.
        order: indices of frames, in which neighbours are neighbours in the video or equal.
        zero: flow of a frame to itself, ``(2, H, W)``.
    """

    def compose_flows(first: int, second: int) -> FlowPair:
        if first == second:  # a single frame
            return FlowPair(zero, zero)
        if first < second:
            return flows[first]
        return FlowPair(flows[second].backward, flows[second].forward)

    return [compose_flows(first, second) for first, second in itertools.pairwise(order)]
