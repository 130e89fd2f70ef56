"""Distances between the spectra, autocorrelations and amplitudes of two signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from convnd.io.reading import import_optional
from convnd_tasks.modalities.signals.baseline import WANDER_LIMIT
from convnd_tasks.modalities.signals.leads import interpolate_gaps

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PASSBAND", "amplitude_distance", "autocorrelation_distance", "psd_distance"]

PASSBAND = 0.45
"""Share of a sampling rate above which the filters of recorders attenuate frequencies."""


def psd_distance(
    signal: NDArray[np.float64],
    reference: NDArray[np.float64],
    rate: float,
    band: tuple[float, float] = (WANDER_LIMIT, float("inf")),
) -> float:
    """Compute the RMS difference of Welch spectra in dB.

    Args:
        signal: ``(T,)``; gaps are bridged.
        reference: ``(T',)``, at the same rate.
        rate: samples per second.
        band: lowest and highest frequency in Hz.

    Returns:
        NaN if the band holds no frequency.

    Raises:
        DependencyError: scipy is missing.
    """
    welch = import_optional("scipy.signal", "evaluate").welch
    length = min(len(signal), len(reference), round(2 * rate))
    spectra = []
    for values in (signal, reference):
        frequencies, power = welch(interpolate_gaps(values), rate, nperseg=length)
        spectra.append(10 * np.log10(power + 1e-12))
    in_band = (frequencies >= band[0]) & (frequencies <= min(band[1], PASSBAND * rate))
    if not in_band.any():
        return float("nan")
    return float(np.sqrt(np.mean((spectra[0] - spectra[1])[in_band] ** 2)))


def autocorrelation_distance(
    signal: NDArray[np.float64], reference: NDArray[np.float64], rate: float
) -> float:
    """Compute the RMS difference of normalised autocorrelations at lags up to 1 s.

    Args:
        signal: ``(T,)``; gaps are bridged.
        reference: ``(T',)``, at the same rate.
        rate: samples per second.
    """
    lags = min(round(rate), len(signal) - 1, len(reference) - 1)
    curves = []
    for values in (signal, reference):
        centred_values = interpolate_gaps(values) - np.nanmean(values)
        power = np.abs(np.fft.rfft(centred_values, 2 * len(centred_values))) ** 2
        curve = np.fft.irfft(power)[: lags + 1]
        curves.append(curve / curve[0] if curve[0] > 0 else curve)
    return float(np.sqrt(np.mean((curves[0] - curves[1]) ** 2)))


def amplitude_distance(signal: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Compute the Wasserstein-1 distance of values from which the median is subtracted.

    Args:
        signal: ``(T,)``; gaps do not count.
        reference: ``(T',)``, in the same unit.
    """
    levels = np.linspace(0, 1, 1001)
    one, other = (
        np.quantile(values[np.isfinite(values)] - np.nanmedian(values), levels)
        for values in (signal, reference)
    )
    return float(np.abs(one - other).mean())
