"""Pooling over windows of any number of axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from convnd.errors import UsageError
from convnd.nn._native import NATIVE, apply_separably, cached, check_batched
from convnd.nn._pool_counts import window_counts, window_sums
from convnd.nn._pool_indices import max_with_indices, pad_lowest
from convnd.nn.pad import pad_by_pairs
from convnd.shapes import Layer, Padding, output_size

__all__ = ["avg_pool_nd", "max_pool_nd"]


class _Plan(NamedTuple):
    """The geometry of a pooling, and torch's operator for it.

    Args:
        layer: the geometry.
        operator: torch's operator. None if torch has none: above three axes, with unequal padding
            of both sides, with padding of more than half a window, and for a divisor with one axis.
            Also None if a window may hold nothing but padding, for which torch's operator writes
            outside of its memory.
        arguments: arguments of the operator after the input.
    """

    layer: Layer
    operator: Callable[..., Any] | None
    arguments: tuple[Any, ...]


@cached
def _max_plan(
    ndim: int,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None,
    padding: Padding,
    dilation: int | Sequence[int],
    ceil_mode: bool,
    return_indices: bool,
) -> _Plan:
    layer = _build("maxpool", ndim, kernel_size, stride, padding, dilation, ceil_mode)
    lows = tuple(low for low, _ in layer.padding)
    arguments = (layer.kernel, layer.stride, lows, layer.dilation, ceil_mode)
    if not _is_native(layer) or (any(lows) and max(layer.dilation) > 1):
        return _Plan(layer, None, arguments)
    native = NATIVE[ndim]
    operator = native.max_pool_with_indices if return_indices else native.max_pool
    return _Plan(layer, operator, arguments)


@cached
def _avg_plan(
    ndim: int,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None,
    padding: Padding,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> _Plan:
    if divisor_override == 0:
        raise UsageError(
            "avgpool", expected="a divisor_override other than 0", got=0, remedy="leave it out"
        )
    layer = _build("avgpool", ndim, kernel_size, stride, padding, 1, ceil_mode)
    lows = tuple(low for low, _ in layer.padding)
    arguments: tuple[Any, ...] = (layer.kernel, layer.stride, lows, ceil_mode, count_include_pad)
    if divisor_override is not None:
        arguments = (*arguments, divisor_override)
    is_native = _is_native(layer) and (ndim > 1 or divisor_override is None)
    return _Plan(layer, NATIVE[ndim].avg_pool if is_native else None, arguments)


def _build(
    kind: str,
    ndim: int,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None,
    padding: Padding,
    dilation: int | Sequence[int],
    ceil_mode: bool,
) -> Layer:
    return Layer.build(
        kind,
        ndim,
        kernel=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
    )


def _is_native(layer: Layer) -> bool:
    """Whether torch's operator supports the rank and the padding."""
    return layer.ndim in NATIVE and all(
        low == high and 2 * low <= taps
        for (low, high), taps in zip(layer.padding, layer.kernel, strict=True)
    )


def max_pool_nd(
    x: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Take the maximum of every window; padding never counts.

    Args:
        x: ``(B, C, *S)``, any number of spatial axes.
        kernel_size: samples in a window, one number or one per axis.
        stride: step between windows; the default is the window itself.
        padding: samples beyond the border, as in `convnd.nn.conv_nd`; at most the distance from
            the first to the last sample of a window.
        dilation: distance between the samples of a window, one number or one per axis.
        ceil_mode: whether a last window may reach beyond the padding, see `convnd.shapes.Layer`.
        return_indices: whether to return the positions of the maxima in ``x.flatten(2)`` too, as
            torch does.

    Returns:
        ``(B, C, *S')``, with S' from `convnd.shapes.output_size`; with ``return_indices``, also
        the positions in the same shape.

    Raises:
        ShapeError: ranks or sizes do not fit, the padding is wider than a window's reach, or a
            dilated window holds nothing but padding.

    The maximum is separable, so above three axes it is computed in several steps. If a window holds
    equal maxima, the first of them receives the gradient. On CUDA torch's gradient in 3-D is not
    deterministic.

    >>> import torch
    >>> max_pool_nd(torch.arange(16.0).view(1, 1, 2, 2, 2, 2), 2).item()
    15.0
    """
    if has_torch_function_unary(x):
        options = kernel_size, stride, padding, dilation, ceil_mode, return_indices
        return handle_torch_function(max_pool_nd, (x,), x, *options)
    ndim = x.ndim - 2
    if ndim < 1:
        check_batched("maxpool", x, 1)
    layer, operator, arguments = _max_plan(
        ndim, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )
    if operator is not None:
        return _call_native(operator, x, layer, arguments)
    sizes = output_size(x.shape[2:], layer)
    if return_indices:
        return max_with_indices(x, layer, sizes)
    return _pool_separably(pad_lowest(x, layer, sizes), layer, average=False)


def avg_pool_nd(
    x: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Average every window.

    Args:
        x: ``(B, C, *S)``, any number of spatial axes.
        kernel_size: samples in a window, one number or one per axis.
        stride: step between windows; the default is the window itself.
        padding: zeros beyond the border, as in `convnd.nn.conv_nd`; at most the distance from the
            first to the last sample of a window.
        ceil_mode: whether a last window may reach beyond the padding, see `convnd.shapes.Layer`.
        count_include_pad: whether the sums of windows on the border are divided by the number of
            all their samples, zeros included (the default, as in torch), or only by the number of
            those inside ``x``.
        divisor_override: number that divides the sum of every window, instead of a number of
            samples; None is no such number.

    Returns:
        ``(B, C, *S')``, with S' from `convnd.shapes.output_size`.

    Raises:
        ShapeError: ranks or sizes do not fit, or the padding is wider than a window's reach.
        UsageError: ``divisor_override`` is 0.

    >>> import torch
    >>> avg_pool_nd(torch.ones(1, 1, 4), 2, padding=1).tolist()
    [[[0.5, 1.0, 0.5]]]
    """
    if has_torch_function_unary(x):
        options = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        result: Tensor = handle_torch_function(avg_pool_nd, (x,), x, *options)
        return result
    ndim = x.ndim - 2
    if ndim < 1:
        check_batched("avgpool", x, 1)
    layer, operator, arguments = _avg_plan(
        ndim, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )
    # Torch has no average of 16-bit values over three axes on CPUs.
    widen = ndim > 2 and x.element_size() < 4 and x.device.type == "cpu"
    if operator is not None and not widen:
        result = _call_native(operator, x, layer, arguments)
    else:
        result = _average(x, layer, widen, ceil_mode, count_include_pad, divisor_override)
    return result


def _average(
    x: Tensor,
    layer: Layer,
    widen: bool,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    """Average as `avg_pool_nd`, where torch has no operator.

    Args:
        x: ``(B, C, *S)``.
        layer: the geometry.
        widen: whether to add up in float32.
        ceil_mode: see `avg_pool_nd`.
        count_include_pad: see `avg_pool_nd`.
        divisor_override: see `avg_pool_nd`.
    """
    sizes = output_size(x.shape[2:], layer)
    if divisor_override is not None:
        return (window_sums(x, layer, sizes) / divisor_override).to(x.dtype)
    if widen or ceil_mode or (not count_include_pad and any(map(any, layer.padding))):
        counts = window_counts(x, layer, sizes, include_pad=count_include_pad)
        return (window_sums(x, layer, sizes) / counts).to(x.dtype)
    return _pool_separably(pad_by_pairs(x, layer.padding, "constant"), layer, average=True)


def _call_native(
    operator: Callable[..., Any], x: Tensor, layer: Layer, arguments: tuple[Any, ...]
) -> Any:
    """Call torch's operator; sizes that do not fit raise the errors of `output_size`."""
    try:
        return operator(x, *arguments)
    except RuntimeError:
        output_size(x.shape[2:], layer)
        raise


def _pool_separably(x: Tensor, layer: Layer, *, average: bool) -> Tensor:
    """Pool a padded tensor of any rank with torch's operators of up to three axes."""

    def apply(part: Tensor, axes: tuple[int | None, ...]) -> Tensor:
        kernel, steps, gaps = (
            [1 if axis is None else values[axis] for axis in axes]
            for values in (layer.kernel, layer.stride, layer.dilation)
        )
        native = NATIVE[len(axes)]
        if average:
            return native.avg_pool(part, kernel, steps)
        return native.max_pool(part, kernel, steps, [0] * len(axes), gaps)

    return apply_separably(x, apply)
