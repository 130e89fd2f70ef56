"""The look of a scan: the sharpness of its edges and the noise of its tissues."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from convnd_tasks.modalities.volumes.geometry import HOUNSFIELD as HU
from convnd_tasks.modalities.volumes.noise_covariance import (
    NoiseCovariance,
    fit_spectrum,
    high_pass_power,
    measure_noise,
    power_spectrum,
    tissue_residual,
)
from convnd_tasks.modalities.volumes.sharpness import (
    EdgeProfiles,
    Filter,
    apply_filters,
    differs,
    find_filter,
    is_significant,
    measure_edges,
    value_distance,
    value_quantiles,
)
from convnd_tasks.modalities.volumes.smoothing import (
    constant_background,
    gaussian,
    local_mean,
    sigmas,
)
from convnd_tasks.modalities.volumes.tissues import (
    HOUNSFIELD,
    Scheme,
    TissueMap,
    otsu_scheme,
    tissue_values,
)

__all__ = [
    "Look",
    "NoiseChange",
    "Scan",
    "blend_noise",
    "change_noise",
    "match_sharpness",
    "noise_changes",
    "noise_of",
    "scheme_of",
    "transferable_noise",
]

_LEAST_NOISE = 0.03
"""Share of the variance below which a difference of noise is none."""

_ITERATIONS = 6
_FEWEST_MEAN = 500  # voxels whose mean counts
_ENERGY = 1.5  # resolutions, sigma of the window that tells noise from structure
_STRUCTURE = 4.0  # times the energy of noise, from which on it is structure
_LARGEST_REMOVAL = 3.0  # standard deviations of what is removed
_LARGEST_CHANGE = 5.5  # standard deviations of the tissue's noise
_ROOM = 1.3  # deviations; a normal distribution that is cut there moves its mean by 5 % of one


@dataclass(frozen=True)
class Scan:
    """A frame of a scan with axes towards head, front and right.

    Args:
        values: ``(D, H, W)``, finite.
        spacing: mm along each axis.
        valid: voxels that are neither padding nor missing.
    """

    values: Tensor
    spacing: tuple[float, ...]
    valid: Tensor

    @classmethod
    def of(cls, values: Tensor, spacing: Sequence[float]) -> Scan:
        """A scan whose values may be missing (NaN) and padded."""
        finite = torch.isfinite(values)
        low = values[finite].min() if bool(finite.any()) else values.new_zeros(())
        values = torch.where(finite, values, low)
        return cls(values, tuple(spacing), finite & ~constant_background(values))

    def with_values(self, values: Tensor) -> Scan:
        """The same grid with other values."""
        return Scan(values, self.spacing, self.valid)

    def sample(self) -> Scan:
        """The slices that the scan's look is measured on: three slabs of a tall scan.

        Slices that are not valid lie between the slabs, so that no filter reads across.
        """
        thick = self.spacing[0] > 2.5 * min(self.spacing)  # nothing is filtered across slices
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


@dataclass(frozen=True)
class Look:
    """What is transferred from one scan to another.

    Args:
        noise: covariance of the noise by number of the tissue; not of every tissue.
        edges: profiles across edges, by axis.
        strengths: quantiles of the slopes of edges.
        values: quantiles of the values after a blur.
    """

    noise: Mapping[int, NoiseCovariance]
    edges: Mapping[int, EdgeProfiles]
    strengths: Tensor
    values: Tensor

    @classmethod
    def measure(cls, scan: Scan, scheme: Scheme, resolution: float) -> Look:
        """Measure a scan.

        Args:
            scan: the scan.
            scheme: the tissues.
            resolution: mm; of scans that are compared the coarser one's finest voxel side.
        """
        noise, scan = noise_of(scan, scheme, resolution), scan.sample()
        edges, strengths = measure_edges(scan.values, scan.spacing, scan.valid, resolution)
        values = value_quantiles(scan.values, scan.spacing, scan.valid, resolution)
        return cls(noise, edges, strengths, values)

    def without_edges(self) -> Look:
        """The look whose sharpness is not transferred."""
        return dataclasses.replace(self, edges={})


@dataclass(frozen=True)
class NoiseChange:
    """The change of a tissue's noise, as filters of the size of the covariance.

    Args:
        added: filter that turns white noise into the noise that is added.
        removed: filter that takes the noise that is removed out of the scan.
        removed_noise: filter that turns white noise into noise like that which is removed.
        scan: standard deviation of the scan's noise.
        style: standard deviation of the style's noise.
    """

    added: Tensor
    removed: Tensor
    removed_noise: Tensor
    scan: float
    style: float

    def deviation_after(self, sigma: Sequence[float]) -> float:
        """Standard deviation of the change after a blur.

        Args:
            sigma: of a Gaussian, in voxels along each axis.
        """
        pads = [math.ceil(4 * width) for width in reversed(sigma) for _ in range(2)]
        kernels = [F.pad(kernel, pads) for kernel in (self.added, self.removed_noise)]
        return math.sqrt(sum(float(gaussian(k, sigma).square().sum()) for k in kernels))

    def only_adding(self) -> NoiseChange:
        """The change without what it removes."""
        none = torch.zeros_like(self.removed)
        return dataclasses.replace(self, removed=none, removed_noise=none)


def scheme_of(scan: Scan, unit: str) -> Scheme:
    """The tissues of a scan: by Hounsfield units in CT, three classes of its values elsewhere."""
    if unit == HU:
        return HOUNSFIELD
    return otsu_scheme([tissue_values(scan.values, scan.spacing, scan.valid)])


def noise_of(scan: Scan, scheme: Scheme, resolution: float) -> dict[int, NoiseCovariance]:
    """The noise of a scan by tissue, see `Look.measure`."""
    scan = scan.sample()
    tissues = TissueMap(scan.values, scan.spacing, scan.valid, scheme, resolution)
    return measure_noise(scan.values, scan.spacing, tissues, resolution)


def transferable_noise(
    noise: Mapping[int, NoiseCovariance], scheme: Scheme
) -> dict[int, NoiseCovariance]:
    """The noise of tissues without fine structures."""
    return {tissue: part for tissue, part in noise.items() if tissue not in scheme.structured}


def match_sharpness(
    scan: Scan, styles: Sequence[Look], weights: Sequence[float], resolution: float
) -> dict[int, Filter]:
    """The filters that give a scan the sharpness of styles, by axis.

    An axis has none where the difference may be one of anatomy, see `is_significant`.

    Args:
        scan: the scan.
        styles: their looks.
        weights: of the styles; the filters of several are averaged.
        resolution: see `Look.measure`.
    """
    scan = scan.sample()
    own, _ = measure_edges(scan.values, scan.spacing, scan.valid, resolution)
    total: dict[int, float] = {}
    for style, weight in zip(styles, weights, strict=True):
        for axis, along in _filters_of_style(scan, own, style, resolution).items():
            share = weight / sum(weights)
            total[axis] = total.get(axis, 0.0) + share * along.amount
    return {
        axis: Filter(amount, resolution / scan.spacing[axis])
        for axis, amount in total.items()
        if amount
    }


def blend_noise(
    scan: Mapping[int, NoiseCovariance],
    styles: Sequence[Mapping[int, NoiseCovariance]],
    weights: Sequence[float],
) -> dict[int, NoiseCovariance]:
    """The noise that a scan is to have, at the lags of its own.

    Args:
        scan: noise of the scan by tissue.
        styles: noise of the styles by tissue.
        weights: of the styles.

    Returns:
        By tissue; of those that are known in the scan and in some style.
    """
    targets = {}
    for tissue, own in scan.items():
        counts = [extent // 2 for extent in own.values.shape]
        pairs = [
            (style[tissue].resampled(own.spacing, counts).values, weight)
            for style, weight in zip(styles, weights, strict=True)
            if tissue in style
        ]
        if pairs:
            total = sum(weight for _, weight in pairs)
            blended = torch.stack([values * (weight / total) for values, weight in pairs]).sum(0)
            targets[tissue] = dataclasses.replace(own, values=blended)
    return targets


def noise_changes(
    scan: Mapping[int, NoiseCovariance],
    targets: Mapping[int, NoiseCovariance],
    resolution: float,
    scheme: Scheme,
) -> dict[int, NoiseChange]:
    """The change of every tissue's noise.

    A tissue without a target takes the change of the nearest one that has one.

    Args:
        scan: noise of the scan by tissue.
        targets: see `blend_noise`.
        resolution: see `Look.measure`.
        scheme: the tissues.

    Returns:
        By tissue; empty where no tissue has a target.
    """
    if not targets:
        return {}
    known = {
        tissue: _noise_change(scan[tissue], target, resolution)
        for tissue, target in targets.items()
    }
    # A denser tissue first: the noise of air is that outside the body, or cut.
    nearest = {
        tissue: min(known, key=lambda other: (other < tissue, abs(other - tissue)))
        for tissue in range(len(scheme.names))
    }
    # What looks like noise in a tissue without flat places may be anatomy, and stays.
    return {
        tissue: known[other] if tissue == other and scheme.strict else known[other].only_adding()
        for tissue, other in nearest.items()
    }


def change_noise(
    scan: Scan, tissues: TissueMap, changes: Mapping[int, NoiseChange], resolution: float, seed: int
) -> Tensor:
    """The change ``(D, H, W)`` of a scan's values that gives its tissues other noise.

    Args:
        scan: the scan.
        tissues: of it.
        changes: by tissue.
        resolution: see `Look.measure`.
        seed: of the noise that is added.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = scan.values.shape
    size = _padded(shape, changes)
    adds = any(bool(change.added.any()) for change in changes.values())
    # Noise beyond the ends as well, so that it is as strong there as elsewhere.
    spectrum = torch.fft.rfftn(torch.randn(size, generator=generator)) if adds else None
    total = torch.zeros_like(scan.values)
    for tissue, change in changes.items():
        share = tissues.share(tissue)
        if not bool(share.any()):
            continue
        if bool(change.removed.any()):
            # Within the tissue, so that its borders are no structure.
            residual = tissue_residual(scan.values, tissues.mask(tissue), scan.spacing, resolution)
            fine = _filtered(torch.fft.rfftn(residual, size), change.removed, size, shape)
            total -= share * _noise_like(fine, change.removed_noise, scan, resolution)
        if spectrum is not None and bool(change.added.any()):
            added = _filtered(spectrum, change.added, size, shape)
            total += share * added * _room(scan, tissues.mask(tissue), change, resolution)
    for tissue in changes:  # noise has no mean, so that a tissue keeps its own
        core = tissues.core(tissue, depth=4)
        core = core if int(core.sum()) > _FEWEST_MEAN else tissues.core(tissue)
        if bool(core.any()):
            total -= tissues.share(tissue) * total[core].mean()
    limit = torch.zeros_like(total)  # noise of a neighbouring tissue may be much stronger
    for tissue, change in changes.items():
        limit[tissues.mask(tissue)] = _LARGEST_CHANGE * max(change.scan, change.style)
    return total.clamp(-limit, limit)


def _filters_of_style(
    scan: Scan, own: Mapping[int, EdgeProfiles], style: Look, resolution: float
) -> dict[int, Filter]:
    """Filters for one style, corrected by what they do to the scan itself."""
    shared = [axis for axis in own if axis in style.edges and differs(own[axis], style.edges[axis])]
    if not shared:
        return {}
    targets = {axis: style.edges[axis].sharpness() for axis in shared}
    aims = dict(targets)
    filters: dict[int, Filter] = {}
    for _ in range(_ITERATIONS):
        filters = {axis: find_filter(own[axis], aims[axis]) for axis in shared}
        filtered = apply_filters(scan.values, filters, scan.valid)
        edges, slopes = measure_edges(filtered, scan.spacing, scan.valid, resolution)
        # Other voxels are the strongest edges after the filter, so the aim is corrected.
        for axis in shared:
            if axis in edges:
                error = (targets[axis] - 1) / max(1e-3, edges[axis].sharpness() - 1)
                aims[axis] = 1 + (aims[axis] - 1) * math.sqrt(error)
    values = value_quantiles(filtered, scan.spacing, scan.valid, resolution)
    distance = value_distance(values, style.values)
    return {
        axis: along
        for axis, along in filters.items()
        if is_significant(own[axis], style.edges[axis], (slopes, style.strengths), distance)
    }


def _noise_change(scan: NoiseCovariance, style: NoiseCovariance, resolution: float) -> NoiseChange:
    own, target = power_spectrum(scan.values), power_spectrum(style.values)
    added = removed = removed_noise = torch.zeros_like(scan.values)
    if float((target - own).clamp(min=0).sum()) > _LEAST_NOISE * float(own.sum()):
        lacking = style.values - scan.values
        added = _kernel(fit_spectrum(lacking, scan.spacing, resolution).sqrt())
    if float((own - target).clamp(min=0).sum()) > _LEAST_NOISE * float(own.sum()):
        # Of noise that is too much, the share that is left keeps the style's power.
        ratio = target / own.clamp(min=1e-12 * float(own.max()))
        visible = high_pass_power(own.shape, scan.spacing, resolution) > 0.02
        transfer = torch.where(visible, 1 - ratio.clamp(0, 1).sqrt(), 0.0)
        removed, removed_noise = _kernel(transfer), _kernel(own.sqrt() * transfer)
    return NoiseChange(added, removed, removed_noise, scan.deviation, style.deviation)


def _room(scan: Scan, mask: Tensor, change: NoiseChange, resolution: float) -> Tensor | float:
    """The share of a tissue's noise for which there is room within the scan's range of values.

    Values that were cut at the ends of the range, as air in CT, have less noise, and magnitudes in
    air have a deviation of half their mean (Rayleigh). More noise would change the mean there.
    """
    if change.style <= 0:
        return 1.0
    widths = sigmas(scan.spacing, 2 * resolution, min(scan.spacing))
    mean = local_mean(scan.values, mask.float(), widths)
    values = scan.values[scan.valid]
    room = torch.minimum(mean - values.min(), values.max() - mean)
    return (room / (_ROOM * change.style)).clamp(0, 1)


def _kernel(transfer: Tensor) -> Tensor:
    """A symmetric filter with its middle in the middle, float32."""
    kernel: Tensor = torch.fft.fftshift(torch.fft.ifftn(transfer).real)
    return kernel.float()


def _padded(shape: Sequence[int], changes: Mapping[int, NoiseChange]) -> list[int]:
    """Extents with room for the reach of every filter."""
    kernels = [
        kernel.shape for change in changes.values() for kernel in (change.added, change.removed)
    ]
    return [
        extent + max(kernel[axis] for kernel in kernels) // 2 for axis, extent in enumerate(shape)
    ]


def _filtered(
    spectrum: Tensor, kernel: Tensor, size: Sequence[int], shape: Sequence[int]
) -> Tensor:
    """A volume, given by its spectrum on a grid of a size, after a filter."""
    whole = kernel.new_zeros(size)
    index = [torch.arange(extent) - extent // 2 for extent in kernel.shape]
    place = torch.meshgrid(*(i % n for i, n in zip(index, size, strict=True)), indexing="ij")
    whole[place] = kernel
    transfer = torch.fft.rfftn(whole)
    del whole
    result: Tensor = torch.fft.irfftn(transfer.mul_(spectrum), size)
    return result[tuple(slice(0, extent) for extent in shape)]


def _noise_like(fine: Tensor, noise: Tensor, scan: Scan, resolution: float) -> Tensor:
    """Return the part of a fine component that is noise.

    This is all of it where it is as strong as noise alone, and nothing at structures.

    Args:
        fine: the component.
        noise: filter that makes such a component of white noise.
        scan: has the same grid.
        resolution: see `Look.measure`.
    """
    widths = sigmas(scan.spacing, _ENERGY * resolution, min(scan.spacing))
    variance = float(noise.square().sum())
    energy = gaussian(fine.square(), widths)
    share = (_STRUCTURE - energy / max(variance, 1e-30)) / (_STRUCTURE - 1)
    limit = _LARGEST_REMOVAL * math.sqrt(variance)
    return (share.clamp(0, 1) * fine).clamp(-limit, limit)
