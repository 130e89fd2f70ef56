"""The memory that a volume needs, and the optimizer that fits into it."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import psutil

from convnd.errors import ResourceError
from convnd.optimize import OPTIMIZERS, ProcessGroup
from convnd.transfer.byte_size import parse_memory
from convnd.transfer.memory_model import KEPT_PAGES
from convnd.transfer.tiling_plan import gib
from convnd_tasks.modalities.volumes.slabs import SlabPlan, square_pixel_views

if TYPE_CHECKING:
    import torch

    from convnd.backbones import Backbone
    from convnd_tasks.modalities.volumes.options import VolumeOptions

__all__ = ["choose_optimizer", "needed"]

_LOG = logging.getLogger(__name__)

_LBFGS_VOXELS = 2**25  # its pairs take 160 bytes a voxel: 5 GiB
_OWN = 4  # volumes beside the minimization's: content, start, step lengths, and values
_SHARED = 5  # of several processes: slices of iterate and content, their gradients, and its return


def choose_optimizer(
    options: VolumeOptions,
    net: Backbone,
    layers: Sequence[str],
    shape: Sequence[int],
    spacing: Sequence[float],
    device: torch.device,
    group: ProcessGroup,
) -> tuple[str, str]:
    """The optimizer, and the reason for it.

    Args:
        options: ``optimizer`` "auto" is L-BFGS for up to 2^25 voxels where memory suffices, and
            Adam elsewhere; ``memory`` is the limit, and ``tile`` the number of slices in a slab.
        net: has two axes and the precision that it will run in.
        layers: the layers whose features are needed.
        shape: of the volume.
        spacing: mm along each axis.
        device: where the network runs. Only the CPU's memory is checked.
        group: the processes that share the volume.

    Raises:
        UnknownNameError: no such optimizer.
        ResourceError: there is too little memory.
    """
    voxels, slices = math.prod(shape), slab_slices(options.tile, shape)

    def bytes_with(optimizer: str) -> int:
        return needed(net, layers, shape, spacing, optimizer, processes=group.size, slices=slices)

    limit = parse_memory(options.memory)
    available = psutil.virtual_memory().available // group.local_size if limit is None else limit
    available = -group.all_reduce_max(-available)  # the same for all processes
    name, reason = options.optimizer, "as asked for"
    if name == "auto":
        name, reason = "lbfgs", "chosen by size"
        if voxels > _LBFGS_VOXELS:
            name = "adam"
        elif device.type == "cpu" and bytes_with(name) > available:
            name, reason = "adam", "chosen by memory"
    OPTIMIZERS[name]
    if device.type != "cpu":
        return name, reason
    size = bytes_with(name)
    _LOG.info("about %.1f GiB of %.1f GiB that are available", size / 2**30, available / 2**30)
    if size > available:
        several = group.local_size > 1
        share = f" for each of {group.local_size} processes" if several else ""
        source = "free" if limit is None else "allowed by --memory"
        raise ResourceError(
            f"volume: expected at most {gib(available)}, which is {source}{share}, got "
            f"a job of about {gib(size)} for {voxels:,} voxels; "
            f"{'' if name == 'adam' else 'use --optimizer adam, '}"
            f"{'start fewer processes, ' if several else ''}or crop the scan"
        )
    return name, reason


def slab_slices(tile: str, shape: Sequence[int]) -> int | None:
    """The number of slices of a slab for the option ``tile``; None lets `SlabPlan` choose.

    >>> slab_slices("auto", (20, 30, 40)), slab_slices("8", (20, 30, 40))
    (None, 8)
    >>> slab_slices("off", (20, 30, 40))
    40
    """
    if tile == "auto":
        return None
    return max(shape) if tile == "off" else int(tile)


def needed(
    net: Backbone,
    layers: Sequence[str],
    shape: Sequence[int],
    spacing: Sequence[float],
    optimizer: str,
    *,
    processes: int = 1,
    slices: int | None = None,
) -> int:
    """Bytes that a volume takes in each of the processes that share it, beside the inputs.

    Args:
        net: see `choose_optimizer`, like the next three.
        layers: the layers whose features are needed.
        shape: of the volume.
        spacing: mm along each axis.
        optimizer: one of `convnd.optimize.OPTIMIZERS`.
        processes: number of processes.
        slices: see `SlabPlan`.
    """
    views = square_pixel_views(shape, spacing)
    pixels = SlabPlan(processes, slices).peak_pixels(views, shape)
    side = math.ceil(math.sqrt(pixels))
    slab = net.peak_bytes((side, side), layers)
    fields = OPTIMIZERS[optimizer].copies + _OWN + (_SHARED if processes > 1 else 0)
    part = math.ceil(max(shape) / processes) * math.prod(shape) // max(shape)
    return 4 * part * fields + slab + min(slab, KEPT_PAGES)
