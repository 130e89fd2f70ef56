"""Measures of a pair of volumes, as plain functions over arrays.

The definitions are those of the fields that use them; each names its source.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "anatomy_error",
    "concordance",
    "edge_sharpness",
    "first_order",
    "lung_mask",
    "structural_similarity",
    "texture",
]

_LUNG = (-1000.0, -500.0)
_LEAST_LUNG = 20_000.0  # mm³, smallest region that counts as a lung
_LEVEL = 25.0  # HU of a grey level, as pyradiomics' default


def anatomy_error(
    one: NDArray[Any], other: NDArray[Any], spacing: Sequence[float], *, sigma: float = 2.0
) -> float:
    """Mean absolute difference of two volumes after a blur that removes the noise.

    Args:
        one: three axes.
        other: has the same shape.
        spacing: mm along each axis.
        sigma: of the Gaussian in mm; an axis where it is less than half a voxel is not blurred.
    """
    import numpy as np
    from scipy import ndimage

    width = [sigma / step if sigma / step >= 0.5 else 0.0 for step in spacing]
    difference = ndimage.gaussian_filter(np.asarray(one - other, np.float32), width)
    return float(np.abs(difference).mean())


def structural_similarity(one: NDArray[Any], other: NDArray[Any], span: float) -> float:
    r"""Mean SSIM (Wang et al., 2004) with a Gaussian of 1.5 voxels over all axes.

    Args:
        one: an array.
        other: has the same shape.
        span: the range of values that counts as 1.
    """
    import numpy as np
    from scipy import ndimage

    def mean(values: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(ndimage.gaussian_filter(values, 1.5, truncate=3.5))

    x, y = one.astype(np.float64), other.astype(np.float64)
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    small, smaller = (0.01 * span) ** 2, (0.03 * span) ** 2
    value = (2 * mx * my + small) * (2 * cov + smaller)
    return float((value / ((mx * mx + my * my + small) * (vx + vy + smaller))).mean())


def edge_sharpness(
    volume: NDArray[Any], spacing: Sequence[float], guide: NDArray[Any] | None = None
) -> float:
    """Median slope, in HU per mm, at the strongest edges in the plane of the finest axes.

    Args:
        volume: three axes, HU.
        spacing: mm along each.
        guide: a volume of the same shape that decides where the edges are; None is ``volume``. A
            scan and its result should be measured in the same places.
    """
    import numpy as np
    from scipy import ndimage

    across = int(np.argmax(np.round(spacing, 6)))
    plane = [axis for axis in range(3) if axis != across]

    def slope(values: NDArray[Any], sigma: float) -> NDArray[Any]:
        parts = [
            ndimage.gaussian_filter1d(
                ndimage.gaussian_filter1d(values, sigma, axis, order=1), sigma, other
            )
            / spacing[axis]
            for axis, other in (plane, plane[::-1])
        ]
        return np.asarray(np.hypot(*parts))

    steepness = slope((volume if guide is None else guide).astype(np.float32), 1.5)
    edges = steepness >= np.percentile(steepness, 98)
    return float(np.median(slope(volume.astype(np.float32), 0.7)[edges]))


def lung_mask(volume: NDArray[Any], spacing: Sequence[float]) -> NDArray[Any] | None:
    """Mask of the lungs, the large regions of air inside the body; None if there are none.

    Air is below −500 HU. Regions that touch the edge of a slice are outside the body.

    Args:
        volume: three axes, HU.
        spacing: mm along each.
    """
    import numpy as np
    from scipy import ndimage

    across = int(np.argmax(np.round(spacing, 6)))
    air = np.moveaxis(ndimage.uniform_filter(volume.astype(np.float32), 3) < _LUNG[1], across, 0)
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
    lungs = np.moveaxis(np.isin(labels, np.flatnonzero(sizes >= _LEAST_LUNG)), 0, across)
    return np.asarray(lungs) if lungs.any() else None


def first_order(values: NDArray[Any]) -> dict[str, float]:
    """First-order radiomics of the values of a region, as IBSI defines them (Zwanenburg 2020)."""
    import numpy as np

    x = values.astype(np.float64)
    mean, deviation = float(x.mean()), float(x.std())
    scale = deviation if deviation > 0 else 1.0
    z = (x - mean) / scale
    codes = np.floor(x / _LEVEL)
    _, counts = np.unique(codes, return_counts=True)
    share = counts / counts.sum()
    p10, p25, median, p75, p90 = np.percentile(x, [10, 25, 50, 75, 90]).tolist()
    return {
        "mean": mean,
        "deviation": deviation,
        "skewness": float((z**3).mean()),
        "kurtosis": float((z**4).mean()),
        "median": median,
        "p10": p10,
        "p90": p90,
        "interquartile_range": p75 - p25,
        "entropy": float(-(share * np.log2(share)).sum()),
        "uniformity": float((share**2).sum()),
    }


def texture(volume: NDArray[Any], mask: NDArray[Any] | None = None) -> dict[str, float]:
    """Co-occurrence radiomics (Haralick 1973, IBSI's definitions), levels of 25 HU.

    Neighbours one voxel apart along each axis, both ways, averaged over the axes.

    Args:
        volume: three axes, HU.
        mask: voxels whose pairs count; None is all.
    """
    import numpy as np

    codes = np.floor(volume / _LEVEL).astype(np.int64)
    inside = np.ones(volume.shape, bool) if mask is None else mask
    if not inside.any():
        raise InputFileError("texture: expected some voxels in the mask, got none; give another")
    codes -= codes[inside].min()
    levels = int(codes[inside].max()) + 1
    features: list[dict[str, float]] = []
    for axis in range(volume.ndim):
        first = tuple(slice(0, -1) if a == axis else slice(None) for a in range(volume.ndim))
        second = tuple(slice(1, None) if a == axis else slice(None) for a in range(volume.ndim))
        both = inside[first] & inside[second]
        pairs = codes[first][both] * levels + codes[second][both]
        table = np.bincount(pairs, minlength=levels * levels).reshape(levels, levels)
        table = (table + table.T).astype(np.float64)
        if table.sum() > 0:
            features.append(_haralick(table / table.sum()))
    return {name: float(np.mean([part[name] for part in features])) for name in features[0]}


def _haralick(p: NDArray[Any]) -> dict[str, float]:
    """Features of the co-occurrence probabilities ``(levels, levels)``."""
    import numpy as np

    index = np.arange(len(p))
    distance = np.abs(index[:, None] - index)
    mean = float((p.sum(1) * index).sum())
    variance = float((p.sum(1) * (index - mean) ** 2).sum())
    joint = float((p * np.outer(index - mean, index - mean)).sum())
    return {
        "contrast": float((p * distance**2).sum()),
        "dissimilarity": float((p * distance).sum()),
        "homogeneity": float((p / (1 + distance)).sum()),
        "energy": float((p**2).sum()),
        "joint_entropy": float(-(p[p > 0] * np.log2(p[p > 0])).sum()),
        "correlation": joint / variance if variance > 0 else 1.0,
    }


def concordance(one: Sequence[float], other: Sequence[float]) -> float:
    r"""Lin's concordance correlation coefficient (1989).

    .. math:: \rho_c = \frac{2 s_{xy}}{s_x^2 + s_y^2 + (\bar x - \bar y)^2}

    >>> concordance([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), concordance([1.0, 2.0, 3.0], [2.0, 3.0, 4.0])
    (1.0, 0.571...)
    """
    import numpy as np

    x, y = np.asarray(one, float), np.asarray(other, float)
    below = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    return float(2 * ((x - x.mean()) * (y - y.mean())).mean() / below) if below > 0 else 1.0
