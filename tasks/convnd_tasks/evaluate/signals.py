"""Biosignals: rhythm against the content, spectrum, beats and amplitudes against the style.

R peaks are found by neurokit2 in one lead (II, or the first); everything else is averaged over
the leads that both have, and kept for each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convnd.errors import InputFileError
from convnd.io.quiet import quiet
from convnd.io.signal import optional, sampling_rate
from convnd_tasks.evaluate.measure import Measure
from convnd_tasks.signals.leads import identity_error, lead_key, per_millivolt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = [
    "amplitude_distance",
    "autocorrelation_distance",
    "beat_correlation",
    "beat_distance",
    "match_peaks",
    "mean_beat",
    "measure_all",
    "psd_distance",
    "r_peaks",
]

TOLERANCE = 0.05  # s around an R peak of the content: ±50 ms
_LOWEST = 0.5  # Hz: below is where the patient lies
_BEAT = (0.25, 0.45)  # s before and after the R peak


def measure_all(content: Grid, result: Grid, styles: Sequence[Grid]) -> list[Measure]:
    """See `convnd_tasks.evaluate.measure.Evaluator`.

    Args:
        content: ``(1, C, T)`` in seconds.
        result: ``(1, C, T')``, the same leads.
        styles: any leads; compared by name, or a single lead with all. The mean over styles.

    Raises:
        InputFileError: a grid has no sampling rate, or the leads do not fit.
        DependencyError: neurokit2 or scipy is missing.
    """
    for role, grid in (("content", content), ("result", result), *(("style", s) for s in styles)):
        if grid.units != ("s",):
            raise InputFileError(
                f"evaluate: expected a {role} that knows its sampling rate, got one that does "
                "not; add --rate"
            )
    leads = [lead for lead in content.channels if lead in result.channels]
    if not leads:
        raise InputFileError(
            f"evaluate: expected a result with leads of the content "
            f"({', '.join(content.channels)}), got {', '.join(result.channels)}; "
            "give files that belong together"
        )
    measures = [*_rhythm(content, result, leads)]
    each = [_likeness(content, result, style, leads) for style in styles]
    measures += [_joined(same) for same in zip(*each, strict=True)]
    worst = identity_error(result)
    if worst is not None:
        measures.append(
            Measure(
                name="lead_identity_error",
                value=worst * 1000,
                before=(identity_error(content) or 0.0) * 1000,
                unit="µV",
                better="lower",
                meaning="largest departure from III = II − I, aVR, aVL, aVF",
            )
        )
    return measures


def _rhythm(content: Grid, result: Grid, leads: Sequence[str]) -> list[Measure]:
    lead = next((name for name in leads if lead_key(name) == "ii"), leads[0])
    kept = r_peaks(_lead(content, lead), sampling_rate(content))
    found = r_peaks(_lead(result, lead), sampling_rate(result))
    f1, pairs = match_peaks(kept / sampling_rate(content), found / sampling_rate(result), TOLERANCE)
    error = float("nan")
    if len(pairs) > 1:
        intervals = np.diff(np.array(pairs), axis=0)
        error = float(np.abs(intervals[:, 0] - intervals[:, 1]).mean() * 1000)
    return [
        Measure(
            name="r_peak_f1",
            value=f1,
            better="higher",
            against="content",
            meaning=f"R peaks of lead {lead} found again within ±50 ms",
        ),
        Measure(
            name="rr_error",
            value=error,
            unit="ms",
            better="lower",
            against="content",
            meaning="mean difference of the intervals between matched R peaks",
        ),
    ]


def _likeness(content: Grid, result: Grid, style: Grid, leads: Sequence[str]) -> list[Measure]:
    names = {lead_key(name): name for name in style.channels}
    alone = style.channels[0] if len(style.channels) == 1 else None
    pairs = {
        lead: reference
        for lead in leads
        if (reference := names.get(lead_key(lead), alone)) is not None
    }
    if not pairs:
        raise InputFileError(
            f"evaluate: expected a style with leads of the content ({', '.join(leads)}), got "
            f"{', '.join(style.channels)}; give one that has them, or a single lead"
        )
    rate = sampling_rate(result)
    # What is measured depends on the sampling rate, so all are brought to the result's.
    aims = {
        lead: at_rate(_lead(style, name), sampling_rate(style), rate)
        for lead, name in pairs.items()
    }
    both = {
        "value": {lead: _lead(result, lead) for lead in pairs},
        "before": {
            lead: at_rate(_lead(content, lead), sampling_rate(content), rate) for lead in pairs
        },
    }
    unit = "mV" if per_millivolt(result) is not None else "units"
    table: tuple[tuple[str, str, str, str, Callable[[Any, Any, float], float]], ...] = (
        ("psd_distance", "dB", "lower", "RMS difference of spectra from 0.5 Hz", psd_distance),
        (
            "beat_correlation", "", "higher",
            "correlation of the mean beats at their R peaks", beat_correlation,
        ),
        (
            "beat_distance", unit, "lower",
            "RMS difference of the mean beats around their medians", beat_distance,
        ),
        (
            "autocorrelation_distance", "", "lower",
            "RMS difference of autocorrelations up to 1 s", autocorrelation_distance,
        ),
        (
            "amplitude_distance", unit, "lower",
            "Wasserstein-1 distance of amplitudes around their median", amplitude_distance,
        ),
    )  # fmt: skip
    measures = []
    for name, unit_, better, meaning, distance in table:
        parts = {
            when: {lead: distance(values, aims[lead], rate) for lead, values in signals.items()}
            for when, signals in both.items()
        }
        measures.append(
            Measure(
                name=name,
                value=_mean(parts["value"].values()),
                before=_mean(parts["before"].values()),
                unit=unit_,
                better=better,
                against="style",
                meaning=meaning,
                parts=parts["value"],
            )
        )
    return measures


def _joined(same: Sequence[Measure]) -> Measure:
    """One measure against several styles: the mean over them."""
    if len(same) == 1:
        return same[0]
    leads = {lead for each in same for lead in each.parts}
    return dataclasses.replace(
        same[0],
        value=_mean(each.value for each in same),
        before=_mean(each.before for each in same if each.before is not None),
        parts={
            lead: _mean(each.parts[lead] for each in same if lead in each.parts)
            for lead in sorted(leads)
        },
    )


def r_peaks(signal: NDArray[np.float64], rate: float) -> NDArray[np.int64]:
    """Samples of the R peaks of one lead, by neurokit2's own method.

    Args:
        signal: ``(T,)``; gaps are bridged.
        rate: samples per second.

    Raises:
        DependencyError: neurokit2 is missing.
    """
    nk = _package("neurokit2")
    with quiet():
        try:
            cleaned = nk.ecg_clean(_filled(signal), sampling_rate=rate)
            _, found = nk.ecg_peaks(cleaned, sampling_rate=rate)
        except (ValueError, IndexError, ZeroDivisionError, KeyError, TypeError):
            return np.zeros(0, np.int64)  # what it raises on a signal without peaks
    peaks = np.asarray(found["ECG_R_Peaks"], np.float64)
    result: NDArray[np.int64] = peaks[np.isfinite(peaks)].astype(np.int64)
    return result


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


def psd_distance(
    signal: NDArray[np.float64],
    reference: NDArray[np.float64],
    rate: float,
    band: tuple[float, float] = (_LOWEST, float("inf")),
) -> float:
    """RMS difference of Welch spectra in dB.

    Args:
        signal: ``(T,)``.
        reference: ``(T',)`` at the same rate.
        rate: samples per second.
        band: lowest and highest frequency in Hz.
    """
    welch = _package("scipy.signal").welch
    length = min(len(signal), len(reference), round(2 * rate))
    spectra = []
    for values in (signal, reference):
        frequencies, power = welch(_filled(values), rate, nperseg=length)
        spectra.append(10 * np.log10(power + 1e-12))
    inside = (frequencies >= band[0]) & (frequencies <= min(band[1], 0.45 * rate))
    if not inside.any():
        return float("nan")
    return float(np.sqrt(np.mean((spectra[0] - spectra[1])[inside] ** 2)))


def mean_beat(signal: NDArray[np.float64], rate: float) -> NDArray[np.float64] | None:
    """Median over beats of what lies around the R peaks, or None without beats."""
    values, peaks = _filled(signal), r_peaks(signal, rate)
    before, after = (round(each * rate) for each in _BEAT)
    beats = [
        values[peak - before : peak + after]
        for peak in peaks
        if peak >= before and peak + after <= len(values)
    ]
    return np.median(beats, axis=0) if beats else None


def beat_correlation(
    signal: NDArray[np.float64], reference: NDArray[np.float64], rate: float
) -> float:
    """Pearson correlation of two mean beats; NaN without beats."""
    one, other = mean_beat(signal, rate), mean_beat(reference, rate)
    if one is None or other is None or not one.std() or not other.std():
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def beat_distance(
    signal: NDArray[np.float64], reference: NDArray[np.float64], rate: float
) -> float:
    """RMS difference of two mean beats around their medians, in their unit; NaN without beats."""
    one, other = mean_beat(signal, rate), mean_beat(reference, rate)
    if one is None or other is None:
        return float("nan")
    difference = (one - np.median(one)) - (other - np.median(other))
    return float(np.sqrt(np.mean(difference**2)))


def autocorrelation_distance(
    signal: NDArray[np.float64], reference: NDArray[np.float64], rate: float
) -> float:
    """RMS difference of normalised autocorrelations at lags up to 1 s."""
    lags = min(round(rate), len(signal) - 1, len(reference) - 1)
    curves = []
    for values in (signal, reference):
        centred = _filled(values) - np.nanmean(values)
        power = np.abs(np.fft.rfft(centred, 2 * len(centred))) ** 2
        curve = np.fft.irfft(power)[: lags + 1]
        curves.append(curve / curve[0] if curve[0] > 0 else curve)
    return float(np.sqrt(np.mean((curves[0] - curves[1]) ** 2)))


def amplitude_distance(
    signal: NDArray[np.float64],
    reference: NDArray[np.float64],
    rate: float,  # noqa: ARG001 - as the others
) -> float:
    """Wasserstein-1 distance of the values around their medians, in their unit."""
    at = np.linspace(0, 1, 1001)
    one, other = (
        np.quantile(values[np.isfinite(values)] - np.nanmedian(values), at)
        for values in (signal, reference)
    )
    return float(np.abs(one - other).mean())


def at_rate(signal: NDArray[np.float64], rate: float, wanted: float) -> NDArray[np.float64]:
    """The signal at another sampling rate, by `convnd_tasks.signals.leads.resample`."""
    import torch

    from convnd_tasks.signals.leads import resample

    if rate == wanted:
        return signal
    return resample(torch.from_numpy(_filled(signal))[None, None], rate, wanted)[0, 0].numpy()


def _lead(grid: Grid, name: str) -> NDArray[np.float64]:
    scale = per_millivolt(grid)
    values = grid.values[0, grid.channels.index(name)].double().numpy()
    return values if scale is None else values / scale[grid.channels.index(name)]


def _filled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    good = np.isfinite(values)
    if good.all() or not good.any():
        return np.nan_to_num(values)
    at = np.arange(len(values))
    return np.interp(at, at[good], values[good])


def _mean(values: Any) -> float:
    finite = [each for each in values if np.isfinite(each)]
    return float(np.mean(finite)) if finite else float("nan")


def _package(name: str) -> Any:
    return optional(name, "evaluate")
