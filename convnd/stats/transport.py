"""The linear map between two covariances that changes least."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["transport_matrix"]

_SMALLEST = torch.finfo(torch.float32).tiny


def transport_matrix(
    covariance: Tensor, target: Tensor, *, least: Tensor | float = _SMALLEST
) -> Tensor:
    r"""The symmetric matrix that turns one covariance into another.

    For Gaussians it is the optimal transport map (Olkin and Pukelsheim, 1982):

    .. math:: T = C^{-1/2} (C^{1/2} S\, C^{1/2})^{1/2} C^{-1/2}, \qquad T\, C\, T = S

    Args:
        covariance: :math:`C`, ``(c, c)``, symmetric, in float64.
        target: :math:`S`, of the same shape.
        least: eigenvalues of :math:`C` count as this at least.

    Returns:
        :math:`T`, ``(c, c)``.

    >>> transport_matrix(torch.diag(torch.tensor([1.0, 4.0])), 4 * torch.eye(2)).diagonal()
    tensor([2., 1.])
    """
    root, inverse_root = _powers(covariance, 0.5, -0.5, least=least)
    (middle,) = _powers(root @ target @ root, 0.5, least=_SMALLEST)
    return inverse_root @ middle @ inverse_root


def _powers(matrix: Tensor, *exponents: float, least: Tensor | float) -> list[Tensor]:
    """Powers of a symmetric matrix, whose eigenvalues count as ``least`` at least."""
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    values = values.clamp_min(least)
    return [(vectors * values.pow(exponent)) @ vectors.mT for exponent in exponents]
