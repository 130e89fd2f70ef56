"""Max pooling compiled from C: exact, in one pass, with 1 byte saved for each window."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from convnd.backbones.kernels.native import divide_work, is_available, library, run_in_threads
from convnd.backbones.kernels.winograd import empty_channels_last

__all__ = ["LANES", "MAX_SAMPLES", "can_pool", "native_max_pool", "native_max_unpool"]

LANES = 8  # channels that are compared at once
MAX_SAMPLES = 254  # of a window: one byte holds their numbers and one number more


def can_pool(x: Tensor, kernel: Sequence[int]) -> bool:
    """Whether `native_max_pool` computes this pooling.

    Args:
        x: ``(B, C, *S)``.
        kernel: samples of a window along each axis.
    """
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.shape[1] % LANES == 0
        and len(kernel) <= 3
        and math.prod(kernel) <= MAX_SAMPLES
        and min(map(int.__floordiv__, x.shape[2:], kernel)) > 0
        and x.movedim(1, -1).is_contiguous()
        and is_available()
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
    extents = [extent // width for extent, width in zip(x.shape[2:], kernel, strict=True)]
    y = empty_channels_last(x, x.shape[1], extents)
    numbers = torch.empty_like(y, dtype=torch.uint8) if number else None
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
    x_grad = empty_channels_last(gradient, shape[1], shape[2:])
    if any(extent % width for extent, width in zip(shape[2:], kernel, strict=True)):
        x_grad.zero_()  # no window reaches the last samples
    gradient = gradient.movedim(1, -1).contiguous().movedim(-1, 1)
    _pool(x_grad, gradient, numbers, kernel, backwards=True)
    return x_grad


def _pool(
    x: Tensor,
    y: Tensor,
    numbers: Tensor | None,
    kernel: Sequence[int],
    *,
    mask: bool = False,
    backwards: bool = False,
) -> None:
    size = (*[1] * (3 - len(kernel)), *x.shape[2:])
    widths = (*[1] * (3 - len(kernel)), *kernel)
    lines = math.prod(extent // width for extent, width in zip(size[:2], widths[:2], strict=True))
    flags = x.dtype == torch.bfloat16, mask, backwards
    for item in range(len(x)):

        def work(*part: int, item: int = item) -> None:
            codes = 0 if numbers is None else numbers[item].data_ptr()
            addresses = x[item].data_ptr(), y[item].data_ptr(), codes
            library.pool(addresses, size, widths, x.shape[1], *flags, part[:2])

        run_in_threads(work, divide_work(lines, 1, 1))
