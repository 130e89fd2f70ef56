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


def spread_steps(steps: int, sizes: Sequence[Sequence[int]], share: float = 0.5) -> list[int]:
    """Steps for each size: the finest gets ``share`` of what the one before it gets.

    Coarse steps are cheap, and what they settle the fine ones need not.

    Args:
        steps: of all sizes together; each gets at least one.
        sizes: coarse to fine.
        share: ratio of neighbours.

    >>> spread_steps(70, [(64,), (128,), (256,)])
    [40, 20, 10]
    """
    weights = [share**level for level in range(len(sizes))]
    counts = [max(1, round(steps * weight / sum(weights))) for weight in weights]
    counts[0] = max(1, counts[0] + steps - sum(counts))
    return counts


def refine(
    iterate: Tensor, size: Sequence[int], content: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    r"""The iterate brought to the next finer size.

    With a content, the detail that only the finer size shows is added,
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
