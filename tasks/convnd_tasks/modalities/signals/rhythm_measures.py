"""Measures of the rhythm of an electrocardiogram: R peaks of the result against the content's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convnd.io.signals.signal import sampling_rate
from convnd_tasks.modalities.metrics import Measure
from convnd_tasks.modalities.signals.leads import may_be_ecg, per_millivolt
from convnd_tasks.modalities.signals.peaks import r_peaks
from convnd_tasks.modalities.signals.rhythm import are_beats, match_peaks, rhythm_lead

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["Rhythm", "beat_peaks", "lead_values"]

_TOLERANCE = 0.05  # s around an R peak of the content: ±50 ms


@dataclass(frozen=True)
class Rhythm:
    """R peaks of content and result in one lead, in s."""

    lead: str
    content: NDArray[np.float64]
    result: NDArray[np.float64]

    @classmethod
    def of(cls, content: Grid, result: Grid, leads: Sequence[str]) -> Rhythm | None:
        """Find the R peaks of both; None if the content is not an electrocardiogram."""
        lead = leads[rhythm_lead(leads)]
        content_peaks = beat_peaks(content, lead) if may_be_ecg(content, [lead]) else None
        if content_peaks is None:
            return None
        rate = sampling_rate(result)
        return cls(lead, content_peaks, r_peaks(lead_values(result, lead), rate) / rate)

    def measures(self) -> list[Measure]:
        """Compare the rhythm of the result with the content's."""
        f1, pairs = match_peaks(self.content, self.result, _TOLERANCE)
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


def beat_peaks(grid: Grid, lead: str) -> NDArray[np.float64] | None:
    """Find the R peaks of a lead, in s; None if they are not beats, see `are_beats`."""
    signal, rate = lead_values(grid, lead), sampling_rate(grid)
    peaks = r_peaks(signal, rate)
    return peaks / rate if are_beats(signal, peaks, rate) else None


def lead_values(grid: Grid, name: str) -> NDArray[np.float64]:
    """The values of a lead, voltages in mV."""
    scale = per_millivolt(grid)
    values = grid.values[0, grid.channels.index(name)].double().numpy()
    return values if scale is None else values / scale[grid.channels.index(name)]
