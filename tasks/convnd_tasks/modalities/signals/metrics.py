"""Measures of biosignals: rhythm against the content; spectra, beats, amplitudes against styles.

All leads beat together, so the R peaks of one lead count for all. Every other measure is computed
for each lead that both recordings have, and averaged. Rhythm and baseline wander are measured if
the content is an electrocardiogram, and mean beats if the style is one too. A sound, or a recording
of unknown unit, is not taken for an electrocardiogram.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from convnd.errors import InputFileError
from convnd.io.signals.signal import sampling_rate, value_units
from convnd_tasks.modalities.metrics import Measure, finite_mean
from convnd_tasks.modalities.signals.baseline import WANDER_LIMIT, baseline_rms
from convnd_tasks.modalities.signals.distances import (
    PASSBAND,
    amplitude_distance,
    autocorrelation_distance,
    psd_distance,
)
from convnd_tasks.modalities.signals.leads import (
    identity_error,
    is_ecg_lead,
    lead_key,
    may_be_ecg,
    per_millivolt,
    resample_lead,
)
from convnd_tasks.modalities.signals.peaks import MIN_RATE
from convnd_tasks.modalities.signals.rhythm import (
    beat_correlation,
    beat_distance,
    mean_beat,
    rhythm_lead,
)
from convnd_tasks.modalities.signals.rhythm_measures import Rhythm, beat_peaks, lead_values
from convnd_tasks.modalities.signals.selection import with_leads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["measure_all"]


def measure_all(
    content: Grid, result: Grid, styles: Sequence[Grid], pairs: Mapping[str, str] | None = None
) -> list[Measure]:
    """Measure the distances of a result from its content and from its styles.

    Args:
        content: ``(1, C, T)`` with a sampling rate.
        result: ``(1, C, T')`` with the same leads and a sampling rate.
        styles: recordings whose leads are compared by name; a single lead is compared with all.
            Distances are averaged over styles.
        pairs: key of the style's lead by the key of each lead to measure, see `lead_key`; empty
            measures all leads of content and result.

    Raises:
        InputFileError: a recording has no sampling rate, the leads do not fit, or the result is
            longer or shorter than the content.
        DependencyError: neurokit2 or scipy is missing.
    """
    pairs = pairs or {}
    leads = _common_leads(content, result, styles, pairs)
    _check_same_length(content, result)
    rhythm = Rhythm.of(content, result, leads)
    measures = [] if rhythm is None else rhythm.measures()
    style_keys = {lead: pairs.get(lead_key(lead), lead_key(lead)) for lead in leads}
    distances = [
        measure
        for style in styles
        for measure in _style_measures(content, result, style, style_keys, rhythm)
    ]
    for name in dict.fromkeys(measure.name for measure in distances):
        measures.append(_average([measure for measure in distances if measure.name == name]))
    worst = identity_error(result)
    if worst is not None:
        measures.append(
            Measure(
                "lead_identity_error",
                worst * 1000,
                before=(identity_error(content) or 0.0) * 1000,
                unit="µV",
                better="lower",
                meaning="largest departure from III = II − I, aVR, aVL, aVF",
            )
        )
    return measures


def _common_leads(
    content: Grid, result: Grid, styles: Sequence[Grid], pairs: Mapping[str, str]
) -> list[str]:
    """List the leads to measure, after a check that every recording has a sampling rate."""
    for role, grid in (("content", content), ("result", result), *(("style", s) for s in styles)):
        if grid.units != ("s",):
            raise InputFileError(
                "evaluate",
                expected=f"a {role} that knows its sampling rate",
                got="one that does not",
                remedy="add --rate",
            )
    leads = [
        lead
        for lead in content.channels
        if lead in result.channels and (not pairs or lead_key(lead) in pairs)
    ]
    if not leads:
        raise InputFileError(
            "evaluate",
            expected=f"a result with leads of the content ({', '.join(content.channels)})",
            got=", ".join(result.channels),
            remedy="give files that belong together",
        )
    return leads


def _check_same_length(content: Grid, result: Grid) -> None:
    """Check that two recordings last equally long; their sampling rates may differ."""
    rates = [sampling_rate(grid) for grid in (content, result)]
    samples = [grid.shape[0] for grid in (content, result)]
    spans = [count / rate for count, rate in zip(samples, rates, strict=True)]
    # At another rate, the last sample may be missing.
    tolerance = 0.0 if rates[0] == rates[1] else 1.001 / min(rates)
    if abs(spans[0] - spans[1]) > tolerance:
        got = " and ".join(
            f"{count} samples ({span:.4g} s)" for count, span in zip(samples, spans, strict=True)
        )
        raise InputFileError(
            "evaluate",
            expected="two recordings of the same length",
            got=got,
            remedy="give a recording and its result",
        )


class _Comparison(NamedTuple):
    """A distance of the result, and of the untouched content, from the style, lead by lead.

    Args:
        name: see `Measure`, as unit, better and meaning.
        unit: unit of the distance.
        better: ``"higher"`` or ``"lower"``.
        meaning: one line of explanation.
        signals: quantities of ``"result"``, ``"content"`` and ``"style"``, by lead.
        distance: function of two quantities.
    """

    name: str
    unit: str
    better: str
    meaning: str
    signals: Mapping[str, Mapping[str, Any]]
    distance: Callable[[Any, Any], float]

    def measure(self) -> Measure:
        """Compute the distance for result and content."""
        style = self.signals["style"]
        parts = {
            role: {lead: self.distance(self.signals[role][lead], style[lead]) for lead in style}
            for role in ("result", "content")
        }
        return Measure(
            self.name,
            finite_mean(parts["result"].values()),
            before=finite_mean(parts["content"].values()),
            unit=self.unit,
            better=self.better,
            against="style",
            meaning=self.meaning,
            parts=parts["result"],
        )


def _style_measures(
    content: Grid, result: Grid, style: Grid, leads: Mapping[str, str], rhythm: Rhythm | None
) -> list[Measure]:
    """Measure the distances from a style, for the leads that it has.

    Args:
        content: the content.
        result: the result.
        style: the style.
        leads: key of the style's lead, by lead.
        rhythm: R peaks of content and result, or None.
    """
    if len(style.channels) > 1:
        style = with_leads(style, list(leads.values())) or style
    pairs = _style_leads(style, leads)
    rate = sampling_rate(result)

    def read_lead(grid: Grid, name: str) -> NDArray[np.float64]:
        return resample_lead(lead_values(grid, name), sampling_rate(grid), rate)

    # Measures depend on the sampling rate, so all recordings are brought to the result's.
    signals = {
        "result": {lead: lead_values(result, lead) for lead in pairs},
        "content": {lead: read_lead(content, lead) for lead in pairs},
        "style": {lead: read_lead(style, name) for lead, name in pairs.items()},
    }
    # A slower style has no frequencies above its Nyquist frequency.
    max_frequency = PASSBAND * min(rate, sampling_rate(style))
    unit = "mV" if per_millivolt(result) is not None else "units"
    comparisons = [
        _Comparison(
            *("psd_distance", "dB", "lower"),
            f"RMS difference of spectra from 0.5 to {max_frequency:g} Hz",
            signals,
            partial(psd_distance, rate=rate, band=(WANDER_LIMIT, max_frequency)),
        ),
        _Comparison(
            *("autocorrelation_distance", "", "lower"),
            "RMS difference of autocorrelations up to 1 s",
            signals,
            partial(autocorrelation_distance, rate=rate),
        ),
        _Comparison(
            *("amplitude_distance", unit, "lower"),
            "Wasserstein-1 distance of amplitudes around their median",
            signals,
            amplitude_distance,
        ),
    ]
    units = dict(zip(result.channels, value_units(result), strict=True))
    ecg_leads = [lead for lead in pairs if is_ecg_lead(lead, units[lead])]
    if ecg_leads and rate >= MIN_RATE:
        comparisons.append(_wander_comparison(signals, ecg_leads, rate, unit))
    style_lead = style.channels[rhythm_lead(style.channels)]
    if rhythm is not None and may_be_ecg(style, [style_lead]):
        style_peaks = beat_peaks(style, style_lead)
        if style_peaks is not None:
            peaks = {"result": rhythm.result, "content": rhythm.content, "style": style_peaks}
            comparisons[1:1] = _beat_comparisons(signals, peaks, rate, unit)
    return [comparison.measure() for comparison in comparisons]


def _wander_comparison(
    signals: Mapping[str, Mapping[str, NDArray[np.float64]]],
    leads: Sequence[str],
    rate: float,
    unit: str,
) -> _Comparison:
    """Compare amplitudes below the frequencies of the other measures."""
    amplitudes = {
        role: {lead: baseline_rms(by_lead[lead], rate) for lead in leads}
        for role, by_lead in signals.items()
    }
    levels = [
        f"{role} {finite_mean(amplitudes[role].values()):.3g}"
        for role in ("content", "result", "style")
    ]
    return _Comparison(
        *("wander_distance", unit, "lower"),
        f"difference of RMS amplitudes below {WANDER_LIMIT:g} Hz: {', '.join(levels)}",
        amplitudes,
        lambda one, other: abs(one - other),
    )


def _style_leads(style: Grid, leads: Mapping[str, str]) -> dict[str, str]:
    """Find the style's lead for each lead: that of its key, or the only one."""
    names = {lead_key(name): name for name in style.channels}
    only_lead = style.channels[0] if len(style.channels) == 1 else None
    candidates = {lead: names.get(key, only_lead) for lead, key in leads.items()}
    pairs = {lead: name for lead, name in candidates.items() if name is not None}
    if not pairs:
        raise InputFileError(
            "evaluate",
            expected=f"a style with leads of the content ({', '.join(leads)})",
            got=", ".join(style.channels),
            remedy=(f"pair them, for example --leads {next(iter(leads))}={style.channels[0]}"),
        )
    return pairs


def _beat_comparisons(
    signals: Mapping[str, Mapping[str, NDArray[np.float64]]],
    peaks: Mapping[str, NDArray[np.float64]],
    rate: float,
    unit: str,
) -> list[_Comparison]:
    """Compare the mean beats around R peaks, which are in s."""
    beats = {
        role: {
            lead: mean_beat(values, rate, np.rint(peaks[role] * rate).astype(np.int64))
            for lead, values in by_lead.items()
        }
        for role, by_lead in signals.items()
    }
    correlation = "correlation of the mean beats at their R peaks"
    distance = "RMS difference of the mean beats around their medians"
    return [
        _Comparison("beat_correlation", "", "higher", correlation, beats, beat_correlation),
        _Comparison("beat_distance", unit, "lower", distance, beats, beat_distance),
    ]


def _average(measures: Sequence[Measure]) -> Measure:
    """Average one measure over several styles."""
    if len(measures) == 1:
        return measures[0]
    leads = {lead for measure in measures for lead in measure.parts}
    return dataclasses.replace(
        measures[0],
        value=finite_mean(measure.value for measure in measures),
        before=finite_mean(measure.before for measure in measures if measure.before is not None),
        parts={
            lead: finite_mean(measure.parts[lead] for measure in measures if lead in measure.parts)
            for lead in sorted(leads)
        },
    )
