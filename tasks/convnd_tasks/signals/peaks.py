"""R peaks, by a detector made for noisy recordings.

A style brings noise, and beats of another shape: what finds R peaks has to find an inverted QRS as
well, and not be led by noise. The method was chosen with contents and noise alone, no result in
sight (``benchmarks/detectors.py``): of those in neurokit2, the one that finds the same beats in
all of 12 leads, and finds them again in noise. It is written anew for its speed; the tests compare
it with theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convnd.io.signal import optional
from convnd_tasks.signals.leads import at_rate, filled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["r_peaks"]

_RATE = 500  # Hz, of the original: its smoothing is meant for about this one
_BLOCK, _MARGIN = 3600.0, 10.0  # s looked at in one piece, and seen beside it
_SHORTEST = 2.0  # s
_FLAT = 1e-6  # of the largest value: what float32 leaves of a straight line
_SLOWEST, _FASTEST = 1.5, 4.0  # Hz, heart rates that smoothing goes by


def r_peaks(signal: NDArray[np.float64], rate: float) -> NDArray[np.int64]:
    r"""Samples of the R peaks of one lead, rising: the middle of the QRS, whichever way it points.

    The UNSW detector (Khamis et al., 2016, "QRS Detection Algorithm for Telehealth
    Electrocardiogram Recordings"): from 0.7 to 20 Hz, the slope times the height of what lies
    within 0.1 s, smoothed, :math:`p = \sqrt{h * |x' (\max x - \min x)|}`; peaks of it whose
    prominence is a fifth of the usual height. Where beats are missing, a tenth is enough; of two
    that are too near, the first stays with two fifths only. Hour by hour, in bounded memory.

    Args:
        signal: ``(T,)``; gaps are bridged.
        rate: samples per second.

    Returns:
        Nothing for less than 2 s.

    Raises:
        DependencyError: scipy is missing.
    """
    import numpy as np

    block, margin = round(_BLOCK * rate), round(_MARGIN * rate)
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(signal), block):
        first = max(0, start - margin)
        piece = filled(signal[first : start + block + margin])
        if len(piece) < _SHORTEST * rate or _is_straight(piece):
            continue
        peaks = _found(at_rate(piece, rate, _RATE)) * (rate / _RATE)
        at = np.minimum(first + np.rint(peaks).astype(np.int64), len(signal) - 1)
        found.append(at[(at >= start) & (at < start + block)])
    result: NDArray[np.int64] = np.unique(np.concatenate(found))
    return result


def _is_straight(signal: NDArray[np.float64]) -> bool:
    import numpy as np

    found = optional("scipy.signal", "R peaks").detrend(signal)
    return bool(np.ptp(found) <= _FLAT * np.abs(signal).max())


def _found(signal: NDArray[np.float64]) -> NDArray[np.int64]:
    """R peaks at `_RATE`."""
    import numpy as np

    scipy = optional("scipy.signal", "R peaks")
    feature = _slope_and_height(signal)
    rough = _smoothed(feature, 6.0)
    beating = _heart_rate(rough)
    # Takes half of the second harmonic, and the rest above.
    power = _smoothed(feature, float(np.median([2 * _SLOWEST, 2 * beating, 2 * _FASTEST])))
    reach = round(float(np.median([2 * _RATE, 2 * _RATE / beating, 2 * _RATE / _FASTEST])))
    upper = _lowest(_highest(power, reach), reach)
    lower = _highest(_lowest(power, reach), reach)
    height = 0.2 * float(np.median(upper - lower))

    def peaks(share: float) -> NDArray[np.int64]:
        least = max(share * height, np.finfo(np.float64).tiny)
        found: NDArray[np.int64] = scipy.find_peaks(power, prominence=least)[0]
        return found

    beats = peaks(1.0)
    if not len(beats):
        return beats
    # Where there is room for more, lower ones count as well ...
    ends = np.concatenate([[-1], beats, [len(power)]])
    more = np.setdiff1d(peaks(0.5), beats)
    after = np.searchsorted(ends, more)
    more = more[ends[after] - ends[after - 1] > 1.5 * _mean_interval(beats)]
    beats = np.union1d(beats, more)
    # ... and where there is none, high ones only.
    near = np.flatnonzero(np.diff(beats) < 0.5 * _mean_interval(beats))
    return np.setdiff1d(beats, np.setdiff1d(beats[near], peaks(2.0)))


def _slope_and_height(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    scipy = optional("scipy.signal", "R peaks")
    filters = optional("scipy.ndimage", "R peaks")
    values = scipy.detrend(signal)
    window = round(0.5 * _RATE)
    values -= filters.rank_filter(values, (window - 1) // 2, size=window, mode="mirror", origin=-1)
    for band, edge in (("high", 0.7), ("low", 20.0)):
        sections = scipy.butter(7, edge, band, fs=_RATE, output="sos")
        values = scipy.sosfiltfilt(sections, values)
    slope = np.convolve(values, np.array([1, 0, -1]) * _RATE / 2)[: len(values)]
    window = round(0.1 * _RATE)
    found: NDArray[np.float64] = np.abs(
        slope * (_highest(values, window) - _lowest(values, window))
    )
    return found


def _smoothed(feature: NDArray[np.float64], frequency: float) -> NDArray[np.float64]:
    """Root of the feature without what is faster than a frequency in Hz, about."""
    import numpy as np

    scipy = optional("scipy.signal", "R peaks")
    kernel = scipy.get_window("hamming", round(_RATE**2 / 2 * 0.0037 / frequency), fftbins=False)
    kernel /= kernel.sum()
    smooth = scipy.filtfilt(kernel, [1], feature, padlen=min(3 * len(kernel), len(feature) - 1))
    found: NDArray[np.float64] = np.sqrt(np.abs(smooth))
    return found


def _heart_rate(power: NDArray[np.float64]) -> float:
    """The strongest frequency from 0.1 to 4 Hz, over pieces of 2 s."""
    import numpy as np

    length, fine = 2 * _RATE, 2**14
    pieces = np.pad(power, (0, -len(power) % length)).reshape(-1, length)
    total = np.zeros(fine // 2 + 1)
    for piece in pieces:
        amplitudes = np.abs(np.fft.rfft(piece - piece.mean(), fine))
        total += amplitudes / max(amplitudes.sum(), np.finfo(np.float64).tiny)
    frequencies = np.fft.rfftfreq(fine, 1 / _RATE)
    inside = (frequencies >= 0.1) & (frequencies < _FASTEST)
    return float(frequencies[inside][total[inside].argmax()])


def _mean_interval(beats: NDArray[np.int64]) -> float:
    import numpy as np

    intervals = np.diff(beats)
    intervals = intervals[intervals < 5 * _RATE]
    return float(intervals.mean()) if len(intervals) else float("inf")


def _highest(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    return _extreme("maximum_filter1d", values, window, float("-inf"))


def _lowest(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    return _extreme("minimum_filter1d", values, window, float("inf"))


def _extreme(
    name: str, values: NDArray[np.float64], window: int, beyond: float
) -> NDArray[np.float64]:
    filters: Any = optional("scipy.ndimage", "R peaks")
    found: NDArray[np.float64] = getattr(filters, name)(
        values, window, mode="constant", cval=beyond, origin=-1 if window % 2 == 0 else 0
    )
    return found
