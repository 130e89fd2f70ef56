r"""A style that is another image of the scan itself, such as its reconstruction by another kernel.

Voxels of both correspond, so anatomy cancels in their difference: with a filter F,

.. math:: s = F c + n

for scan c, style s and noise n. The style may be mirrored, and shifted by whole voxels. F is found
at the strongest edges e, such that what it leaves does not correlate with smoothed details z of
both: :math:`\sum_e z(e) \, (s - F c)(e) = 0`. Least squares would take the noise of the scan for
detail that the style lacks (instrumental variables; Wright, 1928).

The residual has the noise of both. The share of its power that is the scan's follows from the
correlation of the residual with the scan; in it, places with little anatomy have more weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd.nn.fft_conv import fft_length
from convnd_tasks.modalities.volumes.alignment import align
from convnd_tasks.modalities.volumes.noise_power import (
    ERRORS,
    LOCAL_SIGMA,
    measured_cores,
    power_meter,
    tissue_residual,
)
from convnd_tasks.modalities.volumes.noise_spectrum import spectrum
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.sharpness import apply_filters, quantile
from convnd_tasks.modalities.volumes.smoothing import gaussian, local_mean, sigmas
from convnd_tasks.modalities.volumes.tissues import TissueMap, TissueScheme
from convnd_tasks.modalities.volumes.white_noise import GROUPS

__all__ = ["Pair", "added_noise", "find_pair"]

_SAME_SPACING = 0.02  # relative difference of the voxels of a pair
_SAME_SIDE = 0.1  # the same of the sides of a voxel whose axes have one filter
_DETAIL_SIGMA = 2.0  # resolutions; details are what a Gaussian of this width removes
_EDGE_SHARE = 0.05  # of the voxels, at which a filter is found
_FEWEST = 100  # voxels among which edges are looked for
_UNEXPLAINED = 0.3  # of the power of details at edges that differs in a pair
_LEAST_GAIN = 0.01  # of that power which a filter must explain, or it is none
_LEFT = 0.2  # of what differs at edges, without noise, that a filter may leave
_LARGEST = 4.0  # limit of the amount of a filter: a blur of two resolutions, or five-fold contrast
_CLIPPED = 0.01  # share of clipped voxels of a tissue whose noise is known
_CORRECTIONS = 3  # of a spectrum
_LEAST_SHARE = 0.1  # of the scan in a residual; less counts as none
_STEPS, _DIFFERENCE, _PRECISION = 6, 0.1, 0.01  # of Newton's method for the amounts of filters


@dataclass(frozen=True)
class Pair:
    """A style on the voxels of a scan.

    Args:
        style: the style, mirrored and shifted; voxels without a counterpart are not valid.
        filters: amounts of the filters by axis that give the scan the style's sharpness, see
            `apply_filters`; empty if the sharpness is the same.
        left: power of the details at edges that scan and filters leave, over that of the style's.
    """

    style: Scan
    filters: Mapping[int, float]
    left: float = 0.0


def find_pair(scan: Scan, style: Scan, resolution: float) -> Pair | None:
    """Find out whether a style is another image of the scan.

    Args:
        scan: the scan.
        style: the style, in the scan's unit.
        resolution: mm; the coarsest, over both, of their finest voxel sides.

    Returns:
        The pair; None if no shift and filter explain most of the style's details.
    """
    if not all(
        math.isclose(own, other, rel_tol=_SAME_SPACING)
        for own, other in zip(scan.spacing, style.spacing, strict=True)
    ):
        return None
    aligned = align(scan, style)
    if aligned is None:
        return None
    filters, left = _find_filters(scan.slabs(), aligned.slabs(), resolution)
    return Pair(aligned, filters, left) if left <= _UNEXPLAINED else None


def added_noise(
    style: Scan, filtered: Scan, scheme: TissueScheme, resolution: float
) -> dict[int, Tensor]:
    """Measure the power that the style's noise has more than the scan's.

    Args:
        style: the style of a `Pair`, or its slabs.
        filtered: the scan with the style's sharpness, or its slabs.
        scheme: tissues of the scan.
        resolution: mm, see `find_pair`.

    Returns:
        ``(7,)`` by measured tissue, the power by band of frequency; below 0 where the scan is
        louder.
    """
    inside = style.valid & filtered.valid
    own = Scan(filtered.values, filtered.spacing, inside)
    rest = own.with_values(torch.where(inside, style.values - own.values, 0.0))
    cores = measured_cores(TissueMap(own, scheme, resolution))
    if scheme.uniform and cores:
        # The noise is that of all tissues, but the range of values clips that of some.
        low, high = filtered.values[filtered.valid].aminmax()
        clipped = (style.values <= low) | (style.values >= high)
        sizes = {
            tissue: (float(clipped[inner].float().mean()) < _CLIPPED, int(inner.sum()))
            for tissue, inner in cores.items()
        }
        largest = max(sizes, key=sizes.__getitem__)
        known = _measure_spectrum(rest, cores[largest], resolution)
        powers = dict.fromkeys(range(len(scheme.names)), known)
    else:
        powers = {
            tissue: _measure_spectrum(rest, inner, resolution) for tissue, inner in cores.items()
        }
    parts = [_covariances(own, rest, inner, resolution) for inner in cores.values()]
    share = _scan_share(torch.stack(parts).sum(0)) if parts else 0.5
    return {tissue: power * (1 - 2 * share) for tissue, power in powers.items()}


def _measure_spectrum(rest: Scan, inner: Tensor, resolution: float) -> Tensor:
    """The power ``(7,)`` of a residual without anatomy in one tissue, by band of frequency.

    The borders of a tissue mix frequencies, so noise of the measured spectrum is drawn and measured
    in the same way, and the spectrum is corrected by what differs.
    """
    box, _ = rest.part(inner)
    inner = inner[box]
    measure = power_meter(inner, rest.spacing, resolution)
    measured = power = measure(rest.values[box]).mean(-1)
    shape = [fft_length(extent) for extent in inner.shape]
    white = torch.fft.fftn(torch.randn(shape, generator=torch.Generator().manual_seed(1)))
    crop = tuple(slice(0, extent) for extent in inner.shape)
    for _ in range(_CORRECTIONS):
        transfer = spectrum(power, shape, rest.spacing, resolution).sqrt()
        drawn = torch.fft.ifftn(white * transfer).real.float()[crop].contiguous()
        again = measure(drawn).mean(-1)
        power = power * (measured / again.clamp(min=1e-30)).clamp(0.25, 4.0)
    return power


def _covariances(own: Scan, rest: Scan, inner: Tensor, resolution: float) -> Tensor:
    """Sums ``(2, 8)`` over groups of voxels of one tissue.

    They are the products of scan and residual, with the opposite sign, and the squared residual.
    Each place is divided by its local power, so anatomy has little weight. That power has no
    product of scan and residual: where one is negative by chance, it would raise the weight.
    """
    widths = sigmas(own.spacing, 2 * LOCAL_SIGMA * resolution, min(own.spacing))
    part, anatomy = (
        tissue_residual(scan.values, inner, own.spacing, resolution) for scan in (rest, own)
    )
    power = anatomy.square() + part.square() / 4
    weight = 1 / gaussian(power, widths).clamp(min=1e-30)
    fields = torch.stack([-part * anatomy, part.square()])[:, inner] * weight[inner]
    return torch.stack([group.sum(1) for group in fields.double().tensor_split(GROUPS, 1)], 1)


def _scan_share(sums: Tensor) -> float:
    """The share of the power of a residual that is noise of the scan.

    The noise of the scan enters the residual with the opposite sign. Anatomy that no filter
    explained gives any share, and then none of the residual is noise: 1/2, as if both had as much.

    Args:
        sums: ``(2, 8)``, see `_covariances`.
    """
    if not bool(sums[1].all()):
        return 0.5
    total = sums.sum(1)
    share = float(total[0] / total[1])
    parts = (total[:, None] - sums)[0] / (total[:, None] - sums)[1]  # the jackknife
    error = ERRORS * math.sqrt((GROUPS - 1) * float(parts.var(correction=0)))
    error = max(error, _LEAST_SHARE)
    if min(abs(share), abs(share - 1)) < error:
        return float(round(share))
    return share if 0 < share < 1 else 0.5


def _find_filters(scan: Scan, style: Scan, resolution: float) -> tuple[dict[int, float], float]:
    """Find the filters that give a scan the sharpness of a style on its voxels.

    Returns:
        Amounts of the filters by axis, empty if they explain nothing; the share of the power of
        details at edges that they leave.
    """
    widths = sigmas(scan.spacing, _DETAIL_SIGMA * resolution, min(scan.spacing))
    axes = [axis for axis in range(3) if widths[axis] > 0 and scan.values.shape[axis] > 2]
    low, high = scan.values[scan.valid].aminmax()
    # A filter does not explain what the range clips.
    inside = style.valid & (style.values > low) & (style.values < high)
    if not axes or int(inside.sum()) < _FEWEST:
        return {}, math.inf
    weight, half = inside.float(), [width / 2 for width in widths]
    mean = local_mean((scan.values + style.values) / 2, weight, half)
    slopes = [torch.gradient(mean, dim=axis)[0] / scan.spacing[axis] for axis in axes]
    steepness = torch.stack(slopes).square().sum(0)
    edges = inside & (steepness >= quantile(steepness[inside], 1 - _EDGE_SHARE))
    flat = inside & (steepness <= quantile(steepness[inside], 0.5))
    # Axes with the same spacing have one filter.
    groups: dict[int, list[int]] = {}
    for axis in axes:
        side = round(math.log(scan.spacing[axis] / min(scan.spacing)) / _SAME_SIDE)
        groups.setdefault(side, []).append(axis)
    blurred = [
        local_mean(mean, weight, [width * (axis in group) for axis, width in enumerate(half)])
        for group in groups.values()
    ]
    instruments = torch.stack([(mean - part)[edges] for part in blurred]).double()

    def by_axis(amounts: Sequence[float]) -> dict[int, float]:
        pairs = zip(groups.values(), amounts, strict=True)
        return {axis: amount for group, amount in pairs for axis in group}

    def rest(amounts: Sequence[float]) -> Tensor:
        return style.values - apply_filters(scan, by_axis(amounts), resolution).values

    def power(values: Tensor, places: Tensor) -> float:
        detail = values - local_mean(values, weight, widths)
        return max(float(detail[places].double().square().mean()), 1e-30)

    amounts = _solve(lambda amounts: rest(amounts)[edges].double(), instruments)
    left = rest(amounts)
    before, after = power(style.values - scan.values, edges), power(left, edges)
    details, noise = power(style.values, edges), power(left, flat)
    explains = after - noise <= _LEFT * (before - noise)
    if before - after >= _LEAST_GAIN * details and explains:
        return by_axis(amounts), after / details
    return {}, min(before, after) / details


def _solve(rest: Callable[[Sequence[float]], Tensor], instruments: Tensor) -> list[float]:
    """Find the amounts whose residuals do not correlate with instruments, by Newton's method.

    Args:
        rest: the residual ``(n,)`` of some amounts.
        instruments: ``(k, n)`` for k amounts.
    """
    amounts = [0.0] * len(instruments)
    for _ in range(_STEPS):
        left = rest(amounts)
        changed = [
            [a + _DIFFERENCE * (n == m) for n, a in enumerate(amounts)] for m in range(len(amounts))
        ]
        slope = torch.stack([rest(part) - left for part in changed], 1) / _DIFFERENCE
        step = torch.linalg.lstsq(instruments @ slope, -instruments @ left).solution.tolist()
        amounts = [
            min(max(a + change, -_LARGEST), _LARGEST)
            for a, change in zip(amounts, step, strict=True)
        ]
        if max(map(abs, step)) < _PRECISION:
            break
    return amounts
