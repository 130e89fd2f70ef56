"""Means, variances and covariances of channels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from convnd.stats.base import StatisticModule, Sums, accumulable, count_positions
from convnd.stats.gram import gram_matrix

__all__ = ["CovarianceStatistic", "DistributionStatistic", "MomentStatistic"]


class MomentStatistic(StatisticModule):
    r"""Mean and variance of each channel.

    .. math:: \mu_k = \frac1N \sum_p a_{pk}, \qquad \sigma_k^2 = \frac1N \sum_p a_{pk}^2 - \mu_k^2

    Li et al. (2017, "Demystifying neural style transfer") showed that matching these alone
    already carries style. The sums :math:`\sum a` and :math:`\sum a^2` add up over tiles.

    >>> statistic = MomentStatistic()
    >>> statistic.summary(statistic.sums(torch.tensor([[[1.0, 3.0]]]))).flatten().tolist()
    [2.0, 1.0]
    """

    additive = True

    def sums(self, features: Tensor, *, weight: Tensor | None = None) -> Sums:
        """Sum the values and their squares, ``(B, 2, C)``."""
        flat = accumulable(features.flatten(2))
        if weight is None:
            rows = flat.sum(2), flat.square().sum(2)
        else:
            weighted = flat * weight.flatten(2)
            rows = weighted.sum(2), (weighted * flat).sum(2)
        return Sums(torch.stack(rows, 1), count_positions(features, weight))

    def summary(self, sums: Sums) -> Tensor:
        """Compute mean and variance, ``(B, 2, C)``."""
        mean, square = (sums.total / sums.count).unbind(1)
        return torch.stack([mean, square - mean.square()], 1)


class CovarianceStatistic(StatisticModule):
    r"""Covariance of channels, and their means.

    .. math:: \Sigma = \frac1N \sum_p a_p a_p^T - \mu \mu^T

    This is the Gram matrix per position without the product of the means :math:`\mu`.

    >>> statistic = CovarianceStatistic()
    >>> statistic.summary(statistic.sums(torch.tensor([[[1.0, 3.0]]]))).flatten().tolist()
    [1.0, 2.0]
    """

    additive = True

    def sums(self, features: Tensor, *, weight: Tensor | None = None) -> Sums:
        """Sum the products of channels and, in a last column, the values: ``(B, C, C + 1)``."""
        values = accumulable(features.flatten(2))
        if weight is not None:
            values = values * weight.flatten(2)
        total = torch.cat([gram_matrix(features, weight), values.sum(2, keepdim=True)], 2)
        return Sums(total, count_positions(features, weight))

    def project_sums(self, sums: Sums, matrix: Tensor) -> Sums:
        r"""Turn the sums of ``a`` into those of ``W a``: :math:`W G W^T` and :math:`W \sum a`."""
        matrix = matrix.to(sums.total.dtype)
        products, total = sums.total.tensor_split([-1], 2)
        return Sums(torch.cat([matrix @ products @ matrix.mT, matrix @ total], 2), sums.count)

    def summary(self, sums: Sums) -> Tensor:
        """Compute the covariance and, in a last column, the mean: ``(B, C, C + 1)``."""
        products, mean = (sums.total / sums.count).tensor_split([-1], 2)
        return torch.cat([products - mean @ mean.mT, mean], 2)


class DistributionStatistic(StatisticModule):
    r"""Mean, standard deviation, skewness and logarithm of the kurtosis of each channel.

    .. math:: \mu, \quad \sigma, \quad m_3 / \sigma^3, \quad \log(m_4 / \sigma^4)

    with :math:`m_k` the central moments. They tell even distributions from skewed and from spiky
    ones. The logarithm keeps the kurtosis of spiky signals (10 to 40 for an ECG) from dominating
    the loss. The sums of the first four powers add up over tiles.

    >>> statistic = DistributionStatistic()
    >>> values = statistic.summary(statistic.sums(torch.tensor([[[1.0, 3.0]]])))
    >>> values.flatten().tolist()  # two values: even, with the smallest possible kurtosis
    [2.0, 1.0, 0.0, 0.0]
    """

    additive = True

    def sums(self, features: Tensor, *, weight: Tensor | None = None) -> Sums:
        """Sum the powers 1 to 4 of the values, ``(B, 4, C)``."""
        flat = features.flatten(2)
        if flat.device.type != "mps":  # central moments are small differences of large sums
            flat = flat.double()
        square = flat.square()
        powers = [flat, square, flat * square, square.square()]
        if weight is not None:
            shares = weight.flatten(2).to(flat)
            powers = [power * shares for power in powers]
        total = torch.stack([power.sum(2) for power in powers], 1)
        return Sums(total, count_positions(features, weight))

    def peak_bytes(self, extent: Sequence[int]) -> int:
        """Estimate the peak memory, see `convnd.stats.peak_bytes_of`: six copies in float64."""
        return 48 * math.prod(extent)

    def summary(self, sums: Sums) -> Tensor:
        """Compute the four values ``(B, 4, C)``; a constant channel only has a defined mean."""
        m, s, c, q = (sums.total / sums.count).unbind(1)
        variance = (s - m.square()).clamp_min(1e-12)
        third = c - 3 * m * s + 2 * m**3
        fourth = q - 4 * m * c + 6 * m.square() * s - 3 * m**4
        kurtosis = (fourth / variance.square()).clamp_min(1.0)  # Pearson's inequality
        rows = [m, variance.sqrt(), third / variance**1.5, kurtosis.log()]
        return torch.stack(rows, 1)
