"""Pooling over any number of axes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnd.nn._native import NATIVE, apply_separably, check_batched
from convnd.nn.pad import pad_nd
from convnd.shapes import Layer, Padding, output_size

__all__ = ["AvgPoolNd", "MaxPoolNd", "avg_pool_nd", "max_pool_nd"]


def max_pool_nd(
    x: Tensor,
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """The maximum of every window; padding never counts.

    Args:
        x: ``(B, C, *S)``, any number of spatial axes.
        kernel_size: samples in a window, one number or one per axis.
        stride: step between windows; the default is the window itself.
        padding: as in `convnd.nn.conv_nd`; no wider than a window reaches.
        dilation: distance between the samples of a window.

    Returns:
        ``(B, C, *S')``, with S' from `convnd.shapes.output_size`.

    Raises:
        ShapeError: ranks or sizes do not fit, or the padding is wider than a window's reach.

    The maximum is separable, so above three axes it is computed in several steps. If a window holds
    equal maxima, one of them receives the gradient. On CUDA torch's gradient in 3-D is not
    deterministic.

    >>> max_pool_nd(torch.arange(16.0).view(1, 1, 2, 2, 2, 2), 2).item()
    15.0
    """
    layer = _plan("maxpool", x, kernel_size, stride, padding, dilation)
    x, pads = _native_padding(x, layer, lowest=True)

    def apply(part: Tensor, axes: tuple[int | None, ...]) -> Tensor:
        kernel, steps, padding, gaps = (
            [default if axis is None else values[axis] for axis in axes]
            for values, default in (
                (layer.kernel, 1),
                (layer.stride, 1),
                (pads, 0),
                (layer.dilation, 1),
            )
        )
        return NATIVE[len(axes)].max_pool(part, kernel, steps, padding, gaps)

    return apply_separably(x, apply)


def avg_pool_nd(
    x: Tensor,
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = 0,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of every window.

    Args:
        x: ``(B, C, *S)``, any number of spatial axes.
        kernel_size: samples in a window, one number or one per axis.
        stride: step between windows; the default is the window itself.
        padding: zeros beyond the border, as in `convnd.nn.conv_nd`; no wider than a window
            reaches.
        count_include_pad: whether windows on the border divide by the number of all their samples,
            zeros included (the default, as in torch), or only by those inside of ``x``.

    Returns:
        ``(B, C, *S')``, with S' from `convnd.shapes.output_size`.

    Raises:
        ShapeError: ranks or sizes do not fit, or the padding is wider than a window's reach.

    >>> avg_pool_nd(torch.ones(1, 1, 4), 2, padding=1).tolist()
    [[[0.5, 1.0, 0.5]]]
    """
    layer = _plan("avgpool", x, kernel_size, stride, padding, 1)
    size = x.shape[2:]
    x, pads = _native_padding(x, layer, lowest=False)

    def apply(part: Tensor, axes: tuple[int | None, ...]) -> Tensor:
        kernel, steps, padding = (
            [default if axis is None else values[axis] for axis in axes]
            for values, default in ((layer.kernel, 1), (layer.stride, 1), (pads, 0))
        )
        return NATIVE[len(axes)].avg_pool(part, kernel, steps, padding)

    y = apply_separably(x, apply)
    if not count_include_pad:
        for axis, (samples, taps, step, (low, high)) in enumerate(
            zip(size, layer.kernel, layer.stride, layer.padding, strict=True)
        ):
            if low or high:
                starts = step * torch.arange(y.shape[2 + axis], device=y.device) - low
                inside = (starts + taps).clamp(max=samples) - starts.clamp(min=0)
                factor = (taps / inside).to(y.dtype)
                y = y * factor.view(-1, *[1] * (len(size) - 1 - axis))
    return y


def _plan(
    kind: str,
    x: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None,
    padding: Padding,
    dilation: int | Sequence[int],
) -> Layer:
    """The geometry, checked against ``x``."""
    ndim = x.ndim - 2
    check_batched(kind, x, max(1, ndim))
    layer = Layer.build(
        kind, ndim, kernel=kernel_size, stride=stride, padding=padding, dilation=dilation
    )
    output_size(x.shape[2:], layer)  # for its errors
    return layer


def _native_padding(x: Tensor, layer: Layer, *, lowest: bool) -> tuple[Tensor, tuple[int, ...]]:
    """Pad ``x`` unless torch can, which supports equal sides of at most half a window."""
    pads = tuple(low for low, _ in layer.padding)
    if all(
        low == high and 2 * low <= taps
        for (low, high), taps in zip(layer.padding, layer.kernel, strict=True)
    ):
        return x, pads
    if not lowest:
        return pad_nd(x, layer.padding), (0,) * len(pads)
    flat = [count for pair in reversed(layer.padding) for count in pair]
    return F.pad(x, flat, value=-torch.inf), (0,) * len(pads)


class _PoolNd(nn.Module):
    """Base class of the two poolings."""

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None,
        padding: Padding,
        dilation: int | Sequence[int],
        spatial_dims: int,
    ) -> None:
        super().__init__()
        self.layer = Layer.build(
            self.kind,
            spatial_dims,
            kernel=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
        )

    kind = ""

    @property
    def spatial_dims(self) -> int:
        """Number of spatial axes."""
        return self.layer.ndim

    def extra_repr(self) -> str:
        """The geometry, for ``print``."""
        return f"{self.layer}, spatial_dims={self.spatial_dims}"


class MaxPoolNd(_PoolNd):
    """`max_pool_nd` as a module.

    Args:
        kernel_size: as in `max_pool_nd`, like the arguments up to ``dilation``.
        stride: step between windows.
        padding: samples beyond the border.
        dilation: distance between the samples of a window.
        spatial_dims: number of spatial axes.

    Raises:
        ShapeError: an argument does not fit ``spatial_dims``, or the input does not.

    >>> MaxPoolNd(2, spatial_dims=4)(torch.zeros(1, 3, 4, 4, 4, 4)).shape
    torch.Size([1, 3, 2, 2, 2, 2])
    """

    kind = "maxpool"

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        *,
        spatial_dims: int,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, spatial_dims)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` to ``(B, C, *S')``."""
        check_batched("MaxPoolNd", x, self.spatial_dims)
        return max_pool_nd(
            x,
            self.layer.kernel,
            stride=self.layer.stride,
            padding=self.layer.padding,
            dilation=self.layer.dilation,
        )


class AvgPoolNd(_PoolNd):
    """`avg_pool_nd` as a module.

    Args:
        kernel_size: as in `avg_pool_nd`, like the arguments up to ``count_include_pad``.
        stride: step between windows.
        padding: zeros beyond the border.
        count_include_pad: as in `avg_pool_nd`.
        spatial_dims: number of spatial axes.

    Raises:
        ShapeError: an argument does not fit ``spatial_dims``, or the input does not.

    >>> AvgPoolNd(2, spatial_dims=1)(torch.arange(4.0).view(1, 1, 4)).tolist()
    [[[0.5, 2.5]]]
    """

    kind = "avgpool"

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: Padding = 0,
        *,
        count_include_pad: bool = True,
        spatial_dims: int,
    ) -> None:
        super().__init__(kernel_size, stride, padding, 1, spatial_dims)
        self.count_include_pad = count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` to ``(B, C, *S')``."""
        check_batched("AvgPoolNd", x, self.spatial_dims)
        return avg_pool_nd(
            x,
            self.layer.kernel,
            stride=self.layer.stride,
            padding=self.layer.padding,
            count_include_pad=self.count_include_pad,
        )
