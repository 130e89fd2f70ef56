"""The change of a scan's noise: noise that is added to and removed from each tissue."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from convnd.nn.fft_conv import fft_length
from convnd_tasks.modalities.volumes.noise_power import (
    LOCAL_SIGMA,
    NoisePower,
    tissue_residual,
)
from convnd_tasks.modalities.volumes.noise_spectrum import spectrum
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.smoothing import gaussian, sigmas
from convnd_tasks.modalities.volumes.tissues import TissueMap, TissueScheme

__all__ = [
    "LARGEST_CHANGE",
    "NoiseChange",
    "change_noise",
    "noise_changes",
    "subtract_means",
    "white_noise",
]

LARGEST_CHANGE = 6.0
"""Standard deviations of a tissue's noise by which a voxel may change."""

_LARGEST_LAG = 8.0  # resolutions; noise is correlated at shorter distances


@dataclass(frozen=True)
class NoiseChange:
    """The filters that change a tissue's noise.

    Args:
        added: filter ``(4 l_0 + 1, 4 l_1 + 1, 4 l_2 + 1)`` of up to l lags, which turns white noise
            into the noise to add.
        removed: the same; turns the high-pass filtered scan into the noise to subtract.
        removed_deviation: standard deviation of the noise to subtract.
        scan: standard deviation of the scan's noise.
        style: standard deviation of the style's noise.
    """

    added: Tensor
    removed: Tensor
    removed_deviation: float
    scan: float
    style: float

    def deviation_after(self, sigma: Sequence[float]) -> float:
        """The standard deviation of the added noise after a blur.

        Args:
            sigma: standard deviation of the Gaussian, in voxels along each axis.
        """
        pads = [math.ceil(4 * width) for width in reversed(sigma) for _ in range(2)]
        return float(gaussian(F.pad(self.added, pads), sigma).square().sum().sqrt())


def noise_changes(
    before: Mapping[int, NoisePower],
    added: Mapping[int, Tensor],
    targets: Mapping[int, NoisePower],
    scheme: TissueScheme,
    frame: Scan,
    resolution: float,
) -> dict[int, NoiseChange]:
    """Compute the filters that change the noise of every tissue.

    A tissue without a target gets the change of the nearest tissue with one.

    Args:
        before: noise of the scan by tissue.
        added: power ``(7,)`` to add by tissue and band of frequency; below 0 to remove it.
        targets: noise that the result should have, by tissue.
        scheme: tissues of the scan.
        frame: the scan; its size and spacing count.
        resolution: mm, as for the measurement of the noise.

    Returns:
        The change by tissue; empty without targets.
    """
    if not targets:
        return {}

    sides = zip(frame.values.shape, frame.spacing, strict=True)
    size = [
        4 * min(extent - 1, max(1, round(_LARGEST_LAG * resolution / step))) + 1
        for extent, step in sides
    ]

    def change(tissue: int) -> NoiseChange:
        own, style = before[tissue], targets[tissue]
        power, lacking, excess = (
            spectrum(bands, size, frame.spacing, resolution)
            for bands in (own.bands, added[tissue].clamp(min=0), (-added[tissue]).clamp(min=0))
        )
        # What remains has the style's power: |1 - H|² = 1 - excess / own.
        transfer = 1 - (1 - (excess / power.clamp(min=1e-30)).clamp(0, 1)).sqrt()
        deviation = float((power.sqrt() * transfer).square().mean().sqrt())
        kernels = _kernel(lacking.sqrt()), _kernel(transfer)
        return NoiseChange(*kernels, deviation, own.deviation, style.deviation)

    tissues = range(len(scheme.names))
    if scheme.uniform:
        return dict.fromkeys(tissues, change(min(targets)))
    known = {tissue: change(tissue) for tissue in targets}
    # Of two equally near tissues the denser one: in air, the range of values clips the noise.
    nearest = {
        tissue: min(known, key=lambda other: (other < tissue, abs(other - tissue)))
        for tissue in tissues
    }
    # No noise is removed from a tissue without flat voxels, since its residual may be anatomy.
    return {
        tissue: known[other]
        if tissue == other
        else dataclasses.replace(known[other], removed=torch.zeros_like(known[other].removed))
        for tissue, other in nearest.items()
    }


def change_noise(
    scan: Scan,
    tissues: TissueMap,
    changes: Mapping[int, NoiseChange],
    resolution: float,
    seed: int,
    ends: tuple[float, float] | None = None,
) -> Tensor:
    """Compute the change of a scan's values that changes the noise of its tissues.

    Args:
        scan: the scan.
        tissues: its tissues.
        changes: changes of the noise by tissue.
        resolution: mm, as for the measurement of the noise.
        seed: seed of the added noise.
        ends: lowest and highest possible value; None for those of the scan.

    Returns:
        ``(D, H, W)``, to add to the scan.
    """
    shape, size = scan.values.shape, _padded_size(scan.values.shape, changes)
    adds = any(bool(change.added.any()) for change in changes.values())
    spectrum = torch.fft.rfftn(white_noise(shape, changes, seed)) if adds else None
    added, removed = torch.zeros_like(scan.values), torch.zeros_like(scan.values)
    drawn: dict[int, Tensor] = {}  # by filter: several tissues have the same
    for tissue, change in changes.items():
        share = tissues.share(tissue)
        if not bool(share.any()):
            continue
        if bool(change.removed.any()):
            # The residual within the tissue, in which its borders do not show.
            mask = tissues.mask(tissue)
            residual = tissue_residual(scan.values, mask, scan.spacing, resolution)
            fine = _filter_spectrum(torch.fft.rfftn(residual, size), change.removed, size, shape)
            removed -= share * _noise_like(fine, change.removed_deviation, scan, resolution)
        if spectrum is not None and bool(change.added.any()):
            if (key := change.added.data_ptr()) not in drawn:
                drawn[key] = _filter_spectrum(spectrum, change.added, size, shape)
            added += share * drawn[key]
    del spectrum, share, drawn
    low, high = ends or (float(end) for end in scan.values[scan.valid].aminmax())
    quiet = (scan.values + subtract_means(removed, scan, tissues, resolution)).clamp(low, high)
    # Both limits have the same distance, so clipping does not move the mean of air: in CT its
    # values end at -1024 HU, in magnitude images at 0.
    room = torch.minimum(quiet - low, high - quiet).clamp(min=0)
    noise = subtract_means(added, scan, tissues, resolution).clamp(-room, room)
    total, limit = quiet + noise - scan.values, torch.zeros_like(room)
    for tissue, change in changes.items():  # noise of a neighbouring tissue may be much stronger
        limit[tissues.mask(tissue)] = LARGEST_CHANGE * max(change.scan, change.style)
    return total.clamp(-limit, limit)


def white_noise(shape: Sequence[int], changes: Mapping[int, NoiseChange], seed: int) -> Tensor:
    """Draw the white noise that `change_noise` filters.

    It goes on beyond the ends, so the filtered noise is as strong there as elsewhere.

    Args:
        shape: voxels of the scan along each axis; the noise of voxel i is at i.
        changes: changes of the noise by tissue.
        seed: seed of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(_padded_size(shape, changes), generator=generator)


def _padded_size(shape: Sequence[int], changes: Mapping[int, NoiseChange]) -> list[int]:
    """Extents of a scan with padding, so that the filters of changes do not wrap around."""
    kernels = [kernel for change in changes.values() for kernel in (change.added, change.removed)]
    reach = [max(kernel.shape[axis] for kernel in kernels) // 2 for axis in range(3)]
    return [fft_length(extent + count) for extent, count in zip(shape, reach, strict=True)]


def _filter_spectrum(
    spectrum: Tensor, kernel: Tensor, size: Sequence[int], shape: Sequence[int]
) -> Tensor:
    """Filter a volume that is given by its Fourier transform.

    Args:
        spectrum: the `torch.fft.rfftn` of a volume of extents ``size``.
        kernel: the filter; its centre is the middle of the tensor.
        size: extents of the transform, longer than the volume.
        shape: extents ``(D, H, W)`` of the part that is returned.
    """
    index = [torch.arange(extent) - extent // 2 for extent in kernel.shape]
    voxels = torch.meshgrid(*(i % n for i, n in zip(index, size, strict=True)), indexing="ij")
    transfer = torch.fft.rfftn(kernel.new_zeros(size).index_put_(voxels, kernel, accumulate=True))
    result: Tensor = torch.fft.irfftn(transfer.mul_(spectrum), size)
    return result[tuple(slice(0, extent) for extent in shape)]


def subtract_means(change: Tensor, scan: Scan, tissues: TissueMap, resolution: float) -> Tensor:
    """Subtract the local mean of a change in each tissue, so that the tissue's mean is unchanged.

    Only the voxels that are not at the border of a tissue count and change, if there are any.
    """
    if not bool(change.any()):
        return change
    widths = sigmas(scan.spacing, _LARGEST_LAG * resolution, min(scan.spacing))
    for tissue in range(len(tissues.scheme.names)):
        mask, core = tissues.mask(tissue), tissues.core(tissue)
        if bool(mask.any()):
            inner = core if bool(core.any()) else mask
            # Padded with zeros, since repeated outermost voxels would have more weight than others.
            share, total = (
                gaussian(part, widths, repeat=False) for part in (inner.float(), change * inner)
            )
            change = torch.where(inner, change - total / share.clamp(min=1e-4), change)
    return change


def _kernel(transfer: Tensor) -> Tensor:
    """The filter of a transfer function, float32, with its centre in the middle."""
    kernel: Tensor = torch.fft.fftshift(torch.fft.ifftn(transfer).real)
    return kernel.float()


def _noise_like(fine: Tensor, deviation: float, scan: Scan, resolution: float) -> Tensor:
    """Weight a high-pass component by the share of noise in its local variance (Lee, 1980)."""
    widths = sigmas(scan.spacing, LOCAL_SIGMA * resolution, min(scan.spacing))
    energy = gaussian(fine.square(), widths)
    return fine * (deviation**2 / energy.clamp(min=max(deviation**2, 1e-30)))
