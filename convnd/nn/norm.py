"""Batch and instance normalisation over any number of axes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.overrides import has_torch_function_unary

from convnd.errors import ShapeError
from convnd.nn._native import NO_NODE, check_batched, trace_as_leaf
from convnd.nn._scripting import is_scripting, script_batch_norm
from convnd.shapes import ntuple

__all__ = ["BatchNormNd", "InstanceNormNd"]


class BatchNormNd(_BatchNorm):
    r"""Normalise every channel to mean 0 and variance 1 over the batch and its positions.

    .. math:: y = \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}}\,\gamma + \beta

    (Ioffe and Szegedy, 2015.) Arguments, attributes and ``state_dict`` are those of torch's
    ``BatchNorm1d``, ``2d`` and ``3d``, and tools that look for torch's batch normalisations find
    this one: it derives from their base class.

    Args:
        num_features: number of channels.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics; None for their plain mean.
        affine: whether γ and β are learnt, starting from 1 and 0; else they stay 1 and 0.
        track_running_stats: whether to keep running statistics in training and to use them in
            evaluation.
        device: device of the parameters.
        dtype: number format of the parameters.
        spatial_dims: number of spatial axes, any from 1.
        bias: whether β is learnt if γ is.

    Raises:
        ShapeError: the input has another rank or number of channels, or, in training, a single
            value per channel, which has no variance.

    >>> norm = BatchNormNd(1, spatial_dims=1)
    >>> norm(torch.tensor([[[1.0, 3.0]]])).round().tolist()
    [[[-1.0, 1.0]]]
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        spatial_dims: int,
        bias: bool = True,
    ) -> None:
        channels = ntuple(num_features, 1, "num_features")[0]
        axes = ntuple(spatial_dims, 1, "spatial_dims")[0]
        super().__init__(channels, eps, momentum, affine, track_running_stats, device, dtype)
        if not bias:  # an argument of torch's since 2.13
            self.register_parameter("bias", None)
        self.spatial_dims = axes

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` to the same shape."""
        if is_scripting():
            y = script_batch_norm(
                x,
                self.running_mean,
                self.running_var,
                self.num_batches_tracked,
                self.weight,
                self.bias,
                self.training,
                self.momentum,
                self.eps,
            )
        else:
            y = trace_as_leaf(self, x) if has_torch_function_unary(x) else NO_NODE
            if y is None:
                y = super().forward(x)
        return y

    def _check_input_dim(self, input: Tensor) -> None:
        if not is_scripting() and isinstance(input, Tensor):
            check_batched("BatchNormNd", input, self.spatial_dims, channels=self.num_features)
            from_input = self.training or not self.track_running_stats
            if from_input and input.numel() == self.num_features:
                raise ShapeError(
                    "BatchNormNd",
                    expected="more than one value per channel in training",
                    got=f"shape {tuple(input.shape)}",
                    remedy="use a larger batch or input",
                )

    def extra_repr(self) -> str:
        """The arguments, for ``print``."""
        parent: Any = super()
        return f"{parent.extra_repr()}, spatial_dims={self.spatial_dims}"


class InstanceNormNd(_InstanceNorm):
    r"""Normalise every channel of every example to mean 0 and variance 1 over its positions.

    .. math:: y = \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}}\,\gamma + \beta

    (Ulyanov, Vedaldi & Lempitsky 2016.) Arguments, attributes and ``state_dict`` are those of
    torch's ``InstanceNorm1d``, ``2d`` and ``3d``, whose base class it derives from.

    Args:
        num_features: number of channels.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics.
        affine: whether γ and β are learnt, starting from 1 and 0; else they stay 1 and 0.
        track_running_stats: whether to keep running statistics in training and to use them in
            evaluation.
        device: device of the parameters.
        dtype: number format of the parameters.
        spatial_dims: number of spatial axes, any from 1.
        bias: whether β is learnt if γ is.

    Raises:
        ShapeError: the input has another rank or number of channels, or a single position, which
            has no variance.

    >>> InstanceNormNd(1, eps=0.0, spatial_dims=1)(torch.tensor([[[1.0, 3.0]]])).tolist()
    [[[-1.0, 1.0]]]
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        spatial_dims: int,
        bias: bool = True,
    ) -> None:
        channels = ntuple(num_features, 1, "num_features")[0]
        axes = ntuple(spatial_dims, 1, "spatial_dims")[0]
        super().__init__(channels, eps, momentum, affine, track_running_stats, device, dtype)
        if not bias:  # an argument of torch's since 2.13
            self.register_parameter("bias", None)
        self.spatial_dims = axes

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` to the same shape."""
        # torch's method has no types, and TorchScript supports no cast.
        if is_scripting():
            y = self._apply_instance_norm(x)  # type: ignore[no-untyped-call]
        else:
            y = trace_as_leaf(self, x) if has_torch_function_unary(x) else NO_NODE
            if y is None:
                self._check_input_dim(x)
                y = self._apply_instance_norm(x)  # type: ignore[no-untyped-call]
        return y  # type: ignore[no-any-return]

    def _check_input_dim(self, input: Tensor) -> None:
        if not is_scripting() and isinstance(input, Tensor):
            check_batched("InstanceNormNd", input, self.spatial_dims, channels=self.num_features)
            from_input = self.training or not self.track_running_stats
            if from_input and math.prod(input.shape[2:]) < 2:
                raise ShapeError(
                    "InstanceNormNd",
                    expected="more than one position",
                    got=f"shape {tuple(input.shape)}",
                    remedy="use a larger input",
                )

    def _get_no_batch_dim(self) -> int:
        return -1  # inputs have a batch axis

    def extra_repr(self) -> str:
        """The arguments, for ``print``."""
        parent: Any = super()
        return f"{parent.extra_repr()}, spatial_dims={self.spatial_dims}"
