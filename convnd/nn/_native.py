"""Torch's operators by rank, and separable operators of any rank built from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from convnd.errors import ShapeError

__all__ = ["NATIVE", "Native", "apply_separably", "check_batched"]


class Native(NamedTuple):
    """Torch's operators of one rank."""

    conv: Callable[..., Tensor]
    conv_transpose: Callable[..., Tensor]
    max_pool: Callable[..., Tensor]
    avg_pool: Callable[..., Tensor]


NATIVE = {  # the only place that lists ranks
    1: Native(F.conv1d, F.conv_transpose1d, F.max_pool1d, F.avg_pool1d),
    2: Native(F.conv2d, F.conv_transpose2d, F.max_pool2d, F.avg_pool2d),
    3: Native(F.conv3d, F.conv_transpose3d, F.max_pool3d, F.avg_pool3d),
}


def check_batched(operation: str, x: Tensor, ndim: int, *, channels: int | None = None) -> None:
    """Check that ``x`` is ``(B, C, *S)`` with ``ndim`` spatial axes and, if given, ``C`` channels.

    Raises:
        ShapeError: the rank differs, for example without a batch axis, or the channels do.
    """
    if x.ndim != ndim + 2 or ndim < 1:
        remedy = "add the batch axis: x[None]" if x.ndim == ndim + 1 else "check spatial_dims"
        raise ShapeError(
            operation,
            expected=f"x of rank {ndim + 2} (B, C, *S)",
            got=f"shape {tuple(x.shape)}",
            remedy=remedy,
        )
    if channels is not None and x.shape[1] != channels:
        raise ShapeError(
            operation,
            expected=f"{channels} channels in axis 1",
            got=f"shape {tuple(x.shape)}",
            remedy="bring the axes into the order (B, C, *S), or change the weight or groups",
        )


def apply_separably(
    x: Tensor, apply: Callable[[Tensor, tuple[int | None, ...]], Tensor], *, max_rank: int = 3
) -> Tensor:
    """Apply a separable operator of any rank, using operators of rank ``max_rank`` and less.

    The last ``max_rank`` axes go first, together, with the axes before them folded into the
    channels. Then each of the axes before them goes on its own, with all axes after it folded into
    a second axis that stays unchanged. Both foldings are views of a contiguous tensor.

    Args:
        x: ``(B, C, *S)``.
        apply: the operator on a tensor ``(B, C', *S')``; also gets, for each spatial axis of the
            tensor, the axis of ``x`` that it stands for, or None for one to leave unchanged.
        max_rank: highest rank that ``apply`` supports, at least 2.
    """
    ndim = x.ndim - 2
    if ndim <= max_rank:
        return apply(x, tuple(range(ndim)))
    before = ndim - max_rank
    lead, last = x.shape[2 : 2 + before], tuple(range(before, ndim))
    channels = x.shape[1]
    x = apply(x.flatten(1, 1 + before), last)
    x = x.reshape(x.shape[0], channels, *lead, *x.shape[2:])
    for axis in reversed(range(before)):
        shape = x.shape
        folded = x.flatten(3 + axis).flatten(1, 1 + axis)  # (B, C·before, S_axis, after)
        x = apply(folded, (axis, None))
        x = x.reshape(*shape[: 2 + axis], x.shape[2], *shape[3 + axis :])
    return x
