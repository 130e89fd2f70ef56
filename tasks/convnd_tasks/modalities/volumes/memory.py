"""Estimate of the memory that the transfer of a look needs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from convnd.grid import Grid
from convnd.optimize import ProcessGroup
from convnd.transfer.memory import check_estimate, usable_bytes
from convnd.transfer.tiling_plan import MemoryEstimate

__all__ = ["check_memory", "estimate_memory"]

_FRAME_FIELDS, _STYLE_FIELDS = 30, 16
"""Measured number of float32 copies of a frame and of a style in memory at the peak."""

_FREE_BLOCKS, _FREE_SHARE = 256 * 2**20, 0.6
"""Most bytes that the allocator keeps in free blocks (`convnd.malloc`), and share of the work."""


def estimate_memory(scan: Grid, styles: Sequence[Grid]) -> MemoryEstimate:
    """Estimate the bytes that a transfer needs in addition to its inputs.

    Args:
        scan: the content, values ``(1, T, *S)``.
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
    free_blocks = min(_FREE_BLOCKS, int(_FREE_SHARE * sum(work.values())))
    if scan.values.shape[1] > 1:
        work["results of other frames"] = (scan.values.shape[1] - 1) * frame
    return MemoryEstimate("one piece", 1.0, {**work, "free blocks": free_blocks})


def check_memory(
    scan: Grid, styles: Sequence[Grid], memory: str, group: ProcessGroup | None
) -> None:
    """Check that a transfer fits into memory, before it starts.

    Args:
        scan: the content, values ``(1, T, *S)``.
        styles: volumes.
        memory: option ``memory`` of `convnd.transfer.options.TransferOptions`.
        group: the processes, each of which does all the work; None is one process.

    Raises:
        ResourceError: the transfer needs more than is free, or more than ``memory`` allows.
    """
    group = ProcessGroup() if group is None else group
    free = usable_bytes(memory, torch.device("cpu"), group)
    remedy = "crop the scan, or allow more with --memory"
    check_estimate(estimate_memory(scan, styles), scan.shape, free, remedy)
