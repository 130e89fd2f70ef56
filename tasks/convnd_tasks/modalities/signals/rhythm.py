"""Rhythm: the positions of the beats of an electrocardiogram, and their mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convnd_tasks.modalities.signals.leads import interpolate_gaps, lead_key, lead_kind
from convnd_tasks.modalities.signals.peaks import r_peaks

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "BEAT",
    "are_beats",
    "beat_correlation",
    "beat_distance",
    "match_peaks",
    "mean_beat",
    "rhythm_lead",
]

BEAT = (0.25, 0.45)
"""Seconds of a beat before and after its R peak."""

_QRS = 0.1  # s on both sides of an R peak
_SMOOTHING = 0.04  # s: beats are compared below about 20 Hz
_MIN_CORRELATION, _MIN_BEATS = 0.3, 3
_SPECTRUM = 0.25  # s on both sides of an R peak
_MIN_FREQUENCY, _QRS_FREQUENCY, _MIN_SHARE = 0.5, 6.0, 0.08  # Hz, Hz, share of power


def rhythm_lead(names: Sequence[str]) -> int:
    """Choose the lead whose R peaks count for all leads; its index.

    That is II, else the first lead of an electrocardiogram, else the first lead of unknown kind,
    see `lead_kind`.

    >>> rhythm_lead(["I", "Lead II"]), rhythm_lead(["V1", "V2"]), rhythm_lead(["RESP", "ECG"])
    (1, 0, 1)
    """
    keys = [lead_key(name) for name in names]
    if "ii" in keys:
        return keys.index("ii")
    kinds = [lead_kind(name) for name in names]
    return next((kinds.index(kind) for kind in ("ecg", "") if kind in kinds), 0)


def are_beats(signal: NDArray[np.float64], peaks: NDArray[np.int64], rate: float) -> bool:
    """Whether peaks are beats of an electrocardiogram; a detector finds peaks in any signal.

    Three conditions have to hold:

    - There are at least three peaks.
    - The mean correlation of the signal within 0.1 s of them is 0.3 or more. In electrocardiograms,
      noisy or with ectopic beats, it was 0.57 to 1; in noise of all kinds at most 0.12.
    - The mean beat has 8 % or more of its power above 6 Hz, where a QRS complex lies (Pan and
      Tompkins, 1985). Electrocardiograms had 17 % or more, pulse waves at most 3 %.

    Args:
        signal: one lead ``(T,)``; gaps are bridged.
        peaks: positions of the peaks in samples.
        rate: samples per second.
    """
    import numpy as np

    gapless_signal = interpolate_gaps(signal)
    width = max(1, round(_SMOOTHING * rate))
    smooth_signal = np.convolve(gapless_signal, np.full(width, 1 / width), "same")
    beats = _windows(smooth_signal, peaks, round(_QRS * rate), round(_QRS * rate))
    if len(beats) < _MIN_BEATS:
        return False
    beats -= beats.mean(1, keepdims=True)
    beats /= np.linalg.norm(beats, axis=1, keepdims=True) + np.finfo(np.float64).tiny
    count = len(beats)
    correlation = np.square(beats.sum(0)).sum() - count  # sum over all pairs of beats
    are_similar = bool(correlation >= _MIN_CORRELATION * count * (count - 1))
    return are_similar and _is_sharp(gapless_signal, peaks, rate)


def _is_sharp(signal: NDArray[np.float64], peaks: NDArray[np.int64], rate: float) -> bool:
    """Whether the mean beat has the frequencies of a QRS complex."""
    import numpy as np

    beats = _windows(signal, peaks, round(_SPECTRUM * rate), round(_SPECTRUM * rate))
    if not len(beats):
        return False
    mean = beats.mean(0)
    windowed_mean = (mean - mean.mean()) * np.hanning(len(mean))
    power = np.abs(np.fft.rfft(windowed_mean, 4 * len(mean))) ** 2
    frequencies = np.fft.rfftfreq(4 * len(mean), 1 / rate)
    total = power[frequencies > _MIN_FREQUENCY].sum()
    return bool(power[frequencies > _QRS_FREQUENCY].sum() >= _MIN_SHARE * total)


def match_peaks(
    expected: NDArray[np.float64], detected: NDArray[np.float64], tolerance: float
) -> tuple[float, list[tuple[float, float]]]:
    """Match detected peaks with expected ones; each peak belongs to at most one pair.

    Args:
        expected: times of the expected peaks in s, rising.
        detected: times of the detected peaks in s, rising.
        tolerance: largest distance of a pair, in s.

    Returns:
        The F1 score (1 if there are no peaks at all), and the pairs.

    >>> import numpy as np
    >>> match_peaks(np.array([1.0, 2.0]), np.array([1.01, 1.5]), 0.05)
    (0.5, [(1.0, 1.01)])
    """
    pairs: list[tuple[float, float]] = []
    i = j = 0
    while i < len(expected) and j < len(detected):
        distance = detected[j] - expected[i]
        if abs(distance) <= tolerance:
            pairs.append((float(expected[i]), float(detected[j])))
            i, j = i + 1, j + 1
        elif distance < 0:
            j += 1
        else:
            i += 1
    total = len(expected) + len(detected)
    return (2 * len(pairs) / total if total else 1.0), pairs


def mean_beat(
    signal: NDArray[np.float64], rate: float, peaks: NDArray[np.int64] | None = None
) -> NDArray[np.float64] | None:
    """Compute the median beat around the R peaks, or None if there are none.

    Args:
        signal: one lead ``(T,)``; gaps are bridged.
        rate: samples per second.
        peaks: positions of the R peaks in samples; None finds them in this lead.
    """
    import numpy as np

    peaks = r_peaks(signal, rate) if peaks is None else peaks
    before, after = (round(seconds * rate) for seconds in BEAT)
    beats = _windows(signal, peaks, before, after)
    return np.median(beats, axis=0) if len(beats) else None


def _windows(
    signal: NDArray[np.float64], peaks: NDArray[np.int64], before: int, after: int
) -> NDArray[np.float64]:
    """Cut out windows ``(E, W)`` around peaks; those beyond an end of the signal are left out."""
    import numpy as np

    inner_peaks = peaks[(peaks >= before) & (peaks + after <= len(signal))]
    windows: NDArray[np.float64] = interpolate_gaps(signal)[
        inner_peaks[:, None] + np.arange(-before, after)
    ]
    return windows


def beat_correlation(one: NDArray[np.float64] | None, other: NDArray[np.float64] | None) -> float:
    """Compute the Pearson correlation of two mean beats ``(W,)``; NaN if one is missing or flat."""
    import numpy as np

    if one is None or other is None or not one.std() or not other.std():
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def beat_distance(one: NDArray[np.float64] | None, other: NDArray[np.float64] | None) -> float:
    """Compute the RMS difference of two mean beats around their medians; NaN if one is missing."""
    import numpy as np

    if one is None or other is None:
        return float("nan")
    difference = (one - np.median(one)) - (other - np.median(other))
    return float(np.sqrt(np.mean(difference**2)))
