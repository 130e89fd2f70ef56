"""The phases of a transfer, and the sizes at which its styles are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from convnd.optimize import choose_scales, pyramid_sizes, spread_steps

__all__ = ["Phase", "compared_style_size", "fit_size", "pattern_scale", "plan_phases"]


FINISHING_SHARE = 0.13
"""Share of the steps for each network but the first, see `plan_phases`."""


PRINT_EXTENT = 2048
"""Samples of the longest axis from which a size enlarges the result, see `plan_phases`."""

ENLARGING_SHARE = 0.12
"""Share of the steps for the first enlargement, see `plan_phases`."""

ENLARGING_DECAY = 0.7
"""Steps of an enlargement relative to the one before, of a quarter of the samples."""


SETUP_STEPS = 2.2
"""Work of a phase before its first step, in units of a step: two forward passes for the features of
style and content, and the evaluation of the start."""


@dataclass(frozen=True)
class Phase:
    """Steps of a transfer with one network at one size.

    Args:
        number: number of the phase, from 0.
        network: index of the network.
        size: samples along each axis.
        steps: number of optimisation steps.
        steps_before: number of steps of all earlier phases.
        work_before: work of all earlier phases: steps and `SETUP_STEPS`, times samples, times the
            cost of the network.
        work: work of this phase.
    """

    number: int
    network: int
    size: tuple[int, ...]
    steps: int
    steps_before: int
    work_before: float
    work: float

    def work_until(self, step: int) -> float:
        """Return the work of this phase until a step is evaluated; step 0 is the start."""
        return self.work * (SETUP_STEPS + step) / (SETUP_STEPS + self.steps)

    @property
    def samples(self) -> int:
        """Samples of the result at this size."""
        return math.prod(self.size)


def plan_phases(
    size: Sequence[int],
    *,
    scales: int,
    steps: int,
    costs: Sequence[float] = (1.0,),
    fixed_axes: int = 0,
    shortest: int = 1,
    pattern_scale: float = 1.0,
) -> list[Phase]:
    """Plan the phases of a transfer.

    The first network takes the sizes from coarse to fine, each twice the one before. Each further
    network finishes the result of the one before at its full size.

    With ``scales`` of 0, a result of `PRINT_EXTENT` samples or more is finished by all networks at
    its largest smaller size. The first network then enlarges it, with few steps at each size: the
    strokes are there, and their edges and grain are what is left to do.

    Args:
        size: samples of the result along each axis.
        scales: largest number of sizes; 0 is `convnd.optimize.choose_scales` with enlargements.
        steps: number of steps of all phases together.
        costs: time of a step with each network, in any unit.
        fixed_axes: number of leading axes that keep their length at every size.
        shortest: least number of samples along an axis.
        pattern_scale: extent of the styles relative to the result where they are compared. Small
            patterns are made at a fine size, and are enlarged from there. 0 enlarges nothing.

    >>> [(phase.size, phase.steps) for phase in plan_phases((512, 256), scales=2, steps=10)]
    [((256, 128), 6), ((512, 256), 4)]
    >>> phases = plan_phases((512, 256), scales=2, steps=80, costs=(0.3, 1.0))
    >>> [(phase.network, phase.size, phase.steps) for phase in phases]
    [(0, (256, 128), 42), (0, (512, 256), 28), (1, (512, 256), 10)]
    >>> phases = plan_phases((8192, 6144), scales=0, steps=85, costs=(0.3, 1.0))
    >>> [(phase.network, phase.size[0], phase.steps) for phase in phases[3:]]
    [(0, 1024, 22), (1, 1024, 11), (0, 2048, 10), (0, 4096, 7), (0, 8192, 5)]
    """
    fixed, plane = tuple(size[:fixed_axes]), size[fixed_axes:]
    sizes = pyramid_sizes(plane, scales or choose_scales(plane), shortest=shortest)
    first = PRINT_EXTENT / min(1.0, pattern_scale) if pattern_scale else math.inf
    enlarged = [] if scales else [extent for extent in sizes[1:] if max(extent) >= first]
    sizes = sizes[: len(sizes) - len(enlarged)]
    enlarging: list[tuple[int, tuple[int, ...], int]] = []
    left = steps
    for number, extent in reversed(list(enumerate(enlarged))):  # the full size takes a step first
        count = min(max(1, round(ENLARGING_SHARE * ENLARGING_DECAY**number * steps)), left)
        if count or extent == enlarged[-1]:
            enlarging.insert(0, (0, (*fixed, *extent), count))
        left -= count
    finishing: list[tuple[int, tuple[int, ...], int]] = []
    for network in reversed(range(1, len(costs))):  # if there are few steps, the last takes them
        count = min(max(1, round(FINISHING_SHARE * steps)), left)
        if count or not (finishing or enlarging):
            finishing.insert(0, (network, (*fixed, *sizes[-1]), count))
        left -= count
    counts = [*finishing, *enlarging]
    if left or not counts:
        sizes = sizes[-max(1, left) :]
        shares = spread_steps(left, len(sizes))
        coarse_to_fine = zip(sizes, shares, strict=True)
        counts = [*((0, (*fixed, *extent), share) for extent, share in coarse_to_fine), *counts]
    planned: list[Phase] = []
    steps_before, work_before = 0, 0.0
    for number, (network, extent, count) in enumerate(counts):
        work = (SETUP_STEPS + count) * math.prod(extent) * costs[network]
        planned.append(Phase(number, network, extent, count, steps_before, work_before, work))
        steps_before += count
        work_before += work
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
    return tuple(extent if extent == 1 else max(1, round(extent * ratio)) for extent in size)


def compared_style_size(
    style: Sequence[int],
    size: Sequence[int],
    whole: Sequence[int] | None = None,
    *,
    scale: float = 1.0,
    shortest: int = 1,
) -> list[int]:
    """Return the samples of a style along each axis where it is compared with a result.

    With a ``scale`` of 1, style and result have the same mean extent. An axis of length 1 stays.

    Args:
        style: samples of the style along each axis.
        size: samples of the result along each axis.
        whole: extents that are scaled to the mean extent of ``size``; None is those of the style.
        scale: size of the style's patterns relative to their size in its file.
        shortest: least number of samples along an axis.

    >>> compared_style_size((400, 100), (512, 512))
    [1024, 256]
    """
    ratio = scale * (_mean_extent(size) / _mean_extent(style if whole is None else whole))
    return [extent if extent == 1 else max(shortest, round(extent * ratio)) for extent in style]


def pattern_scale(style: Sequence[int], size: Sequence[int]) -> float:
    """Return the mean extent of a style relative to that of a result, to two digits.

    Args:
        style: samples of the style along each axis, where it is compared with the result.
        size: samples of the result along each axis.

    >>> pattern_scale((1024, 256), (512, 512)), pattern_scale((512, 512), (8192, 8192))
    (1.0, 0.06)
    """
    return round(_mean_extent(style) / _mean_extent(size), 2) or 0.01


def _mean_extent(size: Sequence[int]) -> float:
    # Geometric mean over the axes that have more than one sample.
    extents = [extent for extent in size if extent > 1] or [1]
    return float(math.prod(extents) ** (1 / len(extents)))
