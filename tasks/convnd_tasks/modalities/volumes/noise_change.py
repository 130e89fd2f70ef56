"""The change of a scan's noise: noise that each tissue gains or loses."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from convnd_tasks.modalities.volumes.look import Scan
from convnd_tasks.modalities.volumes.noise_covariance import (
    ABOVE_ANATOMY,
    NoiseCovariance,
    fit_spectrum,
    high_pass_power,
    power_spectrum,
    tissue_residual,
)
from convnd_tasks.modalities.volumes.smoothing import fft_length, gaussian, sigmas
from convnd_tasks.modalities.volumes.tissues import Scheme, TissueMap

__all__ = ["NoiseChange", "change_noise", "filter_spectrum", "noise_changes", "padded_size"]

_LEAST_NOISE = 0.03
"""Share of the variance below which a difference of noise is none."""

_ENERGY = 1.5  # resolutions, sigma of the window that tells noise from structure
_STRUCTURE = 4.0  # times the energy of noise, from which on it is structure
_LARGEST_REMOVAL = 3.0  # standard deviations of what is removed
_LARGEST_CHANGE = 5.5  # standard deviations of the tissue's noise
_LEVEL = 8.0  # resolutions, sigma of the window whose mean stays


@dataclass(frozen=True)
class NoiseChange:
    """The filters that change a tissue's noise; they have the size of its covariance.

    Args:
        added: filter that turns white noise into the noise that is added.
        removed: filter that turns the scan's residual into the noise that is subtracted.
        removed_deviation: standard deviation of the noise that is subtracted.
        scan: standard deviation of the scan's noise.
        style: standard deviation of the style's noise.
        anatomy: whether scan or style show weak anatomy in place of noise.
    """

    added: Tensor
    removed: Tensor
    removed_deviation: float
    scan: float
    style: float
    anatomy: bool = False

    def deviation_after(self, sigma: Sequence[float]) -> float:
        """Standard deviation of the added noise after a blur.

        Args:
            sigma: of a Gaussian, in voxels along each axis.
        """
        pads = [math.ceil(4 * width) for width in reversed(sigma) for _ in range(2)]
        return float(gaussian(F.pad(self.added, pads), sigma).square().sum().sqrt())


def noise_changes(
    scan: Mapping[int, NoiseCovariance],
    compared: Mapping[int, NoiseCovariance],
    targets: Mapping[int, NoiseCovariance],
    resolution: float,
    scheme: Scheme,
) -> dict[int, NoiseChange]:
    """The change of every tissue's noise.

    A tissue without a target takes the change of the nearest one that has one.

    Args:
        scan: noise of the scan by tissue.
        compared: the same with as much weak anatomy as the targets have, see `comparable_noise`.
        targets: see `blend_noise`.
        resolution: see `Look.measure`.
        scheme: the tissues.

    Returns:
        By tissue; empty where no tissue has a target.
    """
    if not targets:
        return {}
    known = {
        tissue: _noise_change(scan[tissue], compared[tissue], target, resolution)
        for tissue, target in targets.items()
    }
    # A denser tissue first: in air the range of values cuts noise.
    nearest = {
        tissue: min(known, key=lambda other: (other < tissue, abs(other - tissue)))
        for tissue in range(len(scheme.names))
    }
    # A tissue without flat places loses no noise, since its residual may be anatomy.
    return {
        tissue: known[other]
        if tissue == other and scheme.strict
        else dataclasses.replace(known[other], removed=torch.zeros_like(known[other].removed))
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
    kernels = [kernel for change in changes.values() for kernel in (change.added, change.removed)]
    size = padded_size(shape, kernels)
    adds = any(bool(change.added.any()) for change in changes.values())
    # Noise beyond the ends as well, so that it is as strong there as elsewhere.
    spectrum = torch.fft.rfftn(torch.randn(size, generator=generator)) if adds else None
    added, removed = torch.zeros_like(scan.values), torch.zeros_like(scan.values)
    for tissue, change in changes.items():
        share = tissues.share(tissue)
        if not bool(share.any()):
            continue
        if bool(change.removed.any()):
            # Within the tissue, so that its borders are no structure.
            mask = tissues.mask(tissue)
            residual = tissue_residual(scan.values, mask, scan.spacing, resolution)
            fine = filter_spectrum(torch.fft.rfftn(residual, size), change.removed, size, shape)
            removed -= share * _noise_like(fine, change.removed_deviation, scan, resolution)
        if spectrum is not None and bool(change.added.any()):
            added += share * filter_spectrum(spectrum, change.added, size, shape)
    del spectrum, share
    low, high = scan.values[scan.valid].aminmax()
    quiet = (scan.values + _levelled(removed, scan, tissues, resolution)).clamp(low, high)
    # Room on both sides alike, so that the ends of the range cut no mean: air in CT was cut there
    # before, and magnitudes of air have a deviation of half their mean (Rayleigh).
    room = torch.minimum(quiet - low, high - quiet).clamp(min=0)
    noise = _levelled(added, scan, tissues, resolution).clamp(-room, room)
    total, limit = quiet + noise - scan.values, torch.zeros_like(room)
    for tissue, change in changes.items():  # noise of a neighbouring tissue may be much stronger
        limit[tissues.mask(tissue)] = _LARGEST_CHANGE * max(change.scan, change.style)
    return total.clamp(-limit, limit)


def padded_size(shape: Sequence[int], kernels: Sequence[Tensor]) -> list[int]:
    """Extents with room for the reach of every filter, for Fourier transforms.

    Args:
        shape: of a volume.
        kernels: of the filters, with three axes.
    """
    reach = [max(kernel.shape[axis] for kernel in kernels) // 2 for axis in range(3)]
    return [fft_length(extent + count) for extent, count in zip(shape, reach, strict=True)]


def filter_spectrum(
    spectrum: Tensor, kernel: Tensor, size: Sequence[int], shape: Sequence[int]
) -> Tensor:
    """Filter a volume that is given by its spectrum.

    Args:
        spectrum: of a volume with the extents of ``size``, as `torch.fft.rfftn` gives it.
        kernel: the filter, its middle in the middle.
        size: see `padded_size`.
        shape: of the part that is returned.
    """
    index = [torch.arange(extent) - extent // 2 for extent in kernel.shape]
    place = torch.meshgrid(*(i % n for i, n in zip(index, size, strict=True)), indexing="ij")
    transfer = torch.fft.rfftn(kernel.new_zeros(size).index_put_(place, kernel, accumulate=True))
    result: Tensor = torch.fft.irfftn(transfer.mul_(spectrum), size)
    return result[tuple(slice(0, extent) for extent in shape)]


def _noise_change(
    scan: NoiseCovariance, compared: NoiseCovariance, style: NoiseCovariance, resolution: float
) -> NoiseChange:
    own, target = power_spectrum(scan.values), power_spectrum(style.values)
    added = removed = torch.zeros_like(scan.values)
    deviation = 0.0
    anatomy = scan.anatomy or style.anatomy
    if float((target - own).clamp(min=0).sum()) > _LEAST_NOISE * float(own.sum()):
        lacking = style.values - compared.values
        flat_below = ABOVE_ANATOMY if anatomy else 0.0
        spectrum = fit_spectrum(lacking, scan.spacing, resolution, flat_below=flat_below)
        added = _kernel(spectrum.sqrt())
    if not anatomy and float((own - target).clamp(min=0).sum()) > _LEAST_NOISE * float(own.sum()):
        # The filter leaves noise with the style's power.
        ratio = target / own.clamp(min=1e-12 * float(own.max()))
        visible = high_pass_power(own.shape, scan.spacing, resolution) > 0.02
        transfer = torch.where(visible, 1 - ratio.clamp(0, 1).sqrt(), 0.0)
        removed = _kernel(transfer)
        deviation = float(_kernel(own.sqrt() * transfer).square().sum().sqrt())
    return NoiseChange(added, removed, deviation, scan.deviation, style.deviation, anatomy)


def _levelled(change: Tensor, scan: Scan, tissues: TissueMap, resolution: float) -> Tensor:
    """A change without its local mean in each tissue, so that a tissue keeps its own mean.

    That of a tissue without its border, where it has such voxels.
    """
    if not bool(change.any()):
        return change
    widths = sigmas(scan.spacing, _LEVEL * resolution, min(scan.spacing))
    for tissue in range(len(tissues.scheme.names)):
        mask, core = tissues.mask(tissue), tissues.core(tissue)
        if bool(mask.any()):
            inner = core if bool(core.any()) else mask
            # Zeros around it: repeated outermost voxels would count more than others.
            share, total = (
                gaussian(part, widths, repeat=False) for part in (inner.float(), change * inner)
            )
            change = torch.where(inner, change - total / share.clamp(min=1e-4), change)
    return change


def _kernel(transfer: Tensor) -> Tensor:
    """A symmetric filter with its middle in the middle, float32."""
    kernel: Tensor = torch.fft.fftshift(torch.fft.ifftn(transfer).real)
    return kernel.float()


def _noise_like(fine: Tensor, deviation: float, scan: Scan, resolution: float) -> Tensor:
    """The share of a fine component that is noise: all of it where its energy is that of noise."""
    widths = sigmas(scan.spacing, _ENERGY * resolution, min(scan.spacing))
    energy = gaussian(fine.square(), widths)
    share = (_STRUCTURE - energy / max(deviation**2, 1e-30)) / (_STRUCTURE - 1)
    limit = _LARGEST_REMOVAL * deviation
    return (share.clamp(0, 1) * fine).clamp(-limit, limit)
