"""How many bytes the transfer of a look takes, and whether they are free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from convnd.optimize import ProcessGroup
from convnd.transfer.memory import check_estimate, usable_bytes
from convnd.transfer.tiling_plan import MemoryEstimate

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["check_memory", "estimate_memory"]

_FRAME_FIELDS, _STYLE_FIELDS = 30, 16
"""Copies of a frame and of a style in float32 that are in memory at the peak, measured."""

_KEPT, _KEPT_SHARE = 256 * 2**20, 0.6
"""Bytes that the allocator holds in free blocks, at most (`convnd.malloc`); share of the work."""


def estimate_memory(scan: Grid, styles: Sequence[Grid]) -> MemoryEstimate:
    """The bytes of a transfer in addition to those of its inputs.

    Args:
        scan: the content, ``(1, T, *S)``.
        styles: volumes.

    >>> import torch
    >>> from convnd import Grid
    >>> volume = Grid(values=torch.zeros(1, 1, 256, 256, 256))
    >>> print(estimate_memory(volume, [volume]).table())
          64 MiB  styles in the scan's unit
         1.9 GiB  change of a frame
         0.2 GiB  free blocks
         2.2 GiB  in all
    """
    frame = 4 * math.prod(scan.shape)
    style = max(4 * math.prod(grid.shape) for grid in styles)
    measured = sum(4 * math.prod(grid.shape) for grid in styles)
    work = {"styles in the scan's unit": measured}
    if _FRAME_FIELDS * frame >= _STYLE_FIELDS * style:
        work["change of a frame"] = _FRAME_FIELDS * frame
    else:
        work["look of a style"] = _STYLE_FIELDS * style
    free_blocks = min(_KEPT, int(_KEPT_SHARE * sum(work.values())))
    if scan.values.shape[1] > 1:
        work["results of other frames"] = (scan.values.shape[1] - 1) * frame
    return MemoryEstimate("one piece", 1.0, {**work, "free blocks": free_blocks})


def check_memory(
    scan: Grid, styles: Sequence[Grid], memory: str, group: ProcessGroup | None
) -> None:
    """Check that a transfer fits in the memory, before any work is done.

    Args:
        scan: the content.
        styles: volumes.
        memory: see `convnd.transfer.options.TransferOptions`.
        group: the processes that do the work, each all of it.

    Raises:
        ResourceError: it needs more than is free, or than ``memory`` allows.
    """
    group = ProcessGroup() if group is None else group
    free = usable_bytes(memory, torch.device("cpu"), group)
    remedy = "cut a part out of the scan, or allow more with --memory"
    check_estimate(estimate_memory(scan, styles), scan.shape, free, remedy)
