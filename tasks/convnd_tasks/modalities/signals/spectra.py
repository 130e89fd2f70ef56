"""Power spectra of signals, after Welch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["power_spectrum"]

_MAX_WINDOW = 1024  # samples of a spectrum: of sounds, two seconds give more lines than pixels
_MIN_WINDOW = 16
_FLOOR = 1e-15  # so that silence has a level


def power_spectrum(
    values: NDArray[Any], rate: float, *, has_rate: bool = True
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Compute the power spectral density of a signal from half-overlapping segments.

    Each segment loses its mean, and is weighted by a Hann window of at most two seconds.

    Source: Welch, "The use of fast Fourier transform for the estimation of power spectra", 1967.

    Args:
        values: ``(T,)``; missing values are left out.
        rate: samples per second; 1 where it is not known.
        has_rate: whether the rate is known.

    Returns:
        Frequencies in Hz (cycles per sample without a rate), without 0, and the density at each of
        them in dB of the square of the unit for each Hz; None if there are fewer than 16 values.

    >>> import numpy as np
    >>> times = np.arange(1000) / 250
    >>> frequencies, density = power_spectrum(np.sin(2 * np.pi * 10 * times), 250.0)
    >>> float(frequencies[density.argmax()])
    10.0
    """
    import numpy as np

    finite = values[np.isfinite(values)]
    window_length = max(_MIN_WINDOW, round(2 * rate)) if has_rate else _MAX_WINDOW // 4
    length = min(len(finite), _MAX_WINDOW, window_length)
    if length < _MIN_WINDOW:
        return None
    window = np.hanning(length)
    starts = range(0, len(finite) - length + 1, max(1, length // 2))
    segments = [finite[start : start + length] for start in starts]
    power = np.mean(
        [np.abs(np.fft.rfft((part - part.mean()) * window)) ** 2 for part in segments], axis=0
    )
    density = 2 * power / (rate * (window**2).sum())
    return np.fft.rfftfreq(length, 1 / rate)[1:], 10 * np.log10(density[1:] + _FLOOR)
