"""Similarity of two volumes on one grid, and a mask of the lungs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["anatomy_error", "lung_mask", "peak_signal_to_noise"]

_HIGHEST_AIR = -500.0  # HU
_SMALLEST_LUNG = 20_000.0  # mm³


def anatomy_error(one: NDArray[Any], other: NDArray[Any], spacing: Sequence[float]) -> float:
    """The mean absolute difference of two volumes after a blur of 2 mm, which removes noise.

    Args:
        one: an array of three axes.
        other: an array of the same shape.
        spacing: mm along each axis; those of more than 4 mm are not blurred.
    """
    from scipy import ndimage

    width = [2.0 / step if step <= 4.0 else 0.0 for step in spacing]
    difference = ndimage.gaussian_filter(np.asarray(one - other, np.float32), width)
    return float(np.abs(difference).mean())


def peak_signal_to_noise(change: NDArray[Any], span: float) -> float:
    r"""Peak signal-to-noise ratio in dB: :math:`10 \log_{10} (R^2 / \overline{d^2})`.

    Args:
        change: differences :math:`d` of two volumes.
        span: range :math:`R` of the values.

    Returns:
        The ratio; infinity for equal volumes.

    >>> import numpy as np
    >>> peak_signal_to_noise(np.array([1.0, -1.0]), 100.0)
    40.0
    """
    error = float(np.square(change, dtype=np.float64).mean())
    return math.inf if error == 0 else 10 * math.log10(span**2 / error)


def lung_mask(volume: NDArray[Any], spacing: Sequence[float]) -> NDArray[Any] | None:
    """Find the lungs: large regions below -500 HU that do not touch the edge of a slice.

    Args:
        volume: array of three axes, in HU.
        spacing: mm along each axis.

    Returns:
        A bool array of the same shape; None without lungs.
    """
    from scipy import ndimage

    across = int(np.argmax(np.round(spacing, 6)))
    smooth = ndimage.uniform_filter(volume.astype(np.float32), 3)
    air = np.moveaxis(smooth < _HIGHEST_AIR, across, 0)
    inside = np.zeros_like(air)
    for number, plane in enumerate(air):
        labels, _ = ndimage.label(plane)
        rim = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
        inside[number] = plane & ~np.isin(labels, rim)
    labels, count = ndimage.label(inside)
    if count == 0:
        return None
    sizes = np.bincount(labels.ravel()) * math.prod(spacing)
    sizes[0] = 0
    lungs = np.moveaxis(np.isin(labels, np.flatnonzero(sizes >= _SMALLEST_LUNG)), 0, across)
    return np.asarray(lungs) if lungs.any() else None
