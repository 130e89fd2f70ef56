"""Gives a recording of beats the intervals of another."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["warp_to_rhythm"]

_FIXED = (0.4, 0.25)  # s after an R peak and before the next one that warping does not change
_FIXED_SHARE = (12, 6)  # the same, at most this many twentieths of an interval
_FADE = 0.1  # s


def warp_to_rhythm(
    values: Tensor, peaks: NDArray[np.int64], intervals: NDArray[np.int64], rate: float
) -> tuple[Tensor, NDArray[np.int64]]:
    """Give a recording other intervals between its beats.

    Samples around the R peaks stay. The interval between them is shortened by leaving samples out,
    or lengthened by playing it back and forth from both sides, so that noise keeps its spectrum.
    The two sides are cross-faded.

    Args:
        values: ``(B, C, T)``.
        peaks: positions of its R peaks in samples, rising, at least two.
        intervals: new distances from each R peak to the next in samples, repeated if there are too
            few.
        rate: samples per second.

    Returns:
        The warped values ``(B, C, T')``, and the positions of their R peaks in samples.

    >>> import numpy as np, torch
    >>> slow = torch.arange(12.0)[None, None]
    >>> fast, positions = warp_to_rhythm(slow, np.array([2, 6, 10]), np.array([2]), rate=4)
    >>> positions.tolist(), fast[0, 0].tolist()
    ([2, 4, 6], [0.0, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 11.0])
    """
    import numpy as np
    import torch

    samples = values.numpy()
    parts = [samples[..., : peaks[0]]]
    positions = [int(peaks[0])]
    for number, (first, last) in enumerate(itertools.pairwise(peaks)):
        length = int(intervals[number % len(intervals)])
        parts.append(_stretch(samples[..., first:last], length, rate))
        positions.append(positions[-1] + length)
    parts.append(samples[..., peaks[-1] :])
    return torch.from_numpy(np.concatenate(parts, -1)), np.array(positions, np.int64)


def _stretch(beat: NDArray[np.float32], length: int, rate: float) -> NDArray[np.float32]:
    """Give the samples between two R peaks another length."""
    import numpy as np

    count = beat.shape[-1]
    head, tail = (
        min(round(seconds * rate), count * share // 20, length * share // 20)
        for seconds, share in zip(_FIXED, _FIXED_SHARE, strict=True)
    )
    middle = beat[..., head : count - tail]
    extent = middle.shape[-1]
    positions = np.arange(length - head - tail)
    # Play the middle forwards from the left and backwards from the right, and reverse at the ends.
    period = max(1, 2 * extent - 2)
    phase = positions % period
    left = np.minimum(phase, period - phase) % extent
    back = positions[::-1] % period
    right = (extent - 1 - np.minimum(back, period - back)) % extent
    centre = (len(positions) - 1) / 2
    fade = np.clip((positions - centre) / max(1.0, _FADE * rate) + 0.5, 0, 1)
    faded_middle = (middle[..., left] * (1 - fade) + middle[..., right] * fade).astype(beat.dtype)
    return np.concatenate([beat[..., :head], faded_middle, beat[..., count - tail :]], -1)
