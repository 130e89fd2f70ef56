"""Kernels that reconstruct a CT volume: their sharpness, and the texture of their noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convnd_tasks.samples.fields import Array

__all__ = ["LOW_DOSE", "SHARP", "SOFT", "STANDARD", "Kernel", "reconstruct"]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A reconstruction: its sharpness and its noise.

    Args:
        boost: edge enhancement in the plane; negative blurs.
        sigma: standard deviation of the noise in HU.
        peak: spatial frequency of most noise, in cycles per mm.
    """

    boost: float
    sigma: float
    peak: float


STANDARD = Kernel(boost=0.0, sigma=9.0, peak=0.16)

SHARP = Kernel(boost=1.6, sigma=55.0, peak=0.42)

SOFT = Kernel(boost=-0.9, sigma=6.0, peak=0.08)

LOW_DOSE = Kernel(boost=0.0, sigma=48.0, peak=0.14)


def reconstruct(
    hu: Array, spacing: Sequence[float], kernel: Kernel, load: Array, rng: np.random.Generator
) -> Array:
    """Filter a volume in the plane as a kernel does, and add the kernel's noise.

    The noise of filtered back-projection has the spectrum of a ramp that the kernel rolls off, so
    each kernel has a noise texture. Adjacent slices are correlated.

    Args:
        hu: values in HU ``(X, Y, Z)``.
        spacing: millimetres between samples along each axis.
        kernel: sharpness and noise.
        load: noise at each position relative to the kernel's.
        rng: draws the noise.
    """
    nx, ny, _ = hu.shape
    fx = np.fft.fftfreq(nx, spacing[0])[:, None, None]
    fy = np.fft.rfftfreq(ny, spacing[1])[None, :, None]
    f = np.sqrt(fx**2 + fy**2).astype(np.float32)

    def apply_gain(values: Array, gain: Array) -> Array:
        spectrum = np.fft.rfftn(values, axes=(1, 0)[::-1])
        out = np.fft.irfftn(spectrum * gain, s=(nx, ny), axes=(0, 1))
        return np.asarray(out, dtype=np.float32)

    if kernel.boost < 0:
        hu = apply_gain(hu, np.exp(kernel.boost * (f / 0.15) ** 2))
    elif kernel.boost > 0:
        hu = apply_gain(hu, 1 + kernel.boost * (f / 0.3) ** 2 * np.exp(-((f / 0.45) ** 2)))
    # If the grid cannot represent the peak, the noise has the finest scale of the grid.
    peak = min(kernel.peak, 0.35 / max(spacing[:2]))
    power = (f / peak) * np.exp(0.5 - 0.5 * (f / peak) ** 2)
    white = rng.standard_normal(hu.shape, dtype=np.float32)
    noise = apply_gain(white, power)
    if hu.shape[2] > 2:
        noise[..., 1:-1] = (noise[..., :-2] + 2 * noise[..., 1:-1] + noise[..., 2:]) / 4
    noise *= np.float32(kernel.sigma) / max(float(noise.std()), 1e-6)
    return np.clip(hu + noise * load, -1024, 3071).astype(np.float32)
