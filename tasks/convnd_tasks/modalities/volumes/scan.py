"""One frame of a scan, with its voxel size and the voxels that belong to the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd.grid import Grid
from convnd_tasks.modalities.volumes.orientation import Orientation
from convnd_tasks.modalities.volumes.smoothing import constant_background

__all__ = ["Scan", "first_valid_frame"]

_SAMPLES = 100_000  # voxels of a frame whose values are looked at before all of them


@dataclass(frozen=True)
class Scan:
    """One frame of a scan, with axes towards head, front and right.

    Args:
        values: ``(D, H, W)``, finite.
        spacing: mm along each axis.
        valid: ``(D, H, W)``, bool; voxels that are neither padding nor missing.
    """

    values: Tensor
    spacing: tuple[float, ...]
    valid: Tensor

    @classmethod
    def from_values(cls, values: Tensor, spacing: Sequence[float]) -> Scan:
        """Make a scan from values with padding and missing voxels.

        Args:
            values: ``(D, H, W)``; missing voxels are NaN or infinite.
            spacing: mm along each axis.
        """
        finite = torch.isfinite(values)
        low = values[finite].min() if bool(finite.any()) else values.new_zeros(())
        values = torch.where(finite, values, low).contiguous()  # filters are faster then
        return cls(values, tuple(spacing), finite & ~constant_background(values))

    @classmethod
    def from_grid(cls, grid: Grid, frame: int = 0) -> Scan:
        """Take one frame of a volume with values ``(1, T, *S)``."""
        axes = Orientation(grid)
        return cls.from_values(axes.canonical_frame(grid.values, frame), axes.spacing)

    @classmethod
    def first(cls, grid: Grid) -> Scan:
        """Take the first frame with valid voxels of a volume; of blank frames, the first."""
        return cls.from_grid(grid, first_valid_frame(grid) or 0)

    def with_values(self, values: Tensor) -> Scan:
        """A scan with the same spacing and valid voxels, and other values."""
        return Scan(values, self.spacing, self.valid)

    def part(self, inside: Tensor) -> tuple[tuple[slice, ...], Scan]:
        """The smallest box that contains some voxels.

        Args:
            inside: ``(D, H, W)``, bool, with at least one voxel.

        Returns:
            The slices of the box, and the scan there; voxels that are not inside are not valid.
        """
        places = inside.nonzero()
        ends = zip(places.amin(0).tolist(), places.amax(0).tolist(), strict=True)
        box = tuple(slice(first, last + 1) for first, last in ends)
        return box, Scan(self.values[box], self.spacing, (self.valid & inside)[box])

    def slabs(self) -> Scan:
        """The slices that the look is measured on: bottom, middle and top slab of a tall scan.

        Slices that are not valid separate the slabs, so no filter mixes two slabs. A scan that is
        not taller than three slabs is returned whole.
        """
        thick = self.spacing[0] > 2.5 * min(self.spacing)  # filters do not mix thick slices
        slab, gap = (8, 1) if thick else (16, 8)
        slices = self.values.shape[0]
        if slices <= 3 * slab + 2 * gap:
            return self
        starts = [0, (slices - slab) // 2, slices - slab]
        index = torch.cat([torch.arange(slab + gap) + start for start in starts])[:-gap]
        valid = self.valid[index.clamp(max=slices - 1)]
        for number in (1, 2):
            valid[number * (slab + gap) - gap : number * (slab + gap)] = False
        return Scan(self.values[index], self.spacing, valid)


def first_valid_frame(grid: Grid) -> int | None:
    """The number of the first frame with valid voxels; None if every frame is blank.

    Args:
        grid: a volume with values ``(1, T, *S)``.
    """
    for frame, values in enumerate(grid.values[0]):
        sample = values.flatten()[:: max(1, values.numel() // _SAMPLES)]
        # Background has three values at most, so a frame of more has other voxels, too.
        several = len(sample[torch.isfinite(sample)].unique()) > 3
        if several or bool(Scan.from_grid(grid, frame).valid.any()):
            return frame
    return None
