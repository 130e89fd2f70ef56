"""Noise texture of a volume: its power spectrum in flat tissue, and band energies to compare with.

The spectrum is that of ICRU report 87 (2012), adapted to scans of people: instead of a uniform
phantom, square regions of one slice in which the tissue is flat are looked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FLAT", "TISSUES", "Spectrum", "band_matched", "noise_spectrum", "spectrum_distance"]

TISSUES = {"soft": (-150.0, 200.0), "lung": (-980.0, -700.0)}
"""HU between which a region counts as this tissue, once smoothed."""

FLAT = (15.0, 70.0)
"""HU that smoothed values may change by over one sigma where a voxel counts as of a tissue: up to
the first it is flat, up to the second it slopes."""

_REGION = 14.0  # mm along each side of a region
_SMOOTH = 2.0  # mm, sigma of what tells tissue from noise
_FLATTEST = 0.5  # share of the regions of a tissue that is kept
_FEWEST = 4


@dataclass(frozen=True)
class Spectrum:
    """A noise power spectrum averaged over directions in the plane.

    Args:
        frequency: middle of each ring, in cycles per mm.
        power: mean of ``|F|² · dx · dy / n`` in it, in HU² mm².
        regions: how many regions it was averaged over.
    """

    frequency: NDArray[Any]
    power: NDArray[Any]
    regions: int

    @property
    def peak(self) -> float:
        """Frequency of most power, in cycles per mm."""
        return float(self.frequency[self.power.argmax()])


def noise_spectrum(
    volume: NDArray[Any], spacing: Sequence[float], *, tissue: str = "soft", guide: Any = None
) -> Spectrum:
    r"""Power spectrum of the noise in flat regions of one tissue.

    Regions of 14 mm lie side by side in the plane of the two finest axes. Those whose smoothed
    values all are of the tissue are kept, of these the flatter half; a quadratic surface is
    subtracted from each, and

    .. math:: P(f) = \frac{\Delta_x \Delta_y}{n_x n_y} \langle |F(f)|^2 \rangle

    is averaged over regions and directions.

    Args:
        volume: three axes, HU.
        spacing: mm along each.
        tissue: one of `TISSUES`.
        guide: where the regions lie is told by this volume instead, of the same shape: a scan
            and what was made of it should be looked at in the same places.

    Raises:
        InputFileError: fewer than four such regions.
    """
    import numpy as np
    from scipy import ndimage

    across = int(np.argmax(np.round(spacing, 6)))
    if len(set(np.round(spacing, 6))) == 1:
        across = 2
    order = [across, *(axis for axis in range(3) if axis != across)]
    steps = [spacing[axis] for axis in order]
    field = np.transpose(volume, order).astype(np.float32)
    told = field if guide is None else np.transpose(guide, order).astype(np.float32)
    smooth = ndimage.gaussian_filter(told, [0.0, _SMOOTH / steps[1], _SMOOTH / steps[2]])
    side = [max(8, round(_REGION / step)) for step in steps[1:]]
    low, high = TISSUES[tissue]
    found = []
    for plane, values in zip(smooth, field, strict=True):
        for i in range(0, plane.shape[0] - side[0] + 1, side[0]):
            for j in range(0, plane.shape[1] - side[1] + 1, side[1]):
                here = (slice(i, i + side[0]), slice(j, j + side[1]))
                part = plane[here]
                if low <= part.min() and part.max() <= high:
                    found.append((float(part.std()), values[here]))
    if len(found) < _FEWEST:
        raise InputFileError(
            f"noise spectrum: expected at least {_FEWEST} flat regions of {tissue} tissue, got "
            f"{len(found)}; give a larger volume, in HU"
        )
    found.sort(key=lambda entry: entry[0])
    kept = np.stack([values for _, values in found[: max(_FEWEST, int(len(found) * _FLATTEST))]])
    flat = kept.reshape(len(kept), -1).astype(np.float64)
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in side), indexing="ij")
    surface = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y]).reshape(6, -1).T
    basis, _ = np.linalg.qr(surface)
    flat -= (flat @ basis) @ basis.T
    power = np.abs(np.fft.fft2(flat.reshape(len(kept), *side))) ** 2
    power = power.mean(0) * steps[1] * steps[2] / (side[0] * side[1])
    radius = np.hypot(
        np.fft.fftfreq(side[0], steps[1])[:, None], np.fft.fftfreq(side[1], steps[2])[None]
    )
    nyquist = 0.5 / max(steps[1:])
    edges = np.linspace(0, nyquist, min(side) // 2 + 1)
    ring = np.digitize(radius.ravel(), edges) - 1
    inside = ring < len(edges) - 1
    count = np.bincount(ring[inside], minlength=len(edges) - 1)
    total = np.bincount(ring[inside], power.ravel()[inside], minlength=len(edges) - 1)
    return Spectrum((edges[1:] + edges[:-1]) / 2, total / np.maximum(count, 1), len(kept))


def spectrum_distance(one: Spectrum, other: Spectrum) -> float:
    r"""How far the one is from the other, relative to the other.

    .. math:: \int |P_1 - P_2| f \, df \big/ \int P_2 f \, df

    the share of the other's noise variance that is in the wrong place. Spectra are compared at
    the other's frequencies, as far as both reach.
    """
    import numpy as np

    reach = other.frequency <= one.frequency[-1] + 1e-9
    frequency, wanted = other.frequency[reach], other.power[reach]
    got = np.interp(frequency, one.frequency, one.power)
    return float((np.abs(got - wanted) * frequency).sum() / (wanted * frequency).sum())


def band_matched(
    volume: NDArray[Any],
    reference: NDArray[Any],
    spacing: Sequence[float],
    *,
    bands: int = 5,
    rounds: int = 5,
    mask: Any = None,
    reference_mask: Any = None,
) -> NDArray[Any]:
    """The volume with the band energies of a reference, to compare style transfer with.

    After Gallardo-Estrella et al. (2016, "Normalizing computed tomography data reconstructed with
    different filter kernels"): differences of Gaussians, each scaled so that its standard deviation
    is the reference's, again until little changes. Bands are octaves in the plane of the two
    finest axes; the coarsest part is left alone.

    Args:
        volume: three axes, HU.
        reference: whose energies are wanted, of the same spacing.
        spacing: mm along each axis.
        bands: number of octaves.
        rounds: how often.
        mask: where energies are measured; None is everywhere.
        reference_mask: likewise in the reference.
    """
    import numpy as np

    across = int(np.argmax(np.round(spacing, 6)))

    def split(values: NDArray[Any]) -> list[NDArray[Any]]:
        from scipy import ndimage

        levels = [values]
        for band in range(bands):
            sigma = [0.0 if axis == across else 2.0**band / 2 for axis in range(3)]
            levels.append(ndimage.gaussian_filter(values, sigma))
        return [a - b for a, b in itertools.pairwise(levels)] + levels[-1:]

    everywhere: Any = slice(None)
    inside = everywhere if mask is None else mask
    wanted = [
        float(part[everywhere if reference_mask is None else reference_mask].std())
        for part in split(reference.astype(np.float32))[:-1]
    ]
    result = volume.astype(np.float32)
    for _ in range(rounds):
        *parts, rest = split(result)
        for part, energy in zip(parts, wanted, strict=True):
            rest = rest + part * (energy / max(float(part[inside].std()), 1e-6))
        result = rest
    return result
