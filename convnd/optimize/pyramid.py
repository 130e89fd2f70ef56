"""Coarse to fine: the sizes to work at, and the way from one to the next."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from convnd.errors import UsageError
from convnd.nn import resize_nd

__all__ = ["pyramid_sizes", "refine", "spread_steps"]


def pyramid_sizes(
    size: Sequence[int],
    scales: int,
    *,
    factor: float = 2.0,
    longest: int = 64,
    shortest: int = 16,
) -> list[tuple[int, ...]]:
    """Sizes from coarse to fine, each ``factor`` times the one before, ending at ``size``.

    Args:
        size: extent along each axis of the finest.
        scales: how many sizes at most.
        factor: ratio of neighbours.
        longest: the longest axis of the coarsest is no shorter than this (or than in ``size``).
        shortest: neither is its shortest axis than this; what the backbone needs. An axis of
            length 1 stays that.

    Raises:
        UsageError: ``scales`` is less than 1.

    >>> pyramid_sizes((384, 512), 3)
    [(96, 128), (192, 256), (384, 512)]
    """
    if scales < 1:
        raise UsageError(f"scales: expected at least 1, got {scales}; correct it")
    if max(size) == 1:
        return [tuple(size)]
    sizes = [tuple(size)]
    for level in range(1, scales):
        smaller = tuple(max(1, round(extent / factor**level)) for extent in size)
        narrowest = min(new for new, old in zip(smaller, size, strict=True) if old > 1)
        if max(smaller) < longest or narrowest < shortest:
            break
        sizes.append(smaller)
    return sizes[::-1]


def spread_steps(steps: int, scales: int, *, finest: float = 0.4) -> list[int]:
    """Steps for each size: a share for the finest, and the rest evenly over the coarser ones.

    Measured at 256 px, two or three scales reach a given loss about as soon as one: what coarse
    steps settle, the large patterns, the loss hardly sees and the eye does.

    Args:
        steps: of all sizes together; each gets at least one.
        scales: number of sizes.
        finest: share of the last.

    >>> spread_steps(100, 3), spread_steps(100, 1)
    ([30, 30, 40], [100])
    """
    coarse = (
        [max(1, round(steps * (1 - finest) / (scales - 1)))] * (scales - 1) if scales > 1 else []
    )
    return [*coarse, max(1, steps - sum(coarse))] if coarse else [steps]


def refine(
    iterate: Tensor, size: Sequence[int], content: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    r"""The iterate brought to the next finer size.

    With a content, the detail that only the finer size shows is all_reduce_sums,
    :math:`\uparrow x + c_{fine} - \uparrow c_{coarse}`: without it the fine steps spend
    themselves on sharpening edges that are known already.

    Args:
        iterate: ``(1, C, *S)``.
        size: extent along each axis afterwards.
        content: the content at the coarse and at the fine size.

    Returns:
        ``(1, C, *size)``.
    """
    finer = resize_nd(iterate, size, mode="cubic")
    if content is None:
        return finer
    coarse, fine = content
    return finer + fine - resize_nd(coarse, size, mode="cubic")
