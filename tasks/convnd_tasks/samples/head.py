"""A head as magnetic resonance shows it, T1-weighted, with the noise of a magnitude image.

Axes are ``(x, y, z)`` towards the patient's right, front and head (the orientation RAS+ of NIfTI).
Lengths are in mm. The field of view is constant, so ``size`` determines the spacing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from convnd_tasks.samples.fields import Array, Lattice
from convnd_tasks.samples.sample import Sample, as_grid

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["FIELD_OF_VIEW", "STYLES", "middle"]

FIELD_OF_VIEW = (190.0, 230.0, 200.0)  # mm

# Signal of a spoiled gradient echo at 3 T, white matter being 160.
_SCALP, _SKULL, _FLUID, _GREY, _WHITE = 220.0, 25.0, 45.0, 108.0, 160.0
_NOISE = 5.0  # about 3 % of white matter
_INTERPOLATION = 0.45  # voxels, sigma of the blur that reconstruction applies to the noise


def middle(spacing: Sequence[float], seed: int) -> Grid:
    """Make the part of a head around its middle, with voxels of any size.

    Args:
        spacing: mm towards right, front and head.
        seed: chooses the patient.
    """
    shape = tuple(
        max(16, min(extent, round(field / step)))
        for extent, field, step in zip((112, 112, 56), FIELD_OF_VIEW, spacing, strict=True)
    )
    return _scan(shape, spacing, seed)


def _head(shape: tuple[int, ...], spacing: Sequence[float], seed: int) -> Array:
    """Compute the signal without noise; the head is centred in the field of view."""
    lattice = Lattice(shape, seed)
    axes = [
        ((np.arange(extent) + 0.5 - extent / 2) * step).astype(np.float32)
        for extent, step in zip(shape, spacing, strict=True)
    ]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    edge = np.float32(max(spacing))

    def folds(tag: str, millimetres: float) -> Array:
        scale = [millimetres / step * lattice.step for step in spacing]
        return lattice.fbm(tag, scale, 3, 0.6)

    def coverage(depth: Array) -> Array:
        inside: Array = np.clip(depth / edge + np.float32(0.5), 0, 1)
        return inside

    signal = np.zeros(shape, dtype=np.float32)

    def fill(depth: Array, value: Array | float) -> None:
        nonlocal signal
        share = coverage(depth)
        signal = (signal * (1 - share) + np.asarray(value) * share).astype(np.float32)

    radius = np.sqrt((x / 78) ** 2 + (y / 98) ** 2 + ((z + 5) / 86) ** 2)
    depth = ((1 - radius) * 78).astype(np.float32)
    fill(depth, _SCALP)
    fill(depth - 5, _SKULL)
    fill(depth - 10, _FLUID)
    cortex = depth - 13 - 3.5 * folds("sulci", 9.0)
    cortex = np.minimum(cortex, np.abs(x) - 1.0)  # the fissure between the hemispheres
    fill(cortex, _GREY)
    fill(cortex - 3.5 - 1.5 * folds("gyri", 12.0), _WHITE + 4 * folds("tracts", 25.0))
    for side in (-1, 1):
        nucleus = 1 - np.sqrt(((x - 22 * side) / 10) ** 2 + ((y - 8) / 18) ** 2 + (z / 14) ** 2)
        fill((nucleus * 10).astype(np.float32), 0.5 * (_GREY + _WHITE))
        horn = 1 - np.sqrt(((x - 10 * side) / 7) ** 2 + ((y - 4) / 30) ** 2 + ((z - 8) / 9) ** 2)
        fill((horn * 7).astype(np.float32), _FLUID)
    return signal


def _make(shape: tuple[int, ...], seed: int, /) -> Grid:
    spacing = tuple(field / extent for field, extent in zip(FIELD_OF_VIEW, shape, strict=True))
    return _scan(shape, spacing, seed)


def _scan(shape: tuple[int, ...], spacing: Sequence[float], seed: int) -> Grid:
    """A head with the noise of its receiver, as a magnitude image."""
    signal = _head(shape, spacing, seed)
    rng = Lattice(shape, seed).rng("receiver")
    frequencies = [np.fft.fftfreq(extent).astype(np.float32) for extent in shape]
    square = sum(f**2 for f in np.meshgrid(*frequencies, indexing="ij", sparse=True))
    transmission = np.exp(-2 * (np.pi * _INTERPOLATION) ** 2 * square)
    parts = []
    for _ in range(2):  # real and imaginary part
        white = np.fft.fftn(rng.standard_normal(shape, dtype=np.float32))
        noise = np.fft.ifftn(white * transmission).real.astype(np.float32)
        parts.append(noise * np.float32(_NOISE / float(noise.std())))
    magnitude = np.hypot(signal + parts[0], parts[1])
    return as_grid(magnitude[None].astype(np.float32), spacing=tuple(spacing), channels=("MR",))


STYLES: dict[str, Sample] = {
    "mr": Sample(make=_make, summary="head MR, T1-weighted, 3 % noise", sizes={3: (96, 112, 100)})
}
