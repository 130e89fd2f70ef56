"""Measures of biosignals: rhythm against the content; spectra, beats, amplitudes against styles.

R peaks are those of one lead for all leads, which beat together. Every other measure is computed
for each lead that both recordings have, and averaged. Rhythm and baseline wander are measured if
the content is an electrocardiogram, and mean beats if the style is one as well; not of sounds, or
of values whose unit is not known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from convnd.errors import InputFileError
from convnd.io.signals.signal import sampling_rate, value_units
from convnd_tasks.modalities.metrics import Measure
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
from convnd_tasks.modalities.signals.peaks import MIN_RATE, r_peaks
from convnd_tasks.modalities.signals.rhythm import (
    are_beats,
    beat_correlation,
    beat_distance,
    match_peaks,
    mean_beat,
    rhythm_lead,
)
from convnd_tasks.modalities.signals.selection import with_leads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["measure_all"]

TOLERANCE = 0.05  # s around an R peak of the content: ±50 ms


def measure_all(
    content: Grid, result: Grid, styles: Sequence[Grid], pairs: Mapping[str, str] | None = None
) -> list[Measure]:
    """Measure what a result keeps of its content and takes from its styles.

    Args:
        content: ``(1, C, T)`` in seconds.
        result: ``(1, C, T')``, the same leads.
        styles: any leads; compared by name, or a single lead with all. The mean over styles.
        pairs: the style's lead for each lead that is measured, by `lead_key`; empty measures all
            that content and result have.

    Raises:
        InputFileError: a grid has no sampling rate, or the leads do not fit.
        DependencyError: neurokit2 or scipy is missing.
    """
    for role, grid in (("content", content), ("result", result), *(("style", s) for s in styles)):
        if grid.units != ("s",):
            raise InputFileError(
                "evaluate",
                expected=f"a {role} that knows its sampling rate",
                got="one that does not",
                remedy="add --rate",
            )
    pairs = pairs or {}
    leads = [
        lead
        for lead in content.channels
        if lead in result.channels and (not pairs or lead_key(lead) in pairs)
    ]
    if not leads:
        raise InputFileError(
            "evaluate",
            expected=(f"a result with leads of the content ({', '.join(content.channels)})"),
            got=", ".join(result.channels),
            remedy="give files that belong together",
        )
    rhythm = _Rhythm.of(content, result, leads)
    measures = [] if rhythm is None else rhythm.measures()
    distances = [
        measure
        for style in styles
        for measure in _likeness(content, result, style, _paired(leads, pairs), rhythm)
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


@dataclass(frozen=True)
class _Rhythm:
    """R peaks in s, by one lead."""

    lead: str
    content: NDArray[np.float64]
    result: NDArray[np.float64]

    @classmethod
    def of(cls, content: Grid, result: Grid, leads: Sequence[str]) -> _Rhythm | None:
        """Find the beats of both; None if the content is not an electrocardiogram."""
        lead = leads[rhythm_lead(leads)]
        content_peaks = _peaks(content, lead) if may_be_ecg(content, [lead]) else None
        if content_peaks is None:
            return None
        rate = sampling_rate(result)
        return cls(lead, content_peaks, r_peaks(_lead(result, lead), rate) / rate)

    def measures(self) -> list[Measure]:
        f1, pairs = match_peaks(self.content, self.result, TOLERANCE)
        error = float("nan")
        if len(pairs) > 1:
            intervals = np.diff(np.array(pairs), axis=0)
            error = float(np.abs(intervals[:, 0] - intervals[:, 1]).mean() * 1000)
        return [
            Measure(
                "r_peak_f1",
                f1,
                better="higher",
                against="content",
                meaning=f"R peaks of lead {self.lead} found again within ±50 ms",
            ),
            Measure(
                "rr_error",
                error,
                unit="ms",
                better="lower",
                against="content",
                meaning="mean difference of the intervals between matched R peaks",
            ),
        ]


def _peaks(grid: Grid, lead: str) -> NDArray[np.float64] | None:
    """Find R peaks in s; None if these are not beats."""
    signal, rate = _lead(grid, lead), sampling_rate(grid)
    peaks = r_peaks(signal, rate)
    return peaks / rate if are_beats(signal, peaks, rate) else None


class _Comparison(NamedTuple):
    """A distance of the result, and of the untouched content, from the style, lead by lead."""

    name: str
    unit: str
    better: str
    meaning: str
    signals: Mapping[str, Mapping[str, Any]]  # of "value", "before" and "aim", by lead
    distance: Callable[[Any, Any], float]

    def measure(self) -> Measure:
        aim = self.signals["aim"]
        parts = {
            when: {lead: self.distance(self.signals[when][lead], aim[lead]) for lead in aim}
            for when in ("value", "before")
        }
        return Measure(
            self.name,
            _mean(parts["value"].values()),
            before=_mean(parts["before"].values()),
            unit=self.unit,
            better=self.better,
            against="style",
            meaning=self.meaning,
            parts=parts["value"],
        )


def _paired(leads: Sequence[str], pairs: Mapping[str, str]) -> dict[str, str]:
    """The key of the style's lead for each lead."""
    return {lead: pairs.get(lead_key(lead), lead_key(lead)) for lead in leads}


def _likeness(
    content: Grid, result: Grid, style: Grid, leads: Mapping[str, str], rhythm: _Rhythm | None
) -> list[Measure]:
    """Compute distances from a style, for the leads that it has."""
    if len(style.channels) > 1:
        style = with_leads(style, list(leads.values())) or style
    pairs = _style_leads(style, leads)
    rate = sampling_rate(result)

    def resampled(grid: Grid, name: str) -> NDArray[np.float64]:
        return resample_lead(_lead(grid, name), sampling_rate(grid), rate)

    # Measures depend on the sampling rate, so all recordings are brought to the result's.
    signals = {
        "value": {lead: _lead(result, lead) for lead in pairs},
        "before": {lead: resampled(content, lead) for lead in pairs},
        "aim": {lead: resampled(style, name) for lead, name in pairs.items()},
    }
    # A slower style has no frequencies above its own Nyquist frequency.
    highest = PASSBAND * min(rate, sampling_rate(style))
    unit = "mV" if per_millivolt(result) is not None else "units"
    comparisons = [
        _Comparison(
            *("psd_distance", "dB", "lower"),
            f"RMS difference of spectra from 0.5 to {highest:g} Hz",
            signals,
            partial(psd_distance, rate=rate, band=(WANDER_LIMIT, highest)),
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
        style_peaks = _peaks(style, style_lead)
        if style_peaks is not None:
            peaks = {"value": rhythm.result, "before": rhythm.content, "aim": style_peaks}
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
        when: {lead: baseline_rms(by_lead[lead], rate) for lead in leads}
        for when, by_lead in signals.items()
    }
    levels = [
        f"{role} {_mean(amplitudes[when].values()):.3g}"
        for role, when in (("content", "before"), ("result", "value"), ("style", "aim"))
    ]
    return _Comparison(
        *("wander_distance", unit, "lower"),
        f"difference of RMS amplitudes below {WANDER_LIMIT:g} Hz: {', '.join(levels)}",
        amplitudes,
        lambda one, other: abs(one - other),
    )


def _style_leads(style: Grid, leads: Mapping[str, str]) -> dict[str, str]:
    """Return the style's lead for each lead that has one: the one of its key, or the only one."""
    names = {lead_key(name): name for name in style.channels}
    only = style.channels[0] if len(style.channels) == 1 else None
    candidates = {lead: names.get(key, only) for lead, key in leads.items()}
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
        when: {
            lead: mean_beat(values, rate, np.rint(peaks[when] * rate).astype(np.int64))
            for lead, values in by_lead.items()
        }
        for when, by_lead in signals.items()
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
        value=_mean(measure.value for measure in measures),
        before=_mean(measure.before for measure in measures if measure.before is not None),
        parts={
            lead: _mean(measure.parts[lead] for measure in measures if lead in measure.parts)
            for lead in sorted(leads)
        },
    )


def _lead(grid: Grid, name: str) -> NDArray[np.float64]:
    scale = per_millivolt(grid)
    values = grid.values[0, grid.channels.index(name)].double().numpy()
    return values if scale is None else values / scale[grid.channels.index(name)]


def _mean(values: Any) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")
