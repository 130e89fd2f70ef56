# ruff: noqa: RUF005 - TorchScript cannot unpack lists
"""Channels to samples and back, over any number of axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from convnd.errors import ShapeError
from convnd.nn._native import NO_NODE, check_batched, trace_as_leaf
from convnd.nn._scripting import is_scripting
from convnd.shapes import ntuple

__all__ = ["PixelShuffleNd", "PixelUnshuffleNd", "pixel_shuffle_nd", "pixel_unshuffle_nd"]


def pixel_shuffle_nd(x: Tensor, upscale_factor: int | Sequence[int]) -> Tensor:
    r"""Move channels into the spatial axes, as `torch.nn.functional.pixel_shuffle` for two axes.

    .. math:: y_c[r n + k] = x_{c R + \operatorname{ravel}(k)}[n], \quad 0 \le k < r,
              \quad R = \prod_i r_i

    The last axis of ``k`` changes fastest. This is the sub-pixel convolution of Shi et al. (2016).

    Args:
        x: ``(B, C · R, *S)``, any number of spatial axes.
        upscale_factor: the factor r of the size, one for all axes or one for each.

    Returns:
        ``(B, C, *(r · S))``.

    Raises:
        ShapeError: the factor does not fit the axes of ``x``, or R does not divide the channels.

    >>> import torch
    >>> pixel_shuffle_nd(torch.tensor([[[1, 3], [2, 4]]]), 2).tolist()
    [[[1, 2, 3, 4]]]
    """
    if has_torch_function_unary(x):
        result: Tensor = handle_torch_function(pixel_shuffle_nd, (x,), x, upscale_factor)
        return result
    check_batched("pixel_shuffle", x, max(1, x.ndim - 2))
    factors = ntuple(upscale_factor, x.ndim - 2, "pixel_shuffle upscale_factor")
    if x.shape[1] % math.prod(factors):
        raise ShapeError(
            "pixel_shuffle",
            expected=f"channels that {math.prod(factors)}, the product of the factors, divides",
            got=f"shape {tuple(x.shape)}",
            remedy="change the number of channels or upscale_factor",
        )
    return _shuffle(x, list(factors))


def pixel_unshuffle_nd(x: Tensor, downscale_factor: int | Sequence[int]) -> Tensor:
    """Move samples into the channels: the inverse of `pixel_shuffle_nd`.

    Args:
        x: ``(B, C, *S)``, any number of spatial axes.
        downscale_factor: the divisor r of the size, one for all axes or one for each.

    Returns:
        ``(B, C · R, *(S / r))``, with R the product of r over the axes.

    Raises:
        ShapeError: the factor does not fit the axes of ``x``, or does not divide its size.

    >>> import torch
    >>> pixel_unshuffle_nd(torch.tensor([[[1, 2, 3, 4]]]), 2).tolist()
    [[[1, 3], [2, 4]]]
    """
    if has_torch_function_unary(x):
        result: Tensor = handle_torch_function(pixel_unshuffle_nd, (x,), x, downscale_factor)
        return result
    check_batched("pixel_unshuffle", x, max(1, x.ndim - 2))
    factors = ntuple(downscale_factor, x.ndim - 2, "pixel_unshuffle downscale_factor")
    if any(samples % factor for samples, factor in zip(x.shape[2:], factors, strict=True)):
        raise ShapeError(
            "pixel_unshuffle",
            expected=f"a size that {factors} divides",
            got=f"shape {tuple(x.shape)}",
            remedy="crop or pad x, or change downscale_factor",
        )
    return _unshuffle(x, list(factors))


def _shuffle(x: Tensor, factors: list[int]) -> Tensor:
    """`pixel_shuffle_nd` in the part of Python that TorchScript supports."""
    ndim = len(factors)
    channels = x.shape[1]
    order, size = [0, 1], [x.shape[0], 0]
    for axis in range(ndim):
        channels = channels // factors[axis]
        order = order + [2 + ndim + axis, 2 + axis]
        size.append(x.shape[2 + axis] * factors[axis])
    size[1] = channels
    parts = x.reshape([x.shape[0], channels] + factors + list(x.shape[2:]))
    return parts.permute(order).reshape(size)


def _unshuffle(x: Tensor, factors: list[int]) -> Tensor:
    """`pixel_unshuffle_nd` in the part of Python that TorchScript supports."""
    channels = x.shape[1]
    counts: list[int] = []
    split = [x.shape[0], channels]
    order = [0, 1]
    for axis in range(len(factors)):
        channels = channels * factors[axis]
        counts.append(x.shape[2 + axis] // factors[axis])
        split = split + [counts[axis], factors[axis]]
        order.append(3 + 2 * axis)
    order = order + [2 + 2 * axis for axis in range(len(factors))]
    return x.reshape(split).permute(order).reshape([x.shape[0], channels] + counts)


class PixelShuffleNd(nn.Module):
    """`pixel_shuffle_nd` as a module; torch's ``PixelShuffle`` for two axes.

    Args:
        upscale_factor: factor of the size, one for all axes or one for each.
        spatial_dims: number of spatial axes.

    Raises:
        ShapeError: the factor does not fit ``spatial_dims``; in `forward`, the input does not fit.

    >>> import torch
    >>> PixelShuffleNd(2, spatial_dims=4)(torch.zeros(1, 32, 3, 3, 3, 3)).shape
    torch.Size([1, 2, 6, 6, 6, 6])
    """

    def __init__(self, upscale_factor: int | Sequence[int], *, spatial_dims: int) -> None:
        super().__init__()
        self.spatial_dims = ntuple(spatial_dims, 1, "spatial_dims")[0]
        ntuple(upscale_factor, self.spatial_dims, "PixelShuffleNd upscale_factor")
        factor = upscale_factor
        self.upscale_factor = tuple(factor) if isinstance(factor, Sequence) else factor

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C · R, *S)`` to ``(B, C, *(r · S))``."""
        if is_scripting():
            y = _shuffle(x, self._script_factors)
        else:
            y = trace_as_leaf(self, x) if has_torch_function_unary(x) else NO_NODE
            if y is None:
                if not has_torch_function_unary(x):
                    check_batched("PixelShuffleNd", x, self.spatial_dims)
                y = pixel_shuffle_nd(x, self.upscale_factor)
        return y

    def __prepare_scriptable__(self) -> PixelShuffleNd:
        """Store one factor for each axis; called by ``torch.jit.script``."""
        self._script_factors = list(ntuple(self.upscale_factor, self.spatial_dims, "factor"))
        return self

    def extra_repr(self) -> str:
        """The arguments, for ``print``."""
        return f"upscale_factor={self.upscale_factor}, spatial_dims={self.spatial_dims}"


class PixelUnshuffleNd(nn.Module):
    """`pixel_unshuffle_nd` as a module; torch's ``PixelUnshuffle`` for two axes.

    Args:
        downscale_factor: divisor of the size, one for all axes or one for each.
        spatial_dims: number of spatial axes.

    Raises:
        ShapeError: the factor does not fit ``spatial_dims``; in `forward`, the input does not fit.

    >>> import torch
    >>> PixelUnshuffleNd(2, spatial_dims=3)(torch.zeros(1, 2, 6, 6, 6)).shape
    torch.Size([1, 16, 3, 3, 3])
    """

    def __init__(self, downscale_factor: int | Sequence[int], *, spatial_dims: int) -> None:
        super().__init__()
        self.spatial_dims = ntuple(spatial_dims, 1, "spatial_dims")[0]
        ntuple(downscale_factor, self.spatial_dims, "PixelUnshuffleNd downscale_factor")
        factor = downscale_factor
        self.downscale_factor = tuple(factor) if isinstance(factor, Sequence) else factor

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` to ``(B, C · R, *(S / r))``."""
        if is_scripting():
            y = _unshuffle(x, self._script_factors)
        else:
            y = trace_as_leaf(self, x) if has_torch_function_unary(x) else NO_NODE
            if y is None:
                if not has_torch_function_unary(x):
                    check_batched("PixelUnshuffleNd", x, self.spatial_dims)
                y = pixel_unshuffle_nd(x, self.downscale_factor)
        return y

    def __prepare_scriptable__(self) -> PixelUnshuffleNd:
        """Store one divisor for each axis; called by ``torch.jit.script``."""
        self._script_factors = list(ntuple(self.downscale_factor, self.spatial_dims, "factor"))
        return self

    def extra_repr(self) -> str:
        """The arguments, for ``print``."""
        return f"downscale_factor={self.downscale_factor}, spatial_dims={self.spatial_dims}"
