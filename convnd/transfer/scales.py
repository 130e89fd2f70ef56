"""The sizes at which a transfer is optimised, and at which its styles are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from convnd.optimize import pyramid_sizes, spread_steps

__all__ = ["Scale", "compared_style_size", "fit_size", "plan_scales"]


@dataclass(frozen=True)
class Scale:
    """One size at which a transfer is optimised.

    Args:
        number: from 0 (coarse).
        size: samples along each axis.
        steps: optimisation steps at this size.
        steps_before: steps of all coarser sizes.
        work_before: steps times samples of all coarser sizes.
    """

    number: int
    size: tuple[int, ...]
    steps: int
    steps_before: int
    work_before: int

    @property
    def samples(self) -> int:
        """Samples of the image at this size."""
        return math.prod(self.size)


def plan_scales(
    size: Sequence[int], *, scales: int, steps: int, fixed_axes: int = 0, shortest: int = 1
) -> list[Scale]:
    """The sizes of a transfer from coarse to fine, each twice the one before, with their steps.

    Args:
        size: samples of the result along each axis.
        scales: number of sizes at most.
        steps: of all sizes together.
        fixed_axes: leading axes that keep their length at every size.
        shortest: samples along an axis below which no size goes.

    >>> [(scale.size, scale.steps) for scale in plan_scales((512, 256), scales=2, steps=10)]
    [((256, 128), 6), ((512, 256), 4)]
    """
    fixed, plane = tuple(size[:fixed_axes]), size[fixed_axes:]
    sizes = pyramid_sizes(plane, min(scales, max(1, steps)), shortest=shortest)
    counts = spread_steps(steps, len(sizes))
    planned: list[Scale] = []
    steps_before = work_before = 0
    for number, (extent, count) in enumerate(zip(sizes, counts, strict=True)):
        planned.append(Scale(number, (*fixed, *extent), count, steps_before, work_before))
        steps_before += count
        work_before += count * planned[-1].samples
    return planned


def fit_size(size: Sequence[int], longest: int) -> tuple[int, ...]:
    """Scale extents so that the longest is ``longest``; an axis of length 1 stays.

    Args:
        size: samples along each axis.
        longest: samples along the longest axis; 0 keeps the size.

    >>> fit_size((600, 800), 512), fit_size((600, 800), 0)
    ((384, 512), (600, 800))
    """
    if longest == 0:
        return tuple(size)
    ratio = longest / max(size)
    return tuple(max(1, round(extent * ratio)) for extent in size)


def compared_style_size(
    style: Sequence[int],
    size: Sequence[int],
    whole: Sequence[int] | None = None,
    *,
    scale: float = 1.0,
    shortest: int = 1,
) -> list[int]:
    """Samples of a style along each axis where it is compared with a result.

    Both then have the same mean extent, or the style's patterns ``scale`` times the size. An axis
    of length 1 stays.

    Args:
        style: samples of the style along each axis.
        size: samples of the result along each axis.
        whole: extents that correspond to ``size``; None is the style's own.
        scale: size of the style's patterns relative to their size in its file.
        shortest: samples along an axis below which no size goes.

    >>> compared_style_size((400, 100), (512, 512))
    [1024, 256]
    """
    ratio = scale * (_mean_extent(size) / _mean_extent(style if whole is None else whole))
    return [extent if extent == 1 else max(shortest, round(extent * ratio)) for extent in style]


def _mean_extent(size: Sequence[int]) -> float:
    # Geometric mean over the axes that have more than one sample.
    extents = [extent for extent in size if extent > 1] or [1]
    return float(math.prod(extents) ** (1 / len(extents)))
