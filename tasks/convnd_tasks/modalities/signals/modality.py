"""Signals as a kind of data."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import UsageError
from convnd.io.signals.signal import describe, sampling_rate, signal_of, value_units
from convnd_tasks.modalities.grid_transfer import GridModality
from convnd_tasks.modalities.inputs import PreparedInputs, TransferInputs
from convnd_tasks.modalities.results import Figure, JobResult, Table
from convnd_tasks.modalities.signals.intervals import (
    ANNOTATIONS,
    annotation_labels,
    is_interval_table,
    read_intervals,
    soft_ends,
)
from convnd_tasks.modalities.signals.options import SignalOptions
from convnd_tasks.modalities.signals.prepare import prepare
from convnd_tasks.modalities.signals.selection import choose_rate, lead_pairs
from convnd_tasks.runtime.fraction import parse_fraction
from convnd_tasks.samples import is_sample

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import ClassVar

    from convnd.grid import Grid
    from convnd_tasks.modalities.metrics import Measure

__all__ = ["Signals", "set_rate"]


class Signals(GridModality):
    """Recordings of one or more leads over time."""

    name: ClassVar[str] = "signals"
    blends_statistics: ClassVar[bool] = False  # half the noise is half of its amplitude
    named_regions: ClassVar[Collection[str]] = (ANNOTATIONS,)
    options: SignalOptions

    def read(self, name: str, role: str, content: Grid | None = None) -> Any:
        """Read one input, see `Modality.read`; ``--rate`` sets a rate that its file lacks."""
        if role == "regions" and content is not None:
            if name == ANNOTATIONS:
                return annotation_labels(content)
            if is_interval_table(Path(name), content):
                return read_intervals(Path(name), content)
        grid = super().read(name, role, content)
        if (
            self.settings.rate is not None
            and role not in ("mask", "regions")
            and not is_sample(name)
        ):
            grid = set_rate(grid, float(parse_fraction("--rate", self.settings.rate)), name)
        pairs = lead_pairs(self.options.leads)
        if role == "content" and pairs:
            return choose_rate(grid, list(pairs), name)
        return grid

    def encode(self, inputs: TransferInputs) -> PreparedInputs:
        """Encode the inputs, see `GridModality.encode`."""
        return prepare(inputs, self.options)

    def soften(self, mask: Grid) -> Grid:
        """Let a change begin and end smoothly, see `GridModality.soften`."""
        return mask.with_values(soft_ends(mask.values, mask.spacing[0], mask.units))

    def lost_metadata(self, path: Path, inputs: TransferInputs) -> list[str]:
        """Name lost metadata, see `Modality.lost_metadata`; a rate from ``--rate`` is not lost."""
        lost = super().lost_metadata(path, inputs)
        return [item for item in lost if item != "sampling rate" or not inputs.rate_given]

    def metrics(self, inputs: TransferInputs, result: Any) -> list[Measure]:
        """Measure a result, see `Modality.metrics`."""
        from convnd_tasks.modalities.signals.metrics import measure_all

        pairs = lead_pairs(self.options.leads)
        return measure_all(inputs.compared_content(), result, inputs.styles, pairs)

    def figure_names(self) -> list[str]:
        """Name the figure, see `Modality.figure_names`; spectrograms are for reports only."""
        return ["ecg"]

    def figures(self, inputs: TransferInputs, outcome: JobResult) -> list[Figure]:
        """Make the traces with spectra, and the spectrograms, see `Modality.figures`."""
        from convnd_tasks.modalities.signals import ecg_plot, spectrogram
        from convnd_tasks.runtime.plots import encode

        content, style, result = inputs.content, inputs.styles[0], outcome.result
        return [
            Figure(
                "ecg",
                "Each lead from the top: content, style, result; its first 10 seconds, at most 12 "
                "leads. Voltages are drawn on ECG paper, 25 mm/s and 10 mm/mV. Their power spectra "
                "are on the right.",
                lambda: encode(ecg_plot.figure(content, style, result), dpi=110),
            ),
            Figure(
                "spectrogram",
                "Spectrograms of one lead on one scale of decibels; the first "
                f"{spectrogram.MAX_SECONDS:g} s.",
                partial(spectrogram.spectrograms, content, style, result),
            ),
        ]

    def tables(self, inputs: TransferInputs, outcome: JobResult) -> list[Table]:
        """Make the table of the recordings, see `Modality.tables`."""
        grids = [
            *((label.role, label.grid) for label in inputs.labelled()),
            ("result", outcome.result),
        ]
        rows = [
            [
                role,
                grid.shape[0],
                f"{sampling_rate(grid):g} Hz" if grid.units == ("s",) else "not known",
                grid.shape[0] * grid.spacing[0] if grid.units == ("s",) else None,
                ", ".join(grid.channels),
                ", ".join(dict.fromkeys(value_units(grid))),
            ]
            for role, grid in grids
        ]
        return [Table("Recordings", ["", "samples", "rate", "seconds", "leads", "units"], rows)]


def set_rate(grid: Grid, rate: float, name: str) -> Grid:
    """Give a signal the sampling rate that its file does not hold.

    Args:
        grid: recording ``(1, C, T)``.
        rate: samples per second, above 0.
        name: name of the file, for messages.

    Raises:
        UsageError: the rate is not positive and finite, the grid is not a signal, or its file holds
            another rate.
    """
    if not 0 < rate < math.inf:
        raise UsageError(
            "--rate", expected="a positive finite number", got=f"{rate:g}", remedy="for example 250"
        )
    if grid.ndim != 1:
        raise UsageError(
            "--rate",
            expected="signals",
            got=f"{name} with {grid.ndim} spatial axes",
            remedy="leave it out",
        )
    if grid.units == ("px",) or signal_of(grid).rate_assumed:
        timed_grid = dataclasses.replace(grid, spacing=(1 / rate,), units=("s",), axes=("t",))
        return describe(timed_grid, rate_assumed=False)
    known = 1 / grid.spacing[0]
    if not math.isclose(known, rate, rel_tol=1e-6):
        raise UsageError(
            "--rate",
            expected=f"{known:g}, which is what {name} says",
            got=f"{rate:g}",
            remedy="leave it out",
        )
    return grid
