"""Tissues of a scan: classes of voxels by value."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.smoothing import erode, local_mean, sigmas

__all__ = [
    "CT_TISSUES",
    "EMPHYSEMA",
    "TissueMap",
    "TissueScheme",
    "otsu_limits",
    "otsu_scheme",
    "tissue_values",
]

EMPHYSEMA = -950.0
"""HU; lung below it counts as destroyed (LAA-950; Gevenois et al., 1996)."""


@dataclass(frozen=True)
class TissueScheme:
    """The tissues of a kind of scan, and how each one's noise is measured.

    Args:
        names: of the tissues, from low to high values.
        limits: values between neighbouring tissues, one fewer than tissues.
        measured: for each tissue, whether its noise can be separated from its anatomy.
        uniform: the noise is about the same in every tissue, as in magnitude images.
        structured: numbers of tissues whose fine structures cannot be separated from noise. Their
            noise is measured for comparison, but a transfer gives them the change of a neighbouring
            tissue.
        unit: unit of the values, "HU", or "" for others.
    """

    names: tuple[str, ...]
    limits: tuple[float, ...]
    measured: tuple[bool, ...]
    uniform: bool = False
    structured: tuple[int, ...] = ()
    unit: str = ""

    def without_structured(self) -> TissueScheme:
        """The same tissues, of which the structured ones are not measured."""
        measured = (known and n not in self.structured for n, known in enumerate(self.measured))
        return dataclasses.replace(self, measured=tuple(measured))


CT_TISSUES = TissueScheme(
    ("air", "lung", "border", "soft", "bone"),
    (EMPHYSEMA, -500.0, -200.0, 200.0),
    # "border" holds partial volumes of lung and soft tissue; trabeculae of bone look like noise.
    (True, True, False, True, False),
    structured=(1,),  # vessels of the lung
    unit="HU",
)
"""The tissues of CT, by HU."""


def otsu_scheme(values: Sequence[Tensor]) -> TissueScheme:
    """Three tissues of scans without a unit, separated by the two thresholds of Otsu (1979).

    Args:
        values: tissue values of each scan, see `tissue_values`; all scans have equal weight.
    """
    limits = otsu_limits(values, 3)
    return TissueScheme(("dark", "medium", "bright"), limits, (True, True, True), uniform=True)


def otsu_limits(values: Sequence[Tensor], classes: int) -> tuple[float, ...]:
    """The thresholds of Otsu (1979) between two or three classes.

    Args:
        values: values of each scan; all scans have equal weight.
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
    share = weight[None] - weight[:, None]  # [i, j]: share of the values in bins i to j - 1
    between = (moment[None] - moment[:, None]).square() / share.clamp(min=1e-12)
    step, inner = (high - low) / bins, torch.arange(1, bins)
    if classes == 2:
        best = int((between[0, inner] + between[inner, bins]).argmax())
        return (low + step * (1 + best),)
    first, second = inner[:, None], inner[None]
    score = between[0, first] + between[first, second] + between[second, bins]
    best = int(torch.where(first < second, score, -1.0).argmax())
    return low + step * (1 + best // (bins - 1)), low + step * (1 + best % (bins - 1))


class TissueMap:
    """The tissue of every voxel, from its value after a small blur.

    Args:
        scan: the scan.
        scheme: its tissues.
        resolution: standard deviation of the blur in mm.

    Attributes:
        labels: ``(D, H, W)``, int8; number of the tissue, -1 for voxels that are not valid.
    """

    def __init__(self, scan: Scan, scheme: TissueScheme, resolution: float) -> None:
        self.scheme = scheme
        self._sigma = sigmas(scan.spacing, resolution, min(scan.spacing))
        smooth = local_mean(scan.values, scan.valid.float(), self._sigma)
        labels = torch.bucketize(smooth, smooth.new_tensor(scheme.limits)).to(torch.int8)
        self.labels = torch.where(scan.valid, labels, -1)

    def mask(self, tissue: int) -> Tensor:
        """The voxels ``(D, H, W)`` of one tissue, bool."""
        return self.labels == tissue

    def core(self, tissue: int, depth: int = 2) -> Tensor:
        """The voxels of a tissue that are more than ``depth`` voxels away from other tissues."""
        return erode(self.mask(tissue), [depth if width > 0 else 0 for width in self._sigma])

    def share(self, tissue: int) -> Tensor:
        """The blurred mask of a tissue, in ``[0, 1]``; the shares of all tissues add up to 1."""
        valid = (self.labels >= 0).float()
        share = local_mean(self.mask(tissue).float(), valid, self._sigma)
        return share * valid


def tissue_values(scan: Scan) -> Tensor:
    """Up to about 200,000 values ``(n,)`` of a scan's valid voxels, blurred by one voxel."""
    widths = sigmas(scan.spacing, min(scan.spacing), min(scan.spacing))
    values = local_mean(scan.values, scan.valid.float(), widths)[scan.valid]
    return values[:: max(1, len(values) // 200_000)].contiguous()
