"""The operators that torch has, by rank, and how separable ones reach any rank through them."""

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


NATIVE = {  # the only place where ranks are listed
    1: Native(F.conv1d, F.conv_transpose1d, F.max_pool1d, F.avg_pool1d),
    2: Native(F.conv2d, F.conv_transpose2d, F.max_pool2d, F.avg_pool2d),
    3: Native(F.conv3d, F.conv_transpose3d, F.max_pool3d, F.avg_pool3d),
}


def check_batched(operation: str, x: Tensor, ndim: int, *, channels: int | None = None) -> None:
    """Refuse what is not ``(B, C, *S)`` with ``ndim`` spatial axes and, if given, ``C`` channels.

    Raises:
        ShapeError: another rank, for example without the batch axis, or other channels.
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
    x: Tensor, apply: Callable[[Tensor, tuple[int | None, ...]], Tensor], *, at_once: int = 3
) -> Tensor:
    """Carry out a separable operator of any rank by operators of rank ``at_once`` and less.

    The last ``at_once`` axes go together, with the axes before them counted as channels; then
    each axis before them goes with everything behind it as one second axis, which stays as it is.
    Both are views of a contiguous tensor, and copy nothing.

    Args:
        x: ``(B, C, *S)``.
        apply: called with a tensor ``(B, C', *S')`` and, for each of its spatial axes, the axis
            of ``x`` that it is, or None for one to leave alone.
        at_once: highest rank that ``apply`` can do, at least 2.
    """
    ndim = x.ndim - 2
    if ndim <= at_once:
        return apply(x, tuple(range(ndim)))
    before = ndim - at_once
    lead, last = x.shape[2 : 2 + before], tuple(range(before, ndim))
    channels = x.shape[1]
    x = apply(x.flatten(1, 1 + before), last)
    x = x.reshape(x.shape[0], channels, *lead, *x.shape[2:])
    for axis in reversed(range(before)):
        shape = x.shape
        folded = x.flatten(3 + axis).flatten(1, 1 + axis)  # (B, C·before, S_axis, behind)
        x = apply(folded, (axis, None))
        x = x.reshape(*shape[: 2 + axis], x.shape[2], *shape[3 + axis :])
    return x
