"""Instance normalisation over any number of axes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnd.errors import ShapeError
from convnd.nn._native import check_batched
from convnd.shapes import ntuple

__all__ = ["InstanceNormNd"]


class InstanceNormNd(nn.Module):
    r"""Normalise every channel of every example to mean 0 and variance 1 over its positions.

    .. math:: y = \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}}\,\gamma + \beta

    (Ulyanov, Vedaldi & Lempitsky 2016.) Its ``state_dict`` is interchangeable with that of torch's
    ``InstanceNorm1d``, ``2d`` and ``3d``.

    Args:
        num_features: number of channels.
        spatial_dims: number of spatial axes, any from 1.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics.
        affine: whether γ and β are learnt, starting from 1 and 0; else they stay 1 and 0.
        track_running_stats: whether to keep running statistics in training and to use them in
            evaluation.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ShapeError: the input has another rank or number of channels, or a single position, which
            has no variance.

    >>> InstanceNormNd(1, spatial_dims=1, eps=0.0)(torch.tensor([[[1.0, 3.0]]])).tolist()
    [[[-1.0, 1.0]]]
    """

    def __init__(
        self,
        num_features: int,
        *,
        spatial_dims: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_features = ntuple(num_features, 1, "num_features")[0]
        self.spatial_dims = ntuple(spatial_dims, 1, "spatial_dims")[0]
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.weight: nn.Parameter | None
        self.bias: nn.Parameter | None
        self.running_mean: Tensor | None
        self.running_var: Tensor | None
        self.num_batches_tracked: Tensor | None

        def full(value: float) -> Tensor:
            return torch.full((num_features,), value, device=device, dtype=dtype)

        self.register_parameter("weight", nn.Parameter(full(1.0)) if affine else None)
        self.register_parameter("bias", nn.Parameter(full(0.0)) if affine else None)
        self.register_buffer("running_mean", full(0.0) if track_running_stats else None)
        self.register_buffer("running_var", full(1.0) if track_running_stats else None)
        count = torch.tensor(0, device=device) if track_running_stats else None
        self.register_buffer("num_batches_tracked", count)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` to the same shape."""
        check_batched("InstanceNormNd", x, self.spatial_dims, channels=self.num_features)
        from_input = self.training or not self.track_running_stats
        if from_input and math.prod(x.shape[2:]) < 2:
            raise ShapeError(
                "InstanceNormNd",
                expected="more than one position",
                got=f"shape {tuple(x.shape)}",
                remedy="use a larger input",
            )
        return F.instance_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            from_input,
            self.momentum,
            self.eps,
        )

    def extra_repr(self) -> str:
        """The arguments, for ``print``."""
        return (
            f"{self.num_features}, spatial_dims={self.spatial_dims}, eps={self.eps}, "
            f"momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )
