"""Baseline wander: the part of an electrocardiogram below 0.5 Hz.

It shows breathing, sweat and movement rather than the heart, and belongs to the look of a
recording. A spectrum of short windows, and features of a network, do not resolve it. So the
content's baseline gets the style's power before the transfer: its amplitudes are scaled octave by
octave, and its phases stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convnd_tasks.modalities.signals.leads import interpolate_gaps

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["WANDER_LIMIT", "baseline_rms", "match_baseline"]

WANDER_LIMIT = 0.5
"""Hz: the upper end of baseline wander (Kligfield et al., 2007, recommend 0.67 Hz for filters)."""

_POOLED_RATE = 16.0  # Hz at which the baseline is computed
_MIN_COEFFICIENTS = 4  # of a band
_TOLERANCE = 1e-3  # relative change of amplitudes below which the content is left as it is


def match_baseline(
    content: NDArray[np.float64],
    styles: Sequence[NDArray[np.float64]],
    rate: float,
    weights: Sequence[float] = (),
) -> NDArray[np.float64]:
    r"""Give one lead the baseline power of the styles.

    .. math:: \hat{y}_k = \hat{x}_k \sqrt{P_s(k) / P_c(k)}, \quad f_k < 0.5\,\mathrm{Hz}

    with the cosine transform :math:`\hat{x}` of the content and the mean power :math:`P` of a band
    around each coefficient.

    Args:
        content: one lead ``(T,)``, without gaps.
        styles: one lead ``(T_i,)`` of each style, at the same sampling rate and in the same unit.
        rate: samples per second.
        weights: weight of each style's power; empty weights them equally.

    Returns:
        ``(T,)``; the content itself if it is shorter than 4 s, or its power is the styles' already.
    """
    import numpy as np

    pooled, pooled_rate = _pool(content, rate)
    spectrum, frequencies = _transform(pooled, pooled_rate)
    in_band = np.flatnonzero((frequencies > 0) & (frequencies < WANDER_LIMIT))
    style_transforms = [_transform(*_pool(style, rate)) for style in styles]
    shares = np.array(weights or (1.0,) * len(styles)) / sum(weights or (1.0,) * len(styles))
    gains = np.ones(len(spectrum))
    for band in _bands(in_band):
        low, high = frequencies[band[0] - 1], frequencies[band[-1]]
        powers = [_power(*other, low, high) for other in style_transforms]
        power = _power(spectrum, frequencies, low, high)
        if power > 0 and all(np.isfinite(powers)):
            gains[band] = np.sqrt(np.dot(shares, powers) / power)
    if np.abs(gains - 1).max() <= _TOLERANCE:
        return content
    count = len(pooled)
    change = np.fft.irfft(spectrum * (gains - 1), 2 * count)[:count]
    step = rate / pooled_rate
    centres = (np.arange(count) + 0.5) * step - 0.5
    return content + np.interp(np.arange(len(content)), centres, change)


def baseline_rms(signal: NDArray[np.float64], rate: float) -> float:
    """Compute the RMS amplitude of a lead below 0.5 Hz, without its mean.

    Args:
        signal: ``(T,)``; gaps are bridged.
        rate: samples per second.

    >>> import numpy as np
    >>> round(baseline_rms(np.sin(2 * np.pi * 0.25 * np.arange(0, 40, 0.01)), 100), 2)
    0.71
    """
    import numpy as np

    spectrum, frequencies = _transform(*_pool(interpolate_gaps(signal), rate))
    in_band = (frequencies > 0) & (frequencies < WANDER_LIMIT)
    count = 2 * (len(spectrum) - 1)
    return float(np.sqrt(2 * np.square(np.abs(spectrum[in_band])).sum()) / count)


def _pool(signal: NDArray[np.float64], rate: float) -> tuple[NDArray[np.float64], float]:
    """Average blocks of samples; returns the means and their rate. The last block may be short."""
    import numpy as np

    size = max(1, int(rate // _POOLED_RATE))
    edges = np.arange(0, len(signal), size)
    counts = np.diff(np.append(edges, len(signal)))
    return np.add.reduceat(signal, edges) / counts, rate / size


def _transform(
    signal: NDArray[np.float64], rate: float
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Compute the spectrum of a signal that is mirrored at its end, so that it has no jump."""
    import numpy as np

    mirrored_signal = np.concatenate([signal, signal[::-1]])
    frequencies = np.fft.rfftfreq(len(mirrored_signal), 1 / rate).astype(np.float64)
    return np.fft.rfft(mirrored_signal), frequencies


def _bands(in_band: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Divide coefficients into octaves of at least `_MIN_COEFFICIENTS`."""
    if len(in_band) < _MIN_COEFFICIENTS:
        return []
    bands = []
    end = len(in_band)
    while end:
        start = end // 2 if end // 2 >= _MIN_COEFFICIENTS else 0
        bands.append(in_band[start:end])
        end = start
    return bands


def _power(
    spectrum: NDArray[np.complex128], frequencies: NDArray[np.float64], low: float, high: float
) -> float:
    """Compute the power per Hz between two frequencies; NaN if the recording is too short."""
    import numpy as np

    in_band = (frequencies > low) & (frequencies <= high) & (frequencies > 0)
    if not in_band.any():
        return float("nan")
    count = 2 * (len(spectrum) - 1)
    return float(np.square(np.abs(spectrum[in_band])).mean() * 2 / count**2 / frequencies[1])
