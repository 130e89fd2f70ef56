"""Volumes: how a scan enters a style transfer, and what comes back to its owner.

The work is done on the scan's own grid, turned so that its axes run towards head, front and right;
values between the ends of a window become ``[0, 1]``. What comes back is the scan plus a change in
its own units: where the scan lies outside the window or has no value, and outside a mask, it is
what it was, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd import io
from convnd.errors import InputFileError, NumericalError, UsageError
from convnd_tasks.modalities.volumes.options import VolumeOptions
from convnd_tasks.pipeline.checkpoints import Keeping

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid
    from convnd.transfer.style_transfer import Progress

__all__ = ["VolumeResult", "check_scan", "depends_on", "stylize_scan"]


@dataclass(frozen=True, kw_only=True)
class VolumeResult:
    """What became of a scan.

    Args:
        grid: the scan with other values; None in a process that leaves this to the first.
        losses: the objective at every step, frame after frame.
        steps: taken, of all frames.
        rejected_steps: number of rejected steps, see `convnd.optimize.minimize`.
        remarks: what people should be told: window, look, optimizer and why.
        stopped: what ended it before its last step, or None: a signal, or a NumericalError.
    """

    grid: Grid | None
    losses: Sequence[float]
    steps: int
    rejected_steps: int = 0
    remarks: Sequence[str] = field(default_factory=tuple)
    stopped: BaseException | None = None


def check_scan(scan: Grid, role: str) -> None:
    """Refuse what is no volume.

    Args:
        scan: values ``(1, T, *S)``.
        role: what to call it.

    Raises:
        InputFileError: not three axes of more than one sample, the same value everywhere, or
            nothing finite.
    """
    import torch

    if scan.ndim != 3 or min(scan.shape) < 2:
        raise InputFileError(
            f"{role}: expected a volume of three axes, got {' x '.join(map(str, scan.shape))}; "
            "give a volume, or use convnd stylize --dim 2"
        )
    finite = scan.values[torch.isfinite(scan.values)]
    if finite.numel() == 0:
        raise InputFileError(f"{role}: expected some finite values, got none; check the file")
    if bool((finite == finite[0]).all()):
        raise InputFileError(
            f"{role}: expected values that differ, got {finite[0].item():g} everywhere; "
            "check the file"
        )


def stylize_scan(
    scan: Grid,
    styles: Sequence[Grid],
    options: VolumeOptions,
    *,
    mask: Grid | None = None,
    watch: Callable[[Progress], None] | None = None,
    keeping: Keeping | None = None,
    resume: Mapping[str, Any] | None = None,
) -> VolumeResult:
    """Give a scan the style of others; each frame of a series by itself.

    The processes of a group (`convnd.optimize.ProcessGroup`) share each frame, all of them with
    the same arguments.

    Args:
        scan: values ``(1, T, I, J, K)``, spacing in mm.
        styles: volumes, or pictures of two axes; each counts alike.
        options: see `VolumeOptions`.
        mask: of the scan's shape; where it is 0 nothing changes, where it is 1 all of the change
            is taken.
        watch: is told of every step.
        keeping: keeps checkpoints and stops the work; None keeps none.
        resume: the state of a checkpoint to go on from, made with the same arguments.

    Raises:
        InputFileError: scan, style or mask cannot be used (see `check_scan`), or do not fit.
        ResourceError: there is not enough memory.
        NumericalError: there is nothing finite to begin with; later it is `VolumeResult.stopped`.
        UnknownNameError: no such backbone, layer, statistic or optimizer.
    """
    import torch

    from convnd.optimize import ProcessGroup, ShardedField
    from convnd_tasks.modalities.volumes.walk import Course
    from convnd_tasks.modalities.volumes.worker import Worker

    check_scan(scan, "scan")
    for style in styles:
        _check_style(style)
    weight = _mask_weight(scan, mask)
    worker = Worker(scan, styles, options)
    group = ProcessGroup.current()
    keeping = Keeping(Path("volume"), 0, group) if keeping is None else keeping
    course = Course() if resume is None else Course(**resume)
    stopped: BaseException | None = None
    with keeping.stopping.signals():
        while stopped is None and len(course.done) < scan.values.shape[1]:
            stopped = worker.run(course, keeping, watch)
        shards = ShardedField(worker.axes.shape, group)
        changes = (shards.gather_to_root(course.done.pop(0)) for _ in range(len(course.done)))
        values = [
            before if change is None else worker.changed(before, change, weight)
            for before, change in zip_longest(torch.split(scan.values, 1, 1), changes)
        ]
    grid = None
    if group.rank == 0:
        grid = scan.with_values(torch.cat(values, 1))
        if not bool(torch.isfinite(grid.values[torch.isfinite(scan.values)]).all()):
            raise NumericalError(
                "volume: expected finite values, got some that are not; use fewer steps or a "
                "smaller style weight"
            )
    return VolumeResult(
        grid=grid,
        losses=course.losses,
        steps=course.steps,
        rejected_steps=course.rejected_steps,
        remarks=[*worker.remarks, *course.notes],
        stopped=stopped,
    )


def depends_on(scan: Grid, styles: Sequence[Grid], mask: Grid | None) -> list[object]:
    """What of the inputs a result depends on, for `Keeping.open`."""
    grids = [scan, *styles, *([] if mask is None else [mask])]
    axes = [io.anatomical_axes(each) for each in grids if each.ndim == 3]
    return [
        "volume",
        len(styles),
        axes,
        *(each.spacing for each in grids),
        *(each.values for each in grids),
    ]


def _check_style(style: Grid) -> None:
    import torch

    if style.ndim == 3:
        check_scan(style, "style")
    elif style.ndim != 2 or min(style.shape) < 16:
        raise InputFileError(
            f"style: expected a volume, or a picture of at least 16 x 16 pixels, got "
            f"{' x '.join(map(str, style.shape))}; use another"
        )
    if not bool(torch.isfinite(style.values).all()):
        raise InputFileError(
            "style: expected finite values, got some that are not; fill or cut the gaps"
        )


def _mask_weight(scan: Grid, mask: Grid | None) -> Tensor | float:
    import numpy as np
    import torch

    if mask is None:
        return 1.0
    if mask.shape != scan.shape or mask.values.shape[1] not in (1, scan.values.shape[1]):
        raise InputFileError(
            f"--mask: expected the scan's shape {' x '.join(map(str, scan.shape))}, got "
            f"{' x '.join(map(str, mask.shape))}; resample the mask onto the scan"
        )
    known = mask.header.get("affine") is not None and scan.header.get("affine") is not None
    if known and not np.allclose(io.grid_affine(mask), io.grid_affine(scan), atol=1e-2):
        raise InputFileError(
            "--mask: expected voxels where the scan's are, got another affine; resample the mask "
            "onto the scan"
        )
    weight = torch.nan_to_num(mask.values[:, :1]).clamp(0, 1)
    if not bool((weight > 0).any()):
        raise UsageError("--mask: expected some voxels above 0, got none; give another mask")
    return weight
