"""Rhythm: where the beats of an electrocardiogram are, and what they look like on average."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convnd_tasks.modalities.signals.leads import interpolate_gaps, lead_key
from convnd_tasks.modalities.signals.peaks import r_peaks

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "are_beats",
    "beat_correlation",
    "beat_distance",
    "match_peaks",
    "mean_beat",
    "rhythm_lead",
]

_BEAT = (0.25, 0.45)  # s before and after the R peak
_QRS = 0.1  # s on both sides
_SMOOTH = 0.04  # s: beats are compared below 20 Hz or so
_ALIKE, _FEWEST = 0.3, 3


def rhythm_lead(names: Sequence[str]) -> int:
    """The lead whose R peaks count for all leads: II, or the first.

    >>> rhythm_lead(["I", "Lead II"]), rhythm_lead(["V1", "V2"])
    (1, 0)
    """
    keys = [lead_key(name) for name in names]
    return keys.index("ii") if "ii" in keys else 0


def are_beats(signal: NDArray[np.float64], peaks: NDArray[np.int64], rate: float) -> bool:
    """Whether what was found are beats: a detector finds something in everything.

    At least three, and 0.3 or more as the mean correlation of any two, 0.1 s around them; in
    electrocardiograms, noisy or with ectopic beats, it was 0.57 to 1, in noise of all kinds at
    most 0.12.

    Args:
        signal: ``(T,)``; gaps are bridged.
        peaks: samples of the R peaks.
        rate: samples per second.
    """
    import numpy as np

    width = max(1, round(_SMOOTH * rate))
    smooth = np.convolve(interpolate_gaps(signal), np.full(width, 1 / width), "same")
    beats = _around(smooth, peaks, round(_QRS * rate), round(_QRS * rate))
    if len(beats) < _FEWEST:
        return False
    beats -= beats.mean(1, keepdims=True)
    beats /= np.linalg.norm(beats, axis=1, keepdims=True) + np.finfo(np.float64).tiny
    count = len(beats)
    return bool(np.square(beats.sum(0)).sum() - count >= _ALIKE * count * (count - 1))


def match_peaks(
    expected: NDArray[np.float64], found: NDArray[np.float64], tolerance: float
) -> tuple[float, list[tuple[float, float]]]:
    """F1 of peaks found, each matched with at most one that was expected.

    Args:
        expected: rising, in s.
        found: rising, in s.
        tolerance: largest distance of a pair, in s.

    Returns:
        F1 (1 when there are none of either), and the pairs.

    >>> import numpy as np
    >>> match_peaks(np.array([1.0, 2.0]), np.array([1.01, 1.5]), 0.05)
    (0.5, [(1.0, 1.01)])
    """
    pairs: list[tuple[float, float]] = []
    i = j = 0
    while i < len(expected) and j < len(found):
        distance = found[j] - expected[i]
        if abs(distance) <= tolerance:
            pairs.append((float(expected[i]), float(found[j])))
            i, j = i + 1, j + 1
        elif distance < 0:
            j += 1
        else:
            i += 1
    total = len(expected) + len(found)
    return (2 * len(pairs) / total if total else 1.0), pairs


def mean_beat(
    signal: NDArray[np.float64], rate: float, peaks: NDArray[np.int64] | None = None
) -> NDArray[np.float64] | None:
    """Median over beats of what lies around the R peaks, or None without beats.

    Args:
        signal: ``(T,)``; gaps are bridged.
        rate: samples per second.
        peaks: samples of the R peaks; None finds them in this lead.
    """
    import numpy as np

    peaks = r_peaks(signal, rate) if peaks is None else peaks
    before, after = (round(each * rate) for each in _BEAT)
    beats = _around(signal, peaks, before, after)
    return np.median(beats, axis=0) if len(beats) else None


def _around(
    signal: NDArray[np.float64], peaks: NDArray[np.int64], before: int, after: int
) -> NDArray[np.float64]:
    """What lies around the peaks ``(E, W)``, where it is whole."""
    import numpy as np

    whole = peaks[(peaks >= before) & (peaks + after <= len(signal))]
    found: NDArray[np.float64] = interpolate_gaps(signal)[
        whole[:, None] + np.arange(-before, after)
    ]
    return found


def beat_correlation(one: NDArray[np.float64] | None, other: NDArray[np.float64] | None) -> float:
    """Pearson correlation of two mean beats; NaN without beats."""
    import numpy as np

    if one is None or other is None or not one.std() or not other.std():
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def beat_distance(one: NDArray[np.float64] | None, other: NDArray[np.float64] | None) -> float:
    """RMS difference of two mean beats around their medians, in their unit; NaN without beats."""
    import numpy as np

    if one is None or other is None:
        return float("nan")
    difference = (one - np.median(one)) - (other - np.median(other))
    return float(np.sqrt(np.mean(difference**2)))
