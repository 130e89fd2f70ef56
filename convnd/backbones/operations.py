"""The operations that a `convnd.backbones.VGG` runs one after the other.

An operation computes the features of its layer from those of the layer before, and collects them
under the name of the layer if the caller asked for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnd.backbones.kernels import (
    ConvOptions,
    FrozenWeights,
    frozen_conv,
    frozen_conv_pool,
    frozen_max_pool,
)
from convnd.errors import ShapeError
from convnd.nn import avg_pool_nd, conv_nd
from convnd.nn.transforms import autocast_dtype, full_precision, is_transformed

__all__ = ["Convolution", "Convolve", "ConvolvePool", "Operation", "Pool", "Rectify"]


class Convolution(nn.Module):
    """A convolution of odd width with padding that keeps the extent.

    Its weights are frozen unless ``requires_grad`` of one of them is true. Frozen weights are run
    by `frozen_conv`, except under transforms of torch, which do not support it.

    Args:
        shape: shape of the weight, ``(O, C, *K)``.
        generator: source of the random weights (He et al., 2015); None is torch's global generator.
        bias: whether there is a bias; it is zero at first.
    """

    def __init__(
        self, shape: tuple[int, ...], generator: torch.Generator | None, *, bias: bool = True
    ) -> None:
        super().__init__()
        weight = torch.empty(shape)
        if not weight.is_meta:  # drawing numbers on the meta device imports torch's compiler, 2 s
            weight.normal_(0, (2 / math.prod(shape[1:])) ** 0.5, generator=generator)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(shape[0]), requires_grad=False) if bias else None
        self._cache: dict[Any, tuple[Any, list[Tensor], FrozenWeights]] = {}

    def forward(
        self,
        x: Tensor,
        constant_axes: tuple[int, ...],
        dtype: torch.dtype | None = None,
        options: ConvOptions | None = None,
        window: Sequence[int] = (),
    ) -> tuple[Tensor, Tensor]:
        """Convolve, see `frozen_conv`, and pool, see `frozen_conv_pool`.

        Args:
            x: ``(B, C, *S)``.
            constant_axes: axes along which the input is one sample of a constant field; the kernel
                is summed over them.
            dtype: number format of the result; None means that of the weights.
            options: ReLU, padding and memory; a trained convolution uses the first two alone.
            window: samples of a window of the max pooling along each axis; () does not pool.

        Returns:
            ``(B, O, *S)`` twice: for the next layer and for the caller.
        """
        is_trained = self.weight.requires_grad or (
            self.bias is not None and self.bias.requires_grad
        )
        autocast = autocast_dtype(x)
        if not is_trained and not is_transformed():
            dtype = dtype if autocast is None else autocast
            weights = self._frozen_weights(constant_axes, dtype, cast=x.dtype == autocast)
            with full_precision(x):  # the weights are in the right number format already
                if window:
                    y = frozen_conv_pool(x, weights, options or ConvOptions(), window)
                    return y, y
                return frozen_conv(x, weights, options)
        options = ConvOptions() if options is None else options
        weight = self._summed_weight(constant_axes)
        border = options.border(weight.shape[2:])
        padding = [
            0 if axis in border.margins else width // 2
            for axis, width in enumerate(weight.shape[2:], 2)
        ]
        x = x.to(weight.dtype) if autocast is None else x
        y = conv_nd(border.extend(x), weight, self.bias, padding=padding)
        y = F.relu(y) if options.relu else y
        y = y if dtype is None or autocast is not None else y.to(dtype)
        y = frozen_max_pool(y, window, mask_grad=True) if window else y
        return y, y

    def _summed_weight(self, axes: tuple[int, ...]) -> Tensor:
        weight: Tensor = self.weight
        for axis in axes:
            weight = weight.sum(axis + 2, keepdim=True)
        return weight

    def _frozen_weights(
        self, axes: tuple[int, ...], dtype: torch.dtype | None, *, cast: bool
    ) -> FrozenWeights:
        """Lay the weights out for `frozen_conv`, once until they change.

        Args:
            axes: constant axes, see `forward`.
            dtype: number format of the result.
            cast: whether to round the weights to ``dtype``, as the input is.
        """
        state = [
            (values.data_ptr(), values.dtype, 0 if values.is_inference() else values._version)
            for values in self.parameters()
        ]
        key = axes, dtype, cast
        if key not in self._cache or self._cache[key][0] != state:
            # Holding the old tensors keeps new weights from being allocated at their address.
            tensors = [values.detach() for values in self.parameters()]
            weight = self._summed_weight(axes).detach()
            bias: Tensor | None = self.bias
            if cast:
                weight, bias = weight.to(dtype), None if bias is None else bias.detach().to(dtype)
            weights = FrozenWeights(weight, bias, dtype)
            self._cache[key] = state, tensors, weights
        return self._cache[key][2]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One step of the forward pass.

    Args:
        name: name of the layer if the caller asked for its features; else empty.
        projection: linear map of the features that the caller gets, or None.
    """

    name: str = ""
    projection: Convolution | None = None

    def __call__(self, x: Tensor, features: dict[str, Tensor]) -> Tensor:
        """Run the step.

        Args:
            x: features of the layer before, ``(B, C, *S)``.
            features: receives the features of this layer under `name`, if it is not empty.

        Returns:
            Features for the next layer.
        """
        raise NotImplementedError

    def _collect(self, values: Tensor, features: dict[str, Tensor]) -> None:
        """Project the features of this layer, and add them to those that the caller gets."""
        if self.name:
            if self.projection is not None:
                values, _ = self.projection(values, ())
            features[self.name] = values


@dataclass(frozen=True, kw_only=True)
class Convolve(Operation):
    """A convolution, with the ReLU after it unless the caller asked for the values in between.

    Args:
        convolution: the weights.
        constant_axes: axes along which the input is constant, see `Convolution.forward`.
        dtype: number format of the result.
        options: ReLU, padding and memory.
    """

    convolution: Convolution
    constant_axes: tuple[int, ...]
    dtype: torch.dtype
    options: ConvOptions

    def __call__(self, x: Tensor, features: dict[str, Tensor]) -> Tensor:
        """Convolve, see `Operation.__call__`."""
        x, values = self.convolution(x, self.constant_axes, self.dtype, self.options)
        self._collect(values, features)
        return x


@dataclass(frozen=True, kw_only=True)
class ConvolvePool(Operation):
    """A convolution with ReLU, and a max pooling that alone reads its result.

    Args:
        convolve: the convolution.
        pool: the pooling.
    """

    convolve: Convolve
    pool: Pool

    def __call__(self, x: Tensor, features: dict[str, Tensor]) -> Tensor:
        """Convolve and pool, see `Operation.__call__`.

        Raises:
            ShapeError: the input is shorter than a window of 2 samples.
        """
        step, window = self.convolve, self.pool.window(x)
        x, _ = step.convolution(x, step.constant_axes, step.dtype, step.options, window)
        self.pool._collect(x, features)
        return x


@dataclass(frozen=True, kw_only=True)
class Rectify(Operation):
    """A ReLU whose input the caller asked for too."""

    def __call__(self, x: Tensor, features: dict[str, Tensor]) -> Tensor:
        """Apply the ReLU, see `Operation.__call__`."""
        x = F.relu(x)
        self._collect(x, features)
        return x


@dataclass(frozen=True, kw_only=True)
class Pool(Operation):
    """A pooling.

    On an axis that is shorter than a window of more than 2 samples, the window is as long as the
    axis, since signals may be short.

    Args:
        kernel: samples of a window along each axis; 1 along constant axes.
        average: whether to pool by the mean instead of the maximum.
        mask_grad: whether the gradient becomes 0 where a maximum is 0, see `frozen_max_pool`.
        min_size: samples that the input of the network needs along each axis, for the message.
        layer: name of the layer, for the message.
    """

    kernel: Sequence[int]
    average: bool
    mask_grad: bool
    min_size: int
    layer: str

    def __call__(self, x: Tensor, features: dict[str, Tensor]) -> Tensor:
        """Pool, see `Operation.__call__`.

        Raises:
            ShapeError: the input is shorter than a window of 2 samples.
        """
        kernel = self.window(x)
        if self.average:
            x = avg_pool_nd(x, kernel)
        else:
            x = frozen_max_pool(x, kernel, mask_grad=self.mask_grad)
        self._collect(x, features)
        return x

    def window(self, x: Tensor) -> list[int]:
        """Return the samples of a window along each axis of ``x``.

        Raises:
            ShapeError: the input is shorter than a window of 2 samples.
        """
        extents = x.shape[2:]
        if any(
            extent == 1 and width == 2 for extent, width in zip(extents, self.kernel, strict=True)
        ):
            raise ShapeError(
                "VGG",
                expected=f"at least {self.min_size} samples along each axis to reach {self.layer}",
                got=f"an input that has shrunk to {tuple(x.shape[2:])} before it",
                remedy="use a larger input or shallower layers",
            )
        return [min(extent, width) for extent, width in zip(extents, self.kernel, strict=True)]
