r"""The white noise that a scan has more than another scan of other anatomy.

The patches of a tissue are vectors. White noise adds its variance to their covariance in every
direction; anatomy is smooth, and adds to few of them (Pyatykh, Hesser and Zheng, "Image noise level
estimation by principal component analysis", 2013). So noise shows in the directions V in which the
patches of both scans together vary least:

.. math:: \frac{1}{k} \operatorname{tr} V^T (\Sigma_{style} - \Sigma_{scan}) V

V is found in seven of eight groups of patches, and used in the eighth: in the same patches, the
smallest variance would be too small. Pyatykh et al. take one direction of one picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from convnd_tasks.modalities.volumes.noise_power import CLEAR, ERRORS
from convnd_tasks.modalities.volumes.noise_spectrum import voxel_volume
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.smoothing import erode, sigmas
from convnd_tasks.modalities.volumes.tissues import TissueMap, TissueScheme

__all__ = ["GROUPS", "lacking_white_noise"]

GROUPS = 8
"""Groups of voxels, for standard errors."""

# Sides of patches, the coarsest axis first, in the order in which they are tried.
_SIDES = {False: ((5, 5, 5), (3, 3, 3)), True: ((1, 7, 7), (1, 5, 5))}
_SHARE = 0.05  # of the directions, in which patches vary least
_FEWEST, _MOST = 300, 30_000  # patches of a tissue


@dataclass(frozen=True)
class _Covariance:
    """The covariance of the patches of a tissue.

    Args:
        sums: ``(8, n, n)``; sums of the products of n voxels, over groups of patches.
        counts: ``(8,)``; patches of each group.
        margin: distance of the tissue's mean from the lowest and the highest value of the scan.
    """

    sums: Tensor
    counts: Tensor
    margin: float

    def mean(self, groups: Sequence[int]) -> Tensor:
        """The covariance ``(n, n)`` of some groups."""
        return self.sums[groups].sum(0) / self.counts[groups].sum()

    @cached_property
    def deviation(self) -> float:
        """The standard deviation in the directions in which patches vary least."""
        return math.sqrt(float(_least_variances([self]).mean()))


def lacking_white_noise(
    scan: Scan,
    style: Scan,
    scheme: TissueScheme,
    style_scheme: TissueScheme,
    resolution: float,
) -> dict[int, float]:
    """Measure the white noise that a style has more than a scan.

    In magnitude images the noise of all tissues is that of the quietest one in each scan.

    Args:
        scan: the scan.
        style: a scan of other anatomy, in the same unit.
        scheme: tissues of the scan.
        style_scheme: tissues of the style.
        resolution: mm; the coarsest, over both, of their finest voxel sides.

    Returns:
        The power by tissue, 0 where two standard errors hide the difference, for tissues with
        enough patches in both; for voxels whose sides are one resolution.
    """
    parts = [
        (part, TissueMap(part, tissues, resolution))
        for part, tissues in ((scan.slabs(), scheme), (style.slabs(), style_scheme))
    ]
    thick = any(0.0 in sigmas(part.spacing, 1.0, min(part.spacing)) for part, _ in parts)
    volumes = [voxel_volume(part.spacing, resolution) for part, _ in parts]
    known = [tissue for tissue, measured in enumerate(scheme.measured) if measured]
    lacking: dict[int, float] = {}
    for tissues in [known] if scheme.uniform else [[tissue] for tissue in known]:
        for sides in _SIDES[thick]:
            both = [_covariances(*part, tissues, sides) for part in parts]
            if all(both):
                # The noise of the louder one counts for both, so that they have the same tissues.
                noise = max(_quietest(part, 0.0).deviation for part in both)
                chosen = [_quietest(part, noise) for part in both]
                lacking |= dict.fromkeys(tissues, _difference(chosen, volumes))
                break
    return lacking


def _covariances(
    scan: Scan, tissues: TissueMap, numbers: Sequence[int], sides: Sequence[int]
) -> list[_Covariance]:
    """The covariance of the patches of each tissue that has enough."""
    found = [_covariance(scan, tissues.mask(number), sides) for number in numbers]
    return [part for part in found if part is not None]


def _quietest(tissues: Sequence[_Covariance], noise: float) -> _Covariance:
    """The tissue of least variance, since anatomy adds to the variance of the others.

    A tissue near an end of the range, for this deviation of noise, counts if there is no other.
    """
    clear = [part for part in tissues if part.margin > CLEAR * max(noise, part.deviation)]
    return min(clear or tissues, key=lambda part: part.deviation)


def _covariance(scan: Scan, mask: Tensor, sides: Sequence[int]) -> _Covariance | None:
    """The covariance of the patches within a mask ``(D, H, W)``; None if there are too few."""
    order = sorted(range(3), key=lambda axis: -scan.spacing[axis])
    values, mask = scan.values.permute(order), mask.permute(order)
    reach = [side // 2 for side in sides]
    if any(extent < side for extent, side in zip(mask.shape, sides, strict=True)):
        return None
    centres = erode(mask, reach)
    for axis, count in enumerate(reach):
        centres = centres.narrow(axis, count, centres.shape[axis] - 2 * count)
    places = centres.nonzero()
    if len(places) < _FEWEST:
        return None
    places = places[torch.linspace(0, len(places) - 1, min(len(places), _MOST)).long()]
    for axis, side in enumerate(sides):
        values = values.unfold(axis, side, 1)
    patches = values[tuple(places.T)].flatten(1).double()
    low, high = scan.values[scan.valid].aminmax()
    margin = min(float(patches.mean() - low), float(high - patches.mean()))
    groups = (patches - patches.mean(0)).tensor_split(GROUPS)
    counts = patches.new_tensor([len(group) for group in groups])
    return _Covariance(torch.stack([group.mT @ group for group in groups]), counts, margin)


def _difference(parts: Sequence[_Covariance], volumes: Sequence[float]) -> float:
    """What the patches of a style vary more in the directions of least variance; not below 0.

    Args:
        parts: covariances of scan and style.
        volumes: of both, by which variances are divided.
    """
    levels = _least_variances(parts) / torch.tensor(volumes, dtype=torch.float64)[:, None]
    before, after = levels.mean(1)
    error = ERRORS * math.sqrt(float(levels.var(1).sum()) / GROUPS)
    difference = float(after - before)
    return difference if difference > error else 0.0


def _least_variances(parts: Sequence[_Covariance]) -> Tensor:
    """The variances ``(m, 8)`` of m tissues in the directions in which all together vary least.

    The directions of a group are found in the other groups.
    """
    result = torch.zeros(len(parts), GROUPS, dtype=torch.float64)
    for group in range(GROUPS):
        rest = [n for n in range(GROUPS) if n != group]
        vectors = torch.linalg.eigh(sum(part.mean(rest) for part in parts))[1]
        least = vectors[:, : max(1, int(_SHARE * len(vectors)))]
        for number, part in enumerate(parts):
            result[number, group] = (least * (part.mean([group]) @ least)).sum(0).mean()
    return result
