"""Scans with a known change of their look: the correct results of `scan_boxes`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import ndimage

from benchmarks.performance import scan_figures as figures
from convnd.grid import Grid

_NOISE_HU, _NOISE_SHARE = 20.0, 0.025  # CT; other scans, of their spread
_KERNEL, _BLUR, _SHARPENING = 1.2, 1.0, 1.2  # voxels


def known_truth(
    content: Any, spacing: tuple[float, ...], name: str, unit: str, seed: int = 5
) -> Any:
    """The correct result: the box with a known change of its look."""
    if name in ("blur", "sharp"):
        sigma = figures.widths(spacing, _BLUR if name == "blur" else _SHARPENING)
        # A scan is masked after it was acquired, so no blur mixes its background with the rest.
        inside = (~padding(content)).astype(np.float32)
        weight = ndimage.gaussian_filter(inside, sigma).clip(1e-4)
        blurred = ndimage.gaussian_filter(content * inside, sigma) / weight
        truth = blurred if name == "blur" else 2 * content - blurred
    else:
        noise = np.random.default_rng(seed).normal(size=content.shape)
        if name.endswith("coloured"):
            noise = ndimage.gaussian_filter(noise, figures.widths(spacing, _KERNEL))
        low, high = np.percentile(content, [5, 95])
        deviation = _NOISE_HU if unit == "HU" else _NOISE_SHARE * (high - low)
        truth = content + deviation * noise / noise.std()
    truth = truth.clip(content.min(), content.max())  # like the values of the scan
    return np.where(padding(content), content, truth).astype(np.float32)


def padding(content: Any) -> Any:
    """Mask of constant padding: regions of the lowest value that contain a cube of 3 voxels."""
    lowest = content == content.min()
    inner = ndimage.minimum_filter(lowest, 3)
    regions, _ = ndimage.label(lowest)
    return lowest & (inner.mean() > 1e-3) & np.isin(regions, np.unique(regions[inner]))


def plane_last(values: Any, spacing: tuple[float, ...]) -> tuple[Any, tuple[float, ...]]:
    """A scan with its axes in an order that puts the coarsest first."""
    across = int(np.argmax(np.round(spacing, 3)))
    order = [across, *(axis for axis in range(3) if axis != across)]
    return np.transpose(values, order), tuple(spacing[axis] for axis in order)


def volume_grid(values: Any, spacing: float | tuple[float, ...], unit: str = "") -> Grid:
    """A grid from values ``(D, H, W)``, whose axes point to head, front and right."""
    steps = (spacing,) * 3 if isinstance(spacing, float) else spacing
    tensor = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 1, 0))).float()
    return Grid(
        values=tensor[None, None],
        spacing=steps[::-1],
        units=("mm",) * 3,
        header={"affine": np.diag([*steps[::-1], 1.0]), "value_unit": unit},
    )
