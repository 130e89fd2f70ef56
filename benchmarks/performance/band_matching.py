"""Band-energy matching of volumes, a baseline for style transfer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["match_bands"]


def match_bands(
    volume: NDArray[Any],
    reference: NDArray[Any],
    spacing: Sequence[float],
    *,
    bands: int = 5,
    rounds: int = 5,
) -> NDArray[Any]:
    """A volume with the band energies of a reference.

    Follows Gallardo-Estrella et al. (2016, "Normalizing computed tomography data reconstructed with
    different filter kernels"): in several rounds, differences of Gaussians are scaled to the
    standard deviations of those of the reference. Bands are octaves in the plane of the two finest
    axes; the coarsest band does not change.

    Args:
        volume: three axes, HU.
        reference: a volume with the same spacing.
        spacing: mm along each axis.
        bands: number of octaves.
        rounds: number of rounds.
    """
    across = int(np.argmax(np.round(spacing, 6)))

    def split(values: NDArray[Any]) -> list[NDArray[Any]]:
        levels = [values]
        for band in range(bands):
            sigma = [0.0 if axis == across else 2.0**band / 2 for axis in range(3)]
            levels.append(ndimage.gaussian_filter(values, sigma))
        return [a - b for a, b in itertools.pairwise(levels)] + levels[-1:]

    energies = [float(part.std()) for part in split(reference.astype(np.float32))[:-1]]
    result = volume.astype(np.float32)
    for _ in range(rounds):
        *parts, total = split(result)
        for part, energy in zip(parts, energies, strict=True):
            total = total + part * (energy / max(float(part.std()), 1e-6))
        result = total
    return result
