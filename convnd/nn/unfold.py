# ruff: noqa: RUF005 - TorchScript cannot unpack lists
"""Windows of an input as columns, and the sum of such windows, over any number of axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from convnd.errors import ShapeError
from convnd.nn._native import check_batched
from convnd.nn.pad import pad_by_pairs
from convnd.shapes import Layer, Padding, ntuple
from convnd.shapes import output_size as size_of_windows

__all__ = ["fold_nd", "fold_windows", "unfold_nd", "unfold_windows", "window_geometry"]


def unfold_nd(
    x: Tensor,
    kernel_size: int | Sequence[int],
    dilation: int | Sequence[int] = 1,
    padding: Padding = 0,
    stride: int | Sequence[int] = 1,
) -> Tensor:
    r"""Make a column of every window, as `torch.nn.functional.unfold` for two axes.

    .. math:: y_{c K + \operatorname{ravel}(t),\, \operatorname{ravel}(n)} = x_c[s n + d t - p],
              \quad K = \prod_i K_i

    The last axis changes fastest, in the taps t and in the windows n. A convolution is the product
    of its weight, flattened, with these columns.

    Args:
        x: ``(B, C, *S)``, any number of spatial axes.
        kernel_size: number of taps, one number or one per axis.
        dilation: distance between taps, one number or one per axis.
        padding: zeros beyond the border, in any notation of `convnd.nn.conv_nd`.
        stride: step between windows, one number or one per axis.

    Returns:
        ``(B, C · K, L)``, with L the number of windows.

    Raises:
        ShapeError: the arguments do not fit the axes of ``x``, or no window fits.

    >>> unfold_nd(torch.arange(4.0).view(1, 1, 4), 2).tolist()
    [[[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]]]
    """
    if has_torch_function_unary(x):
        options = kernel_size, dilation, padding, stride
        result: Tensor = handle_torch_function(unfold_nd, (x,), x, *options)
        return result
    check_batched("unfold", x, max(1, x.ndim - 2))
    layer = window_geometry(x.ndim - 2, x.shape[1], kernel_size, dilation, padding, stride)
    size_of_windows(x.shape[2:], layer)  # raises an error if no window fits
    x = pad_by_pairs(x, layer.padding, "zeros")
    return unfold_windows(x, list(layer.kernel), list(layer.stride), list(layer.dilation))


def fold_nd(
    x: Tensor,
    output_size: int | Sequence[int],
    kernel_size: int | Sequence[int],
    dilation: int | Sequence[int] = 1,
    padding: Padding = 0,
    stride: int | Sequence[int] = 1,
) -> Tensor:
    r"""Add up windows where they overlap, as `torch.nn.functional.fold` for two axes.

    .. math:: y_c[m] = \sum_{s n + d t - p = m}
              x_{c K + \operatorname{ravel}(t),\, \operatorname{ravel}(n)}

    This is the transpose of `unfold_nd` as a matrix, not its inverse: divide by
    ``fold_nd(unfold_nd(ones))`` for the mean of the windows.

    Args:
        x: columns ``(B, C · K, L)``, in the order of `unfold_nd`.
        output_size: size S of the result, one number or one per axis. The number of axes is that
            of the first argument with one number per axis; if there is none, it is two.
        kernel_size: number of taps, one number or one per axis.
        dilation: distance between taps, one number or one per axis.
        padding: samples beyond the border of the result, which are left out, in any notation of
            `convnd.nn.conv_nd`.
        stride: step between windows, one number or one per axis.

    Returns:
        ``(B, C, *S)``.

    Raises:
        ShapeError: the arguments do not fit each other, or the rows and columns of ``x``.

    Both functions have second derivatives: each is the gradient of the other.

    >>> fold_nd(torch.ones(1, 2, 3), (4,), 2).tolist()
    [[[1.0, 2.0, 2.0, 1.0]]]
    """
    if has_torch_function_unary(x):
        options = output_size, kernel_size, dilation, padding, stride
        result: Tensor = handle_torch_function(fold_nd, (x,), x, *options)
        return result
    ndim = _count_axes(output_size, kernel_size, dilation, padding, stride)
    size = ntuple(output_size, ndim, "fold output_size")
    layer = window_geometry(ndim, 1, kernel_size, dilation, padding, stride)
    counts = size_of_windows(size, layer)
    rows, columns = math.prod(layer.kernel), math.prod(counts)
    if x.ndim != 3 or x.shape[1] % rows or x.shape[2] != columns:
        raise ShapeError(
            "fold",
            expected=f"x of shape (B, a multiple of {rows} taps, {columns} windows)",
            got=f"shape {tuple(x.shape)}",
            remedy="give the output_size, kernel_size, padding and stride of unfold_nd",
        )
    margins = [count for pair in layer.padding for count in pair]
    geometry = list(layer.kernel), list(layer.stride), list(layer.dilation), margins
    return fold_windows(x, list(size), list(counts), *geometry)


def window_geometry(
    ndim: int,
    channels: int,
    kernel_size: int | Sequence[int],
    dilation: int | Sequence[int],
    padding: Padding,
    stride: int | Sequence[int],
) -> Layer:
    """The convolution that reads the same windows."""
    return Layer.build(
        "conv",
        ndim,
        kernel=kernel_size,
        stride=stride,
        dilation=dilation,
        padding=padding,
        channels=channels,
        bias=False,
    )


def _count_axes(*arguments: Any) -> int:
    """Return the length of the first argument that is one per axis; torch's two axes without."""
    lengths = (len(one) for one in arguments if isinstance(one, Sequence) and type(one) is not str)
    return next(lengths, 2)


def unfold_windows(x: Tensor, kernel: list[int], stride: list[int], dilation: list[int]) -> Tensor:
    """Columns of a padded input, in the part of Python that TorchScript supports."""
    ndim = len(kernel)
    order = [0, 1]
    for axis in range(ndim):
        reach = (kernel[axis] - 1) * dilation[axis]
        x = x.unfold(2 + axis, reach + 1, stride[axis])  # the taps are appended as an axis
        x = torch.ops.aten.slice(x, -1, 0, reach + 1, dilation[axis])
        order.append(2 + ndim + axis)
    order = order + [2 + axis for axis in range(ndim)]
    x = x.permute(order)
    return x.flatten(2 + ndim).flatten(1, 1 + ndim)


def fold_windows(
    x: Tensor,
    size: list[int],
    counts: list[int],
    kernel: list[int],
    stride: list[int],
    dilation: list[int],
    padding: list[int],
) -> Tensor:
    """The sum of windows, in the part of Python that TorchScript supports.

    Torch's operator adds up the windows along two axes, and the others go along as examples.
    """
    ndim = len(size)
    channels = x.shape[1]
    for axis in range(ndim):
        channels = channels // kernel[axis]
    x = x.reshape([x.shape[0], channels] + kernel + counts)
    for axis in range(0, ndim, 2):
        pair = min(2, ndim - axis)  # the last one of an odd number is alone
        stop = axis + pair
        extents = [size[i] + padding[2 * i] + padding[2 * i + 1] for i in range(axis, stop)]
        for _ in range(pair):
            x = x.movedim(2, -1)
        for _ in range(pair):
            x = x.movedim(2 + ndim - axis - pair, -1)  # now (B, C, *K', *L', *S', *K, *L)
        x = x.flatten(-pair).flatten(-1 - pair, -2)
        alone = [1] * (2 - pair)
        y = torch.ops.aten.col2im(  # `F.fold`, whose types allow no lists
            x.flatten(0, -3),
            extents + alone,
            kernel[axis:stop] + alone,
            dilation[axis:stop] + alone,
            [0, 0],
            stride[axis:stop] + alone,
        )
        x = y.reshape(list(x.shape[:-2]) + extents)
        for i in range(axis, stop):
            x = x.narrow(i - stop, padding[2 * i], size[i])
    return x
