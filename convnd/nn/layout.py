"""The memory layout that convolutions and Gram matrices read fastest: channels innermost."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["CHANNELS_LAST", "channels_last", "flatten_values", "is_channels_last"]

CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
"""Torch's formats with channels innermost, by number of spatial axes; other ranks have none."""


def channels_last(x: Tensor) -> Tensor:
    """Arrange ``(B, C, *S)`` with channels innermost for 2 and 3 axes, contiguous for others.

    >>> channels_last(torch.zeros(1, 3, 4, 5)).stride()
    (60, 1, 15, 3)
    >>> channels_last(torch.zeros(1, 3, 4)).stride()
    (12, 4, 1)
    """
    layout = CHANNELS_LAST.get(x.ndim - 2, torch.contiguous_format)
    return x.contiguous(memory_format=layout)


def is_channels_last(x: Tensor) -> bool:
    """Whether ``(B, C, *S)`` has 2 or 3 spatial axes and channels innermost in memory.

    >>> pictures = torch.zeros(1, 3, 4, 5)
    >>> is_channels_last(pictures), is_channels_last(channels_last(pictures))
    (False, True)
    """
    layout = CHANNELS_LAST.get(x.ndim - 2)
    return layout is not None and x.is_contiguous(memory_format=layout)


def flatten_values(x: Tensor) -> Tensor:
    """Return the numbers of ``(B, C, *S)`` in one row, for sums in which their order is free.

    With channels innermost in memory this is a view, where `torch.flatten` copies number by number.

    >>> flatten_values(channels_last(torch.arange(4.0).view(1, 2, 1, 2)))
    tensor([0., 2., 1., 3.])
    """
    innermost = x.movedim(1, -1)
    return innermost.flatten() if innermost.is_contiguous() else x.flatten()
