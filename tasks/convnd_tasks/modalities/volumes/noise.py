"""The noise power spectrum of a volume in flat tissue.

The spectrum is that of ICRU report 87 (2012), adapted to scans of people: square regions of slices
with flat tissue take the place of a uniform phantom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FLAT", "TISSUES", "Spectrum", "noise_spectrum", "spectrum_distance"]

TISSUES = {"soft": (-150.0, 200.0), "lung": (-980.0, -700.0)}
"""Lowest and highest smoothed value in HU of each tissue."""

FLAT = (15.0, 70.0)
"""Change in HU of the smoothed values over one sigma: a voxel of a tissue is flat up to the first
limit, slopes up to the second, and belongs to no tissue above it."""

_REGION = 14.0  # mm along each side of a region
_SMOOTH = 2.0  # mm, sigma of the Gaussian that separates tissue from noise
_FLATTEST = 0.5  # share of a tissue's regions that count
_FEWEST = 4  # regions


@dataclass(frozen=True)
class Spectrum:
    """A noise power spectrum averaged over directions in the plane.

    Args:
        frequency: centre of each ring, in cycles per mm.
        power: mean of ``|F|² · dx · dy / n`` in the ring, in HU² mm².
        regions: number of regions in the mean.
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
    values all belong to the tissue count, and of these the flatter half. A quadratic surface is
    subtracted from each, and

    .. math:: P(f) = \frac{\Delta_x \Delta_y}{n_x n_y} \langle |F(f)|^2 \rangle

    is averaged over regions and directions.

    Args:
        volume: three axes, HU.
        spacing: mm along each.
        tissue: one of `TISSUES`.
        guide: a volume of the same shape that decides where the regions lie; None is ``volume``. A
            scan and its result should be measured in the same places.

    Raises:
        InputFileError: fewer than four such regions.
    """
    import numpy as np

    order = _plane_last(spacing)
    steps = [spacing[axis] for axis in order]
    field = np.transpose(volume, order).astype(np.float32)
    reference = field if guide is None else np.transpose(guide, order).astype(np.float32)
    side = [max(8, round(_REGION / step)) for step in steps[1:]]
    regions = _flat_regions(field, reference, steps, side, tissue)
    flat = regions.reshape(len(regions), -1).astype(np.float64)
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in side), indexing="ij")
    surface = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y]).reshape(6, -1).T
    basis, _ = np.linalg.qr(surface)
    flat -= (flat @ basis) @ basis.T
    power = np.abs(np.fft.fft2(flat.reshape(len(regions), *side))) ** 2
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
    return Spectrum((edges[1:] + edges[:-1]) / 2, total / np.maximum(count, 1), len(regions))


def _plane_last(spacing: Sequence[float]) -> list[int]:
    """The coarsest axis, and then the other two; of equal axes the last comes first."""
    import numpy as np

    rounded = np.round(spacing, 6)
    across = 2 if len(set(rounded)) == 1 else int(np.argmax(rounded))
    return [across, *(axis for axis in range(3) if axis != across)]


def _flat_regions(
    field: NDArray[Any],
    reference: NDArray[Any],
    steps: Sequence[float],
    side: Sequence[int],
    tissue: str,
) -> NDArray[Any]:
    """The values of the flatter half of a tissue's regions ``(n, *side)``."""
    import numpy as np
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(reference, [0.0, _SMOOTH / steps[1], _SMOOTH / steps[2]])
    low, high = TISSUES[tissue]
    regions = []
    for plane, values in zip(smooth, field, strict=True):
        for i in range(0, plane.shape[0] - side[0] + 1, side[0]):
            for j in range(0, plane.shape[1] - side[1] + 1, side[1]):
                index = (slice(i, i + side[0]), slice(j, j + side[1]))
                part = plane[index]
                if low <= part.min() and part.max() <= high:
                    regions.append((float(part.std()), values[index]))
    if len(regions) < _FEWEST:
        raise InputFileError(
            f"noise spectrum: expected at least {_FEWEST} flat regions of {tissue} tissue, got "
            f"{len(regions)}; give a larger volume, in HU"
        )
    regions.sort(key=lambda region: region[0])
    count = max(_FEWEST, int(len(regions) * _FLATTEST))
    return np.stack([values for _, values in regions[:count]])


def spectrum_distance(one: Spectrum, other: Spectrum) -> float:
    r"""Distance of a spectrum to another, relative to the other.

    .. math:: \int |P_1 - P_2| f \, df \big/ \int P_2 f \, df

    This is the share of the other's noise variance that is in the wrong place. Spectra are compared
    at the other's frequencies, as far as both reach.
    """
    import numpy as np

    reach = other.frequency <= one.frequency[-1] + 1e-9
    frequency, target = other.frequency[reach], other.power[reach]
    power = np.interp(frequency, one.frequency, one.power)
    return float((np.abs(power - target) * frequency).sum() / (target * frequency).sum())
