"""Radiomics of blocks of a scan, and their concordance with those of another scan.

Names and definitions of the features are those of the Image Biomarker Standardisation Initiative
(IBSI; Zwanenburg et al., Radiology 295, 2020). Tests compare them with its digital phantom.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnd.errors import InputFileError

__all__ = ["Blocks", "concordance", "first_order", "texture"]

_BLOCK = 24.0  # mm along each side of a block
_MOST = 200  # blocks

# Half of the 26 neighbours of a voxel; the opposite ones give the same pairs.
_DIRECTIONS = [step for step in itertools.product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]


def first_order(
    values: NDArray[Any], mask: NDArray[Any] | None = None, *, bin_width: float = 25.0
) -> dict[str, float]:
    """Compute intensity statistics and two features of the intensity histogram.

    Args:
        values: an array of any shape.
        mask: bool array of this shape, voxels to include; None includes all.
        bin_width: width of a grey level of the histogram, in the unit of the values.

    Returns:
        Values by name, with IBSI's codes: mean (Q4LE), variance (ECT3), skewness (KE2A), excess
        kurtosis (IPH6), median (Y12H), 10th and 90th percentile (QG58, 8DWT), interquartile range
        (SALO), entropy (TLU2) and uniformity (BJ5W).

    Raises:
        InputFileError: the mask is empty.
    """
    x = np.asarray(values if mask is None else values[mask], np.float64).ravel()
    if not x.size:
        raise InputFileError(
            "radiomics", expected="some voxels in the mask", got="none", remedy="use another mask"
        )
    mean, variance = float(x.mean()), float(x.var())
    z = (x - mean) / (variance**0.5 if variance > 0 else 1.0)
    _, counts = np.unique(np.floor(x / bin_width), return_counts=True)
    share = counts / counts.sum()
    p10, p25, median, p75, p90 = np.percentile(x, [10, 25, 50, 75, 90]).tolist()
    return {
        "mean": mean,
        "variance": variance,
        "skewness": float((z**3).mean()),
        "kurtosis": float((z**4).mean()) - 3 if variance > 0 else 0.0,
        "median": median,
        "p10": p10,
        "p90": p90,
        "interquartile_range": p75 - p25,
        "entropy": float(-(share * np.log2(share)).sum()),
        "uniformity": float((share**2).sum()),
    }


def texture(
    values: NDArray[Any], mask: NDArray[Any] | None = None, *, bin_width: float = 25.0
) -> dict[str, float]:
    """Compute features of grey level co-occurrence (Haralick, 1973), averaged over 13 directions.

    Neighbours have a distance of one voxel, and co-occurrence matrices are symmetric. IBSI calls
    this aggregation "3D, averaged" (ITBB).

    Args:
        values: an array of three axes.
        mask: bool array of this shape, voxels to include; None includes all.
        bin_width: width of a grey level, in the unit of the values.

    Returns:
        Values by name, with IBSI's codes: contrast (ACUI), dissimilarity (8S9J), inverse difference
        (IB1Z), inverse difference moment (WF0Z), angular second moment (8ZQL), joint entropy
        (TU9B), correlation (NI2N) and cluster tendency (DG8W).

    Raises:
        InputFileError: no two voxels of the mask are neighbours.
    """
    codes = np.floor(values / bin_width).astype(np.int64)
    inside = np.ones(values.shape, bool) if mask is None else mask
    features: list[dict[str, float]] = []
    if inside.any():
        codes -= codes[inside].min()
        levels = int(codes[inside].max()) + 1
        for step in _DIRECTIONS:
            first = tuple(slice(max(0, -n), -n if n > 0 else None) for n in step)
            second = tuple(slice(max(0, n), n if n < 0 else None) for n in step)
            both = inside[first] & inside[second]
            pairs = codes[first][both] * levels + codes[second][both]
            if pairs.size:
                table = np.bincount(pairs, minlength=levels * levels).reshape(levels, levels)
                features.append(_haralick((table + table.T) / (2.0 * pairs.size)))
    if not features:
        expected = "at least two neighbouring voxels in the mask"
        raise InputFileError("texture", expected=expected, got="none", remedy="use another mask")
    return {name: float(np.mean([part[name] for part in features])) for name in features[0]}


def _haralick(p: NDArray[Any]) -> dict[str, float]:
    """The features of a symmetric co-occurrence matrix ``(levels, levels)`` of probabilities."""
    level, other = (axis.astype(np.float64) for axis in np.nonzero(p))
    p = p[p > 0]
    difference = np.abs(level - other)
    mean = float((p * level).sum())
    variance = float((p * (level - mean) ** 2).sum())
    joint = float((p * (level - mean) * (other - mean)).sum())
    return {
        "contrast": float((p * difference**2).sum()),
        "dissimilarity": float((p * difference).sum()),
        "inverse_difference": float((p / (1 + difference)).sum()),
        "inverse_difference_moment": float((p / (1 + difference**2)).sum()),
        "angular_second_moment": float((p**2).sum()),
        "joint_entropy": float(-(p * np.log2(p)).sum()),
        "correlation": joint / variance if variance > 0 else 1.0,
        "cluster_tendency": float((p * (level + other - 2 * mean) ** 2).sum()),
    }


class Blocks:
    """The blocks of 24 mm side of a scan, at least half of whose voxels belong to the patient.

    Blocks start at multiples of 24 mm in scanner coordinates, so two parts of one scan have the
    same blocks where they overlap. Of more than 200 blocks, every n-th is used.

    Args:
        body: bool array of three axes; voxels of the patient.
        spacing: mm along each axis.
        origin: position of the first voxel in mm along each axis.

    Attributes:
        boxes: three slices for each block.
    """

    def __init__(
        self, body: NDArray[Any], spacing: Sequence[float], origin: Sequence[float] = (0, 0, 0)
    ) -> None:
        ranges = []
        for extent, step, start in zip(body.shape, spacing, origin, strict=True):
            side = min(extent, max(1, round(_BLOCK / step)))
            first = round(-start / step) % side
            ranges.append(
                [slice(low, low + side) for low in range(first, extent - side + 1, side)]
                or [slice(0, side)]
            )
        boxes = [box for box in itertools.product(*ranges) if body[box].mean() >= 0.5]
        self.boxes = boxes[:: -(-len(boxes) // _MOST) or 1]

    def features(
        self, values: NDArray[Any], function: Callable[..., Mapping[str, float]], bin_width: float
    ) -> dict[str, list[float]]:
        """Compute the features of every block.

        Args:
            values: an array of the scan's shape.
            function: `first_order` or `texture`.
            bin_width: width of a grey level, in the unit of the values.

        Returns:
            A list with one value for each block, by name; empty without blocks.
        """
        features: dict[str, list[float]] = {}
        for box in self.boxes:
            for name, value in function(values[box], bin_width=bin_width).items():
                features.setdefault(name, []).append(value)
        return features


def concordance(one: Sequence[float], other: Sequence[float], *, ranked: bool = False) -> float:
    r"""Lin's concordance correlation coefficient (Biometrics 45, 1989).

    .. math:: \rho_c = \frac{2 s_{xy}}{s_x^2 + s_y^2 + (\bar x - \bar y)^2}

    Args:
        one: values.
        other: values that correspond to the first ones; with ``ranked``, any number of values.
        ranked: compare 49 quantiles, for values of two patients, which do not correspond.

    >>> concordance([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), concordance([1.0, 2.0, 3.0], [2.0, 3.0, 4.0])
    (1.0, 0.571...)
    """
    x, y = np.asarray(one, float), np.asarray(other, float)
    if ranked:
        shares = np.linspace(0.02, 0.98, 49)
        x, y = np.quantile(x, shares), np.quantile(y, shares)
    below = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    return float(2 * ((x - x.mean()) * (y - y.mean())).mean() / below) if below > 0 else 1.0
