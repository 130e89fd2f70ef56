r"""The sharpness of a scan's edges along each axis, and filters that change it.

The slopes across an edge are measured behind a narrow and a wide Gaussian, :math:`s_n` and
:math:`s_w`. At the crests of the strongest edges :math:`e`, sharpness is the ratio of both

.. math:: Q = \frac{\sum_e s_n(e)\, s_w(e)}{\sum_e s_w(e)^2},

1 for very blurred edges, and the ratio of the two widths for ideal steps. Noise does not correlate
with the slope of an edge, so it hardly changes Q. Voxels of the background have no influence on any
Gaussian (normalised convolution; Knutsson & Westin, 1993).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.smoothing import erode, local_mean, sigmas, window_maximum

__all__ = ["EDGE_SIGMAS", "apply_filters", "edge_sharpness", "quantile"]

EDGE_SIGMAS = 0.7, 2.0
"""Standard deviations of the narrow and the wide Gaussian, in resolutions."""

_EDGE_SHARE = 0.02  # of the voxels, those with the largest slopes, are edges
_FEWEST = 30  # voxels of edges


def edge_sharpness(scan: Scan, resolution: float) -> dict[int, float]:
    """Measure the sharpness Q of a scan's strongest edges by axis.

    Args:
        scan: the scan; edges of its background do not count.
        resolution: mm; the coarsest, over the compared scans, of their finest voxel sides.

    Returns:
        Q by axis, for axes with fine enough voxels and enough edges.
    """
    spacing, weight = scan.spacing, scan.valid.float()
    widths = [sigmas(spacing, sigma * resolution, min(spacing)) for sigma in EDGE_SIGMAS]
    extents = scan.values.shape
    axes = [axis for axis in range(3) if widths[1][axis] > 0 and extents[axis] > 2]
    inside = erode(scan.valid, [math.ceil(width) for width in widths[1]])
    for axis in axes:  # where the gradient has two neighbours
        inside.narrow(axis, 0, 1).zero_()
        inside.narrow(axis, extents[axis] - 1, 1).zero_()
    if not axes or not bool(inside.any()):
        return {}
    slopes = []
    for sigma in widths:
        smooth = local_mean(scan.values, weight, sigma)
        parts = [torch.gradient(smooth, dim=axis)[0] / spacing[axis] for axis in axes]
        slopes.append(torch.stack(parts))
    magnitude = slopes[1].square().sum(0).sqrt()
    strong = inside & (magnitude >= quantile(magnitude[inside], 1 - _EDGE_SHARE).clamp(min=1e-30))
    steepest = slopes[1].abs().amax(0)
    sharpness = {}
    for number, axis in enumerate(axes):
        ridge = slopes[1][number].abs()
        # Beside a crest, slopes hardly change with sharpness.
        reach = [int(other == axis) for other in range(3)]
        crest = strong & (ridge == steepest) & (ridge == window_maximum(ridge, reach))
        narrow, wide = (field[number][crest].double() for field in slopes)
        if len(wide) >= _FEWEST:
            sharpness[axis] = float((narrow @ wide) / wide.square().sum())
    return sharpness


def apply_filters(scan: Scan, amounts: Mapping[int, float], resolution: float) -> Scan:
    """Filter a scan along some axes.

    A negative amount blurs with a Gaussian of this variance, in squared resolutions. A positive
    one adds ``amount`` times the difference from a Gaussian of one resolution (unsharp masking).
    Near 0, both change low frequencies alike.

    Args:
        scan: the scan; voxels that are not valid have no influence on others and do not change.
        amounts: amounts of the filters by axis.
        resolution: mm.

    Returns:
        The filtered scan, in the range of the scan's valid values.
    """
    if not amounts:
        return scan
    values, weight = scan.values, scan.valid.float()
    for amount in sorted(set(amounts.values()) - {0.0}):
        # Axes with one amount are filtered together; one by one, corners were sharpened twice.
        width = math.sqrt(-amount) if amount < 0 else 1.0
        filtered = [amounts.get(axis) == amount for axis in range(3)]
        steps = zip(scan.spacing, filtered, strict=True)
        blurred = local_mean(values, weight, [width * resolution / step * on for step, on in steps])
        values = blurred if amount < 0 else values + amount * (values - blurred)
    low, high = scan.values[scan.valid].aminmax()
    return scan.with_values(torch.where(scan.valid, values.clamp(low, high), scan.values))


def quantile(values: Tensor, share: float) -> Tensor:
    """A quantile of values, from at most two million of them."""
    return torch.quantile(values[:: max(1, values.numel() // 1_000_000)], share)
