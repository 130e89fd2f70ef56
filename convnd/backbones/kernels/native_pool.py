"""Max pooling compiled from C: exact, in one pass, with 1 byte saved for each window."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from convnd.backbones.kernels.native import divide_work, is_available, library, run_in_threads
from convnd.backbones.kernels.winograd import empty_channels_last

__all__ = [
    "can_pool",
    "empty_gradient",
    "empty_maxima",
    "has_windows",
    "native_max_pool",
    "native_max_unpool",
    "split_items",
]

_LANES = 8  # channels that are compared at once
_MAX_SAMPLES = 254  # of a window: one byte holds their numbers and one number more


def can_pool(x: Tensor, kernel: Sequence[int]) -> bool:
    """Whether `native_max_pool` computes this pooling.

    Args:
        x: ``(B, C, *S)``.
        kernel: samples of a window along each axis.
    """
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and has_windows(x.shape[1], x.shape[2:], kernel)
        and x.movedim(1, -1).is_contiguous()
        and is_available()
    )


def has_windows(channels: int, size: Sequence[int], kernel: Sequence[int]) -> bool:
    """Whether the compiled module pools such windows of such a field.

    Args:
        channels: channels of the field.
        size: its extents.
        kernel: samples of a window along each axis.
    """
    return (
        channels % _LANES == 0
        and len(kernel) <= 3
        and math.prod(kernel) <= _MAX_SAMPLES
        and min(map(int.__floordiv__, size, kernel)) > 0
    )


def native_max_pool(
    x: Tensor, kernel: Sequence[int], *, number: bool, mask: bool
) -> tuple[Tensor, Tensor | None]:
    """Take the maximum of every window.

    Args:
        x: ``(B, C, *S)``, channels innermost in memory, see `can_pool`.
        kernel: samples of a window along each axis; also the step between windows.
        number: whether to return the numbers of the maxima too.
        mask: whether a maximum that is not above 0 gets the number after the last one of its
            window.

    Returns:
        The maxima ``(B, C, *S')``, and the number of each in its window, 8 bits, or None.
    """
    y, numbers = empty_maxima(x, x.shape[1], kernel, number=number)
    _pool(x, y, numbers, kernel, mask=mask)
    return y, numbers


def native_max_unpool(
    gradient: Tensor, numbers: Tensor, kernel: Sequence[int], shape: Sequence[int]
) -> Tensor:
    """Compute the gradient of `native_max_pool` with respect to its input.

    Args:
        gradient: gradient of the maxima, ``(B, C, *S')``.
        numbers: numbers of the maxima in their windows, from `native_max_pool`.
        kernel: samples of a window along each axis.
        shape: shape of the input.
    """
    x_grad, gradient = empty_gradient(gradient, shape[1], kernel, shape[2:])
    _pool(x_grad, gradient, numbers, kernel, backwards=True)
    return x_grad


def empty_maxima(
    x: Tensor, channels: int, kernel: Sequence[int], *, number: bool
) -> tuple[Tensor, Tensor | None]:
    """Allocate the maxima of all windows of ``x``, and their numbers or None."""
    extents = [extent // width for extent, width in zip(x.shape[2:], kernel, strict=True)]
    y = empty_channels_last(x, channels, extents)
    return y, torch.empty_like(y, dtype=torch.uint8) if number else None


def empty_gradient(
    gradient: Tensor, channels: int, kernel: Sequence[int], size: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Allocate the gradient of a pooled field, and lay that of the maxima out channels innermost.

    Args:
        gradient: gradient of the maxima, ``(B, O, *S')``.
        channels: channels of the field.
        kernel: samples of a window along each axis.
        size: extents of the field.
    """
    x_grad = empty_channels_last(gradient, channels, size)
    if any(extent % width for extent, width in zip(size, kernel, strict=True)):
        x_grad.zero_()  # no window reaches the last samples
    return x_grad, gradient.movedim(1, -1).contiguous().movedim(-1, 1)


def split_items(
    x: Tensor, kernel: Sequence[int]
) -> tuple[list[int | slice], tuple[int, ...], tuple[int, ...]]:
    """Return what one call pools: indices of ``x``, and three extents and widths of windows.

    Items are one more axis in front; with three spatial axes they are pooled one after the other.
    """
    lead = 3 - len(kernel)
    widths = (*[1] * lead, *kernel)
    if lead == 0:
        return list(range(len(x))), tuple(x.shape[2:]), widths
    return [slice(None)], (*[1] * (lead - 1), len(x), *x.shape[2:]), widths


def _pool(
    x: Tensor,
    y: Tensor,
    numbers: Tensor | None,
    kernel: Sequence[int],
    *,
    mask: bool = False,
    backwards: bool = False,
) -> None:
    items, size, widths = split_items(x, kernel)
    lines = math.prod(extent // width for extent, width in zip(size[:2], widths[:2], strict=True))
    flags = x.dtype == torch.bfloat16, mask, backwards
    for item in items:

        def work(*part: int, item: int | slice = item) -> None:
            codes = 0 if numbers is None else numbers[item].data_ptr()
            addresses = x[item].data_ptr(), y[item].data_ptr(), codes
            library.pool(addresses, size, widths, x.shape[1], *flags, part[:2])

        run_in_threads(work, divide_work(lines, 1, 1))
