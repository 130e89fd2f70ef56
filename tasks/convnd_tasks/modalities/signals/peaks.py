"""R peaks, by a detector made for noisy recordings.

A style brings noise, and beats of another shape: what finds R peaks has to find an inverted QRS as
well, and not be led by noise. The method was chosen with contents and noise alone, no result in
sight (``benchmarks/experiments/r_peak_detectors.py``): of those in neurokit2, the one that finds
the same beats in all of 12 leads, and finds them again in noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convnd.io.reading import import_optional
from convnd.io.silence import silence_libraries
from convnd_tasks.modalities.signals.leads import interpolate_gaps, resample_lead
from convnd_tasks.runtime.parallel import parallel_map

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["r_peaks"]

_METHOD = "khamis2016"
_RATE = 500  # Hz, which its smoothing is meant for
_BLOCK, _MARGIN = 900.0, 10.0  # s looked at in one piece, and seen beside it
_SHORTEST = 2.0  # s
_FLAT = 1e-6  # of the largest value: what float32 leaves of a straight line


def r_peaks(signal: NDArray[np.float64], rate: float) -> NDArray[np.int64]:
    """Samples of the R peaks of one lead, rising: the middle of the QRS, whichever way it points.

    The UNSW detector (Khamis et al., 2016, "QRS Detection Algorithm for Telehealth
    Electrocardiogram Recordings") as in neurokit2, which takes about 20 ms for a second of signal;
    a quarter of an hour at a time, in bounded memory, and on all cores.

    Args:
        signal: ``(T,)``; gaps are bridged.
        rate: samples per second.

    Returns:
        Nothing for less than 2 s.

    Raises:
        DependencyError: neurokit2 or scipy is missing.
    """
    import numpy as np

    block, margin = round(_BLOCK * rate), round(_MARGIN * rate)

    def within(start: int) -> NDArray[np.int64]:
        first = max(0, start - margin)
        piece = interpolate_gaps(signal[first : start + block + margin])
        if len(piece) < _SHORTEST * rate or _is_straight(piece):
            return np.zeros(0, np.int64)
        peaks = _found(resample_lead(piece, rate, _RATE)) * (rate / _RATE)
        at = np.minimum(first + np.rint(peaks).astype(np.int64), len(signal) - 1)
        found: NDArray[np.int64] = at[(at >= start) & (at < start + block)]
        return found

    each = parallel_map(within, range(0, len(signal), block))
    result: NDArray[np.int64] = np.unique(np.concatenate([np.zeros(0, np.int64), *each]))
    return result


def _is_straight(signal: NDArray[np.float64]) -> bool:
    import numpy as np

    found = import_optional("scipy.signal", "R peaks").detrend(signal)
    return bool(np.ptp(found) <= _FLAT * np.abs(signal).max())


def _found(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """R peaks at `_RATE`."""
    import numpy as np

    neurokit = import_optional("neurokit2", "R peaks")
    with silence_libraries():
        try:
            found = neurokit.ecg_findpeaks(signal, sampling_rate=_RATE, method=_METHOD)
        except (ValueError, IndexError, ZeroDivisionError, KeyError, TypeError):
            return np.zeros(0)  # what it raises on a signal without peaks
    peaks = np.asarray(found["ECG_R_Peaks"], np.float64)
    kept: NDArray[np.float64] = peaks[np.isfinite(peaks)]
    return kept
