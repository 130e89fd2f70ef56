"""How much memory a volume takes, and the optimizer that there is room for."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import psutil

from convnd.errors import ResourceError
from convnd.optimize import OPTIMIZERS, ProcessGroup
from convnd.transfer.memory import KEPT_PAGES
from convnd_tasks.modalities.volumes.grain import square_pixels
from convnd_tasks.modalities.volumes.objective import ONE_PASS
from convnd_tasks.modalities.volumes.sight import POSITIONS

if TYPE_CHECKING:
    import torch

    from convnd.backbones import VGG

__all__ = ["choose_optimizer", "needed"]

_LOG = logging.getLogger(__name__)

_LBFGS_VOXELS = 2**25  # its pairs take 160 bytes a voxel: 5 GiB
_OWN = 4  # volumes beside the walk's: the scan as the network sees it, start, strides, and values
_SHARED = (
    5  # and of several processes: slices of iterate and scan, their gradient, and its way back
)


def choose_optimizer(
    name: str,
    net: VGG,
    layers: Sequence[str],
    shape: Sequence[int],
    spacing: Sequence[float],
    device: torch.device,
) -> tuple[str, str]:
    """The optimizer, and why it is this one.

    Args:
        name: what was asked for; "auto" is L-BFGS up to 2^25 voxels where there is room for it,
            and Adam elsewhere.
        net: of two axes, in the precision that it is to have.
        layers: of it.
        shape: of the scan.
        spacing: mm along each axis.
        device: where the network runs.

    Raises:
        UnknownNameError: no such optimizer.
        ResourceError: there is too little memory.
    """
    voxels = math.prod(shape)
    group = ProcessGroup.current()
    here = group.local_size

    def needs(optimizer: str) -> int:
        return needed(net, layers, shape, spacing, optimizer, processes=group.size)

    # The same one for all.
    free = -group.all_reduce_max(-(psutil.virtual_memory().available // here))
    found, why = name, "as asked for"
    if name == "auto":
        found, why = "lbfgs", "chosen by size"
        if voxels > _LBFGS_VOXELS:
            found = "adam"
        elif device.type == "cpu" and needs(found) > free:
            found, why = "adam", "chosen by memory"
    OPTIMIZERS[found]
    if device.type != "cpu":
        return found, why
    size = needs(found)
    _LOG.info("about %.1f GiB of %.1f GiB that are free", size / 2**30, free / 2**30)
    if size > free:
        each = f" for each of {here} processes" if here > 1 else ""
        raise ResourceError(
            f"volume: expected at most {free / 2**30:.1f} GiB, which is free{each}, got a job "
            f"of about {size / 2**30:.1f} GiB for {voxels:,} voxels; use --optimizer adam, "
            f"{'fewer processes, ' if here > 1 else ''}or crop the scan"
        )
    return found, why


def needed(
    net: VGG,
    layers: Sequence[str],
    shape: Sequence[int],
    spacing: Sequence[float],
    optimizer: str,
    *,
    processes: int = 1,
) -> int:
    """Bytes that a scan takes in each of the processes that share it, beside what is read in.

    Args:
        net: see `choose_optimizer`, like the next three.
        layers: of it.
        shape: of the scan.
        spacing: mm along each axis.
        optimizer: one of `convnd.optimize.OPTIMIZERS`.
        processes: how many there are.
    """
    views = square_pixels(shape, spacing)
    positions = sum(math.prod(view.size) * shape[view.axis] for view in views)
    at_once = POSITIONS // processes
    side = math.ceil(math.sqrt(positions if processes == 1 and positions <= ONE_PASS else at_once))
    slab = net.peak_bytes((side, side), layers)
    fields = OPTIMIZERS[optimizer].copies + _OWN + (_SHARED if processes > 1 else 0)
    part = math.ceil(max(shape) / processes) * math.prod(shape) // max(shape)
    return 4 * part * fields + slab + min(slab, KEPT_PAGES)
