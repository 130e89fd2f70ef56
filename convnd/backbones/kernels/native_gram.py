"""Gram matrices compiled from C: one half of a symmetric matrix, mirrored."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from convnd.backbones.kernels.native import is_available, library, run_in_threads
from convnd.backbones.kernels.winograd import scratch

__all__ = ["can_multiply", "native_gram"]

_LANES = 8  # channels that are multiplied at once
_SPAN = 128  # positions whose products are added up at once


def can_multiply(rows: Tensor) -> bool:
    """Whether `native_gram` computes this Gram matrix.

    Args:
        rows: ``(B, N, C)``.
    """
    return (
        rows.device.type == "cpu"
        and rows.dtype == torch.float32
        and rows.shape[2] % _LANES == 0
        and rows.is_contiguous()
        and is_available()
    )


def native_gram(rows: Tensor) -> Tensor:
    """Sum the products of channels over positions, ``rows.mT @ rows``.

    The bytes do not depend on the number of threads.

    Args:
        rows: ``(B, N, C)``, see `can_multiply`.

    Returns:
        ``(B, C, C)``.

    >>> import torch
    >>> rows = torch.ones(1, 3, 8)
    >>> bool((native_gram(rows) == 3).all()) if can_multiply(rows) else True
    True
    """
    batch, count, channels = rows.shape
    result = rows.new_zeros(batch, channels, channels)
    for item, matrix in zip(rows, result, strict=True):

        def work(first: int, last: int, item: Tensor = item, matrix: Tensor = matrix) -> None:
            buffer = scratch("gram", rows, _SPAN * channels)
            library.gram(
                *(item.data_ptr(), matrix.data_ptr(), count, channels, first, last),
                buffer.data_ptr(),
            )

        run_in_threads(work, _divide_rows(channels // _LANES))
    return result


def _divide_rows(rows: int) -> list[tuple[int, int]]:
    """Divide the rows of a triangle among threads, so that each has an equal part of its area."""
    threads = torch.get_num_threads()
    ends = [round(rows * (1 - (1 - n / threads) ** 0.5)) for n in range(threads + 1)]
    return [(first, last) for first, last in itertools.pairwise(ends) if first < last]
