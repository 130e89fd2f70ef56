"""The noise of a kernel in CT of other anatomy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from convnd_tasks.modalities.volumes.noise_power import NoisePower, lacking_power, measure_noise
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.tissues import CT_TISSUES, TissueMap
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]
SHAPE = (16, 128, 128)
SPACING = (5.0, 0.7, 0.7)
SOFT = 3


def noise_of(values: Array) -> NoisePower:
    scan = Scan.from_values(torch.from_numpy(values).float(), SPACING)
    return measure_noise(scan, TissueMap(scan, CT_TISSUES, 0.7), 0.7)[SOFT]


def kernel_noise(deviation: float, seed: int, sigma: float = 0.8) -> Array:
    """Noise without its lowest frequencies, as after filtered back-projection."""
    white = np.random.default_rng(seed).normal(size=SHAPE)
    noise = ndimage.gaussian_filter(white, (0, sigma, sigma))
    noise -= ndimage.gaussian_filter(white, (0, 3.0, 3.0))
    return np.asarray(deviation * noise / noise.std())


def organs(seed: int, sigma: float = 12.0) -> Array:
    """Soft tissue with large structures."""
    field = np.random.default_rng(seed).normal(size=SHAPE)
    field = ndimage.gaussian_filter(field, (0, sigma, sigma))
    return np.asarray(40 + 25 * field / field.std())


def lacking(content: Array, style: Array) -> float:
    """The variance that a style has more."""
    scan, other = noise_of(content), noise_of(style)
    return NoisePower(lacking_power(scan, other, 0.0), other.errors, other.axes).variance


@pytest.mark.parametrize("own", [1.0, 6.0])
def test_it_comes_over(own: float) -> None:
    content = organs(0) + kernel_noise(own, 1)
    style = organs(2) + kernel_noise(15.0, 3)
    assert lacking(content, style) == pytest.approx(15**2 - own**2, rel=0.2)
    assert lacking(style, content) == 0.0


def test_structures_in_places_are_no_noise() -> None:
    """Clusters of vessels in a third of the tissue; noise is everywhere."""
    content = organs(0) + kernel_noise(4.0, 1)
    vessels = kernel_noise(30.0, 5)
    vessels[:, :, :80] = 0.0
    assert lacking(content, organs(2) + kernel_noise(4.0, 3) + vessels) < 0.05 * 30**2 / 3
    scattered = kernel_noise(30.0, 5) * (organs(6, 6.0) > 50)
    assert lacking(content, organs(2) + kernel_noise(4.0, 3) + scattered) == 0.0


def test_a_small_tissue_shows_nothing() -> None:
    """Five windows of a local power scatter."""
    content = organs(0) + kernel_noise(9.0, 1)
    style = np.full(SHAPE, -800.0) + kernel_noise(3.0, 4)
    style[6:8, 40:68, 40:68] = 40.0
    style += kernel_noise(9.0, 3) * np.where(style > 0, 1.35, 0.0)
    assert lacking(content, style) == 0.0
