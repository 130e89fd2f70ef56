"""R peaks, by a detector made for noisy recordings.

A style brings noise, and beats of another shape. So the detector has to find an inverted QRS too,
and must not take noise for beats. It was chosen with recordings and noise only, without results of
transfers (``benchmarks/experiments/r_peak_detectors.py``): among the detectors of neurokit2, only
this one finds the same beats in all of 12 leads, and finds them again in noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convnd.io.reading import import_optional
from convnd.io.silence import silence_libraries
from convnd_tasks.modalities.signals.leads import interpolate_gaps, resample_lead
from convnd_tasks.runtime.parallel import parallel_map
from convnd_tasks.runtime.warm_process import call_warm

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MIN_RATE", "r_peaks"]

MIN_RATE = 50.0
"""Samples per second below which a QRS complex of 0.1 s cannot be distinguished from a wave."""

_METHOD = "khamis2016"
_RATE = 500  # Hz, for which the smoothing of the detector is designed
_BLOCK, _MARGIN = 900.0, 10.0  # s of a block, and of its overlap on both sides
_MIN_SECONDS = 2.0
_FLATNESS = 1e-6  # of the largest value: rounding of a straight line in float32


def r_peaks(signal: NDArray[np.float64], rate: float) -> NDArray[np.int64]:
    """Find the R peaks of one lead: the middle of each QRS complex, upright or inverted.

    The detector is UNSW (Khamis et al., 2016, "QRS Detection Algorithm for Telehealth
    Electrocardiogram Recordings") of neurokit2, which takes about 20 ms for a second of signal. It
    runs on blocks of a quarter of an hour, which bounds the memory, and on all cores.

    Args:
        signal: one lead ``(T,)``; gaps are bridged.
        rate: samples per second.

    Returns:
        Rising positions in samples; empty for less than 2 s, or below `MIN_RATE`.

    Raises:
        DependencyError: neurokit2 or scipy is missing.
    """
    import numpy as np

    if rate < MIN_RATE:
        return np.zeros(0, np.int64)
    block, margin = round(_BLOCK * rate), round(_MARGIN * rate)

    def peaks_of_block(start: int) -> NDArray[np.int64]:
        first = max(0, start - margin)
        piece = interpolate_gaps(signal[first : start + block + margin])
        if len(piece) < _MIN_SECONDS * rate:
            return np.zeros(0, np.int64)
        peaks = call_warm(_find, piece, rate)
        positions = np.minimum(first + np.rint(peaks).astype(np.int64), len(signal) - 1)
        in_block: NDArray[np.int64] = positions[(positions >= start) & (positions < start + block)]
        return in_block

    blocks = parallel_map(peaks_of_block, range(0, len(signal), block))
    result: NDArray[np.int64] = np.unique(np.concatenate([np.zeros(0, np.int64), *blocks]))
    return result


def _is_straight(signal: NDArray[np.float64]) -> bool:
    import numpy as np

    detrended_signal = import_optional("scipy.signal", "R peaks").detrend(signal)
    return bool(np.ptp(detrended_signal) <= _FLATNESS * np.abs(signal).max())


def _find(signal: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """Find the R peaks of a signal, and none in a straight line, in samples.

    Args:
        signal: ``(T,)``, without gaps.
        rate: samples per second.
    """
    import numpy as np

    if _is_straight(signal):
        return np.zeros(0)
    return _detect(resample_lead(signal, rate, _RATE)) * (rate / _RATE)


def _detect(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find the R peaks of a signal with the sampling rate `_RATE`, in samples."""
    import numpy as np

    neurokit = import_optional("neurokit2", "R peaks")
    with silence_libraries():
        try:
            detection = neurokit.ecg_findpeaks(signal, sampling_rate=_RATE, method=_METHOD)
        except (ValueError, IndexError, ZeroDivisionError, KeyError, TypeError):
            return np.zeros(0)  # neurokit2 raises these errors for a signal without peaks
    peaks = np.asarray(detection["ECG_R_Peaks"], np.float64)
    finite: NDArray[np.float64] = peaks[np.isfinite(peaks)]
    return finite
