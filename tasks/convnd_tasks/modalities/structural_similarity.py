"""The structural similarity of two pictures, volumes, or grids of any number of axes."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["structural_similarity"]

_WINDOW, _SIGMA = 11, 1.5  # samples; extent and standard deviation of the window of Wang et al.


def structural_similarity(
    one: Tensor, other: Tensor, span: float, weight: Tensor, *, mirrored: bool = False
) -> float:
    r"""Compute the mean structural similarity (SSIM).

    .. math:: \frac{(2\mu_x\mu_y + C_1)(2\sigma_{xy} + C_2)}
        {(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)}

    with means, variances and covariance in a Gaussian window of 11 samples along each axis,
    :math:`\sigma = 1.5`, :math:`C_1 = (0.01 R)^2` and :math:`C_2 = (0.03 R)^2` for values of range
    R (Wang et al., 2004, "Image quality assessment: from error visibility to structural
    similarity").

    Args:
        one: ``(*S)``.
        other: ``(*S)``.
        span: the range R of the values.
        weight: ``(*S)``; that of the centre weighs a window.
        mirrored: continue the grids by reflection, so that every sample is the centre of a window;
            else only windows inside them count.

    Returns:
        From -1 to 1, where 1 is equality; NaN if no window has a weight.

    >>> picture = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
    >>> structural_similarity(picture, picture, 1.0, torch.ones(16, 16))
    1.0
    """
    radius = _WINDOW // 2
    if not mirrored:
        if min(one.shape) < _WINDOW:
            return math.nan
        weight = weight[(slice(radius, -radius),) * weight.ndim]
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    window = (-(offsets**2) / (2 * _SIGMA**2)).exp()
    window = (window / window.sum()).view(1, 1, -1)

    def local_mean(values: Tensor) -> Tensor:
        for axis, extent in enumerate(values.shape):
            if mirrored:
                index = torch.arange(-radius, extent + radius) % (2 * extent)
                values = values.index_select(axis, torch.minimum(index, 2 * extent - 1 - index))
            lines = values.movedim(axis, -1)
            filtered = F.conv1d(lines.reshape(-1, 1, lines.shape[-1]), window)
            values = filtered.view(*lines.shape[:-1], -1).movedim(-1, axis)
        return values

    x, y = one.double(), other.double()
    mean_x, mean_y = local_mean(x), local_mean(y)
    variances = local_mean(x * x + y * y) - mean_x**2 - mean_y**2
    covariance = local_mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (variances + c2)
    weight = weight.double()
    total = weight.sum()
    return float((similarity * weight).sum() / total) if total > 0 else math.nan
