"""Coarse to fine: the sizes of a pyramid, the steps at each, and the step to the next size."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from convnd.errors import UsageError
from convnd.nn import resize_nd, resize_period

__all__ = ["choose_scales", "pyramid_sizes", "refine", "spread_steps"]

_LONGEST = 64  # samples of the longest axis of the coarsest size, at least
_COARSEST = 128  # samples of the longest axis of the coarsest of `choose_scales` sizes, at least
_FEWEST = 3
_FINEST = 0.4  # share of the steps that the finest size takes


def pyramid_sizes(size: Sequence[int], scales: int, *, shortest: int = 16) -> list[tuple[int, ...]]:
    """Return sizes from coarse to fine, each twice the one before, ending at ``size``.

    The longest axis of the coarsest size has at least 64 samples, unless ``size`` is smaller.

    Args:
        size: extent of the finest size along each axis.
        scales: number of sizes, at most.
        shortest: lower bound for the shortest axis of the coarsest size, which the backbone needs.
            An axis of length 1 stays 1.

    Raises:
        UsageError: ``scales`` is less than 1.

    >>> pyramid_sizes((384, 512), 3)
    [(96, 128), (192, 256), (384, 512)]
    """
    if scales < 1:
        raise UsageError(
            "scales", expected="at least 1", got=str(scales), remedy="1 is the size itself"
        )
    if max(size) == 1:
        return [tuple(size)]
    sizes = [tuple(size)]
    for level in range(1, scales):
        smaller = tuple(max(1, round(extent / 2**level)) for extent in size)
        narrowest = min(new for new, old in zip(smaller, size, strict=True) if old > 1)
        if max(smaller) < _LONGEST or narrowest < shortest:
            break
        sizes.append(smaller)
    return sizes[::-1]


def choose_scales(size: Sequence[int]) -> int:
    """Return the number of sizes for which the coarsest has 128 to 255 samples; at least 3.

    A network sees a limited number of samples, so that it arranges patterns over the whole picture
    only where this is about as small, at every final size.

    Args:
        size: extent of the finest size along each axis.

    >>> [choose_scales((size, size // 2)) for size in (64, 512, 1024, 8192)]
    [3, 3, 4, 7]
    """
    return max(_FEWEST, (max(size) // _COARSEST).bit_length())


def spread_steps(steps: int, scales: int) -> list[int]:
    """Return the number of steps at each size: 40 % at the finest, the rest evenly.

    At 256 px one, two and three sizes reach a loss about equally fast. Coarse steps arrange large
    patterns, which are visible although the loss hardly depends on them.

    Args:
        steps: steps of all sizes together; each size gets at least one.
        scales: number of sizes.

    >>> spread_steps(100, 3), spread_steps(100, 1)
    ([30, 30, 40], [100])
    """
    coarse = (
        [max(1, round(steps * (1 - _FINEST) / (scales - 1)))] * (scales - 1) if scales > 1 else []
    )
    return [*coarse, max(1, steps - sum(coarse))] if coarse else [steps]


def refine(
    x: Tensor,
    size: Sequence[int],
    content: tuple[Tensor, Tensor] | None = None,
    *,
    periodic: bool = False,
) -> Tensor:
    r"""Resize a result to the next finer size.

    With a content, the detail that only the finer size shows is added,
    :math:`\uparrow x + c_{fine} - \uparrow c_{coarse}`. Without it the fine steps are spent on
    sharpening edges that are known already.

    Args:
        x: the result ``(1, C, *S)``.
        size: extent along each axis of the finer size.
        content: the content at the coarse and at the fine size.
        periodic: whether result and content are one period of a field.

    Returns:
        ``(1, C, *size)``.
    """
    if content is not None and x.equal(content[0]):
        return content[1].clone()  # exactly: rounding would be a change, which bfloat16 enlarges
    resize = resize_period if periodic else resize_nd
    finer = resize(x, size, mode="cubic")
    if content is None:
        return finer
    coarse, fine = content
    return finer + fine - resize(coarse, size, mode="cubic")
