"""Finds the sample of each row of a table from its time; rows may be missing in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SamplePositions", "sample_positions"]

_UNEVEN = 0.01  # of a step: the largest distance of a time from a regular grid
_JUMP = 1.5  # steps between two rows where others are missing
_SHORTEST_STRETCH = 16  # rows on average; times with more jumps are uneven
_MOST_SAMPLES = 10  # for each row: what missing rows may take of memory


class SamplePositions(NamedTuple):
    """The positions of the rows of a table on a regular grid.

    Args:
        positions: number of each row's sample, from 0.
        step: from one sample to the next, in the unit of the times.
        gaps: places where rows are missing.
        distance: largest distance of a row from the grid, in the unit of the times.
    """

    positions: NDArray[np.int64]
    step: float
    gaps: int = 0
    distance: float = 0.0


def sample_positions(times: NDArray[np.float64], rounding: float) -> SamplePositions | None:
    """Find the sample of each row, where times rise evenly but for a few jumps over missing rows.

    Args:
        times: ``(T,)``, at least two.
        rounding: the largest distance from a regular grid that rounded digits explain.

    Returns:
        None where times are uneven, or where far more rows are missing than there are.

    >>> import numpy as np
    >>> times = np.arange(40.0)
    >>> times[30:] += 5
    >>> rows = sample_positions(times, 0)
    >>> rows.step, rows.gaps, rows.positions[[0, 29, 30, 39]].tolist()
    (1.0, 1, [0, 29, 35, 44])
    """
    import numpy as np

    count = len(times)
    step = float(times[-1] - times[0]) / (count - 1)
    if not step > 0:
        return None
    # Times are often rounded to a few digits: only the distance to a regular grid matters.
    distance = float(np.abs(times - times[0] - step * np.arange(count)).max())
    if distance <= max(rounding, _UNEVEN * step):
        return SamplePositions(np.arange(count), step, distance=distance)
    steps = np.diff(times)
    usual = steps[steps < _JUMP * np.median(steps)]
    if not (steps > 0).all() or not len(usual):
        return None
    starts = np.flatnonzero(np.diff(times, prepend=-np.inf) >= _JUMP * usual.mean())
    if not 1 < len(starts) <= 1 + count // _SHORTEST_STRETCH:
        return None
    return _stretches(times, starts, rounding)


def _stretches(
    times: NDArray[np.float64], starts: NDArray[np.intp], rounding: float
) -> SamplePositions | None:
    """The same for rows in stretches without gaps, each of which begins at an index."""
    import numpy as np

    lengths = np.diff(starts, append=len(times))
    rows = np.arange(len(times)) - np.repeat(starts, lengths)

    def centred(values: NDArray[Any]) -> NDArray[np.float64]:
        return values - np.repeat(np.add.reduceat(values, starts) / lengths, lengths)

    x, y = centred(rows), centred(times)
    step = float(x @ y / (x @ x))
    # A recorder that stops begins again at any time, so each stretch has a grid of its own.
    distance = float(np.abs(y - step * x).max())
    if not step > 0 or distance > max(rounding, _UNEVEN * step):
        return None
    firsts = np.rint((times[starts] - times[0]) / step).astype(np.int64)
    if firsts[-1] + lengths[-1] > _MOST_SAMPLES * len(times):
        return None
    for index in range(1, len(firsts)):
        firsts[index] = max(firsts[index], firsts[index - 1] + lengths[index - 1])
    positions = rows + np.repeat(firsts, lengths)
    return SamplePositions(positions, step, int((np.diff(positions) > 1).sum()), distance)
