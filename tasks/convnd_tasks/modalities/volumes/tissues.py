"""The tissues of a scan: its voxels by value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd_tasks.modalities.volumes.smoothing import erode, local_mean, sigmas

__all__ = [
    "HOUNSFIELD",
    "WHOLE",
    "Scheme",
    "TissueMap",
    "otsu_limits",
    "otsu_scheme",
    "tissue_values",
]


@dataclass(frozen=True)
class Scheme:
    """How values name a tissue.

    Args:
        names: of the tissues, from low to high values.
        limits: the values between them, one fewer.
        measured: for each tissue, whether its noise can be told from its anatomy.
        uniform: whether the noise is about the same in every tissue, as in magnitude images.
        strict: whether noise counts only where much of a tissue is flat.
        structured: numbers of tissues whose fine structures pass for noise. They are measured, but
            a transfer changes them as their neighbours.
    """

    names: tuple[str, ...]
    limits: tuple[float, ...]
    measured: tuple[bool, ...]
    uniform: bool = False
    strict: bool = True
    structured: tuple[int, ...] = ()


HOUNSFIELD = Scheme(
    ("air", "lung", "border", "soft", "bone"),
    (-950.0, -500.0, -200.0, 200.0),
    # Between lung and soft tissue lie their borders, and bone has trabeculae in place of noise.
    (True, True, False, True, False),
    structured=(1,),  # vessels of the lung
)
"""The tissues of CT, by HU."""


WHOLE = Scheme(("the scan",), (), (True,), uniform=True, strict=False)
"""One tissue, for scans in which no tissue has enough flat places."""


def otsu_scheme(values: Sequence[Tensor]) -> Scheme:
    """Three tissues of scans in other units, between the two thresholds of Otsu (1979).

    Args:
        values: of the tissues of each scan, in the same units; every scan counts alike.
    """
    limits = otsu_limits(values, 3)
    return Scheme(("dark", "medium", "bright"), limits, (True, True, True), uniform=True)


def otsu_limits(values: Sequence[Tensor], classes: int) -> tuple[float, ...]:
    """The thresholds of Otsu (1979) between two or three classes.

    Args:
        values: of each scan; every scan counts alike.
        classes: 2 or 3.

    >>> low, high = torch.linspace(0, 1, 50), torch.linspace(9, 10, 50)
    >>> 1 < otsu_limits([torch.cat([low, high])], 2)[0] < 9
    True
    """
    bins = 128
    pooled = torch.cat([part[:: max(1, part.numel() // 100_000)] for part in values])
    low, high = (float(end) for end in torch.quantile(pooled, pooled.new_tensor([0.005, 0.995])))
    if high <= low:
        high = low + 1.0
    histogram = torch.zeros(bins, dtype=torch.float64)
    for part in values:
        histogram += torch.histc(part, bins, low, high).double() / max(1, part.numel())
    weight = torch.cat([histogram.new_zeros(1), histogram.cumsum(0)])
    moment = torch.cat(
        [histogram.new_zeros(1), (histogram * torch.arange(bins, dtype=torch.float64)).cumsum(0)]
    )
    share = weight[None] - weight[:, None]  # of bins [i, j)
    between = (moment[None] - moment[:, None]).square() / share.clamp(min=1e-12)
    step, inner = (high - low) / bins, torch.arange(1, bins)
    if classes == 2:
        best = int((between[0, inner] + between[inner, bins]).argmax())
        return (low + step * (1 + best),)
    first, second = inner[:, None], inner[None]
    score = between[0, first] + between[first, second] + between[second, bins]
    place = int(torch.where(first < second, score, -1.0).argmax())
    return low + step * (1 + place // (bins - 1)), low + step * (1 + place % (bins - 1))


class TissueMap:
    """The tissue of every voxel, by its value after a small blur.

    Args:
        values: ``(D, H, W)``, finite.
        spacing: mm along each axis.
        valid: the voxels that belong to some tissue.
        scheme: the tissues.
        resolution: mm, the standard deviation of the blur.

    Attributes:
        labels: number of the tissue, -1 outside ``valid``; int8.
    """

    def __init__(
        self,
        values: Tensor,
        spacing: Sequence[float],
        valid: Tensor,
        scheme: Scheme,
        resolution: float,
    ) -> None:
        self.scheme = scheme
        self._sigma = sigmas(spacing, resolution, min(spacing))
        smooth = local_mean(values, valid.float(), self._sigma)
        labels = torch.bucketize(smooth, smooth.new_tensor(scheme.limits)).to(torch.int8)
        self.labels = torch.where(valid, labels, -1)

    def mask(self, tissue: int) -> Tensor:
        """The voxels of one tissue."""
        return self.labels == tissue

    def core(self, tissue: int, depth: int = 2) -> Tensor:
        """The voxels of one tissue with no other tissue within ``depth`` voxels."""
        if not self.scheme.strict:
            return self.mask(tissue)
        return erode(self.mask(tissue), [depth * count for count in self.reach])

    def share(self, tissue: int) -> Tensor:
        """How much a voxel belongs to a tissue, ``[0, 1]``; all tissues add up to 1 inside."""
        valid = (self.labels >= 0).float()
        share = local_mean(self.mask(tissue).float(), valid, self._sigma)
        return share * valid

    @property
    def reach(self) -> list[int]:
        """Voxels along each axis within which a blur mixes tissues."""
        return [1 if width > 0 else 0 for width in self._sigma]


def tissue_values(values: Tensor, spacing: Sequence[float], valid: Tensor) -> Tensor:
    """The values of the valid voxels after a blur of one voxel."""
    smooth = local_mean(values, valid.float(), sigmas(spacing, min(spacing), min(spacing)))
    return smooth[valid]
