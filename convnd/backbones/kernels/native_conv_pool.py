"""A 1-wide convolution that is pooled at once, compiled from C: what is pooled is never stored."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from convnd.backbones.kernels.native import (
    POSITIONS,
    NativeConv,
    can_convolve,
    divide_work,
    library,
    run_in_threads,
)
from convnd.backbones.kernels.native_pool import (
    empty_gradient,
    empty_maxima,
    has_windows,
    split_items,
)
from convnd.backbones.kernels.winograd import scratch

__all__ = ["can_convolve_pool", "native_conv_pool", "native_unpool_conv"]


def can_convolve_pool(x: Tensor, weight: Tensor, kernel: Sequence[int]) -> bool:
    """Whether `native_conv_pool` computes this convolution and the pooling after it.

    Args:
        x: ``(B, C, *S)``.
        weight: ``(O, C, *K)``.
        kernel: samples of a window along each axis.
    """
    return (
        set(weight.shape[2:]) == {1}
        and has_windows(len(weight), x.shape[2:], kernel)
        and can_convolve(x, weight)
    )


def native_conv_pool(
    convolution: NativeConv, x: Tensor, kernel: Sequence[int], *, number: bool
) -> tuple[Tensor, Tensor | None]:
    """Convolve, apply ReLU, and take the maximum of every window.

    The bytes are those of ``native_max_pool(convolution(x, relu=True), kernel, mask=True)``, whose
    intermediate result takes as much memory as all windows together.

    Args:
        convolution: the convolution, 1 wide, see `can_convolve_pool`.
        x: ``(B, C, *S)``.
        kernel: samples of a window along each axis; also the step between windows.
        number: whether to return the numbers of the maxima too.

    Returns:
        The maxima ``(B, O, *S')``, and the number of each in its window, 8 bits, or None. It is the
        number after the last one where the maximum is 0.
    """
    x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    y, numbers = empty_maxima(x, convolution.outputs, kernel, number=number)
    _run(convolution, x, y, numbers, kernel, backwards=False)
    return y, numbers


def native_unpool_conv(
    adjoint: NativeConv,
    gradient: Tensor,
    numbers: Tensor,
    kernel: Sequence[int],
    size: Sequence[int],
) -> Tensor:
    """Compute the gradient of `native_conv_pool` with respect to its input.

    Args:
        adjoint: the convolution with transposed weights.
        gradient: gradient of the maxima, ``(B, O, *S')``.
        numbers: numbers of the maxima in their windows, from `native_conv_pool`.
        kernel: samples of a window along each axis.
        size: extents of the input.

    Returns:
        ``(B, C, *S)``.
    """
    x_grad, gradient = empty_gradient(gradient, adjoint.outputs, kernel, size)
    _run(adjoint, x_grad, gradient, numbers, kernel, backwards=True)
    return x_grad


def _run(
    convolution: NativeConv,
    x: Tensor,
    y: Tensor,
    numbers: Tensor | None,
    kernel: Sequence[int],
    *,
    backwards: bool,
) -> None:
    """Compute y and the numbers from x; backwards, x from y and the numbers."""
    items, size, widths = split_items(x, kernel)
    sizes = convolution.channels, convolution.outputs
    windows, buffer_size = library.pooled_sizes(POSITIONS, widths, *sizes)
    blocks = math.prod(
        extent // width for extent, width in zip(size[:2], widths[:2], strict=True)
    ) * -(-(size[2] // widths[2]) // windows)
    for item in items:

        def work(first: int, last: int, *_: int, item: int | slice = item) -> None:
            codes = 0 if numbers is None else numbers[item].data_ptr()
            data = x[item].data_ptr(), y[item].data_ptr(), codes
            buffer = scratch("native", convolution.kernel, buffer_size)
            part = first, last, POSITIONS
            library.convolve_pool(
                *(data, convolution.addresses, sizes, size, widths, backwards, part),
                buffer.data_ptr(),
            )

        run_in_threads(work, divide_work(blocks, 1, 1))
