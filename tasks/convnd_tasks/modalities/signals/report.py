"""The report of a stylised signal: one HTML file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convnd.errors import DependencyError, InputFileError
from convnd.io.signals.signal import sampling_rate, value_units
from convnd_tasks.modalities.signals.ecg_plot import figure, lines_of
from convnd_tasks.modalities.signals.leads import lead_key, per_millivolt
from convnd_tasks.modalities.signals.metrics import measure_all
from convnd_tasks.pipeline import plots
from convnd_tasks.pipeline.report import Report

if TYPE_CHECKING:
    from convnd.grid import Grid
    from convnd_tasks.modalities.base import Inputs

__all__ = ["spectrograms", "write"]

_LONGEST = 60.0  # s of a spectrogram
_RANGE = 60.0  # dB shown below the strongest


def write(
    path: Path,
    inputs: Inputs,
    result: Grid,
    losses: Mapping[str, Sequence[float]],
    options: Mapping[str, object],
    *,
    remarks: Sequence[str] = (),
    overwrite: bool = False,
) -> None:
    """Write traces, spectra, loss, measures and options of one run.

    Args:
        path: the report.
        inputs: content (None for a texture) and styles.
        result: as it was written.
        losses: the whole and its parts at every step.
        options: of the run, by name.
        remarks: what was done to the inputs.
        overwrite: replace an existing report.

    Raises:
        DependencyError: matplotlib or scipy is missing.
        OutputExistsError: it exists and ``overwrite`` is false.
        OutputFileError: it cannot be written there.
    """
    names = [Path(name).name for name in inputs.names]
    styles = names if inputs.content is None else names[1:]
    title = "A texture" if inputs.content is None else f"{names[0]}, stylised"
    page = Report(title, lead=f"In the style of {', '.join(styles)}.")
    page.section("Traces")
    page.figure(
        plots.encode(figure(inputs.content, inputs.styles[0], result), dpi=110),
        "Each lead from the top: content, style, result; its first 10 seconds, at most 12 leads. "
        "Voltages stand on ECG paper, 25 mm/s and 10 mm/mV. Beside them their power spectra.",
    )
    page.section("Over time and frequency")
    page.figure(
        spectrograms(inputs.content, inputs.styles[0], result),
        f"Spectrograms of one lead, all on one scale of decibels; the first {_LONGEST:g} s.",
    )
    page.section("Loss")
    page.figure(
        plots.loss_curve(losses),
        "The objective and its weighted parts at every step; they jump where the work goes on "
        "with more samples.",
    )
    _measures(page, inputs, result)
    page.section("The recordings")
    page.table(
        ["", "samples", "rate", "seconds", "leads", "units"],
        [
            [
                role,
                grid.shape[0],
                f"{sampling_rate(grid):g} Hz" if grid.units == ("s",) else "not known",
                grid.shape[0] * grid.spacing[0] if grid.units == ("s",) else None,
                ", ".join(grid.channels),
                ", ".join(dict.fromkeys(value_units(grid))),
            ]
            for role, grid in [
                *((role, grid) for role, grid, _ in inputs.named()),
                ("result", result),
            ]
        ],
    )
    page.section("How it was made", "\n\n".join(remarks))
    page.table(["option", "value"], [[name, str(value)] for name, value in options.items()])
    page.write(path, overwrite=overwrite)


def _measures(page: Report, inputs: Inputs, result: Grid) -> None:
    if inputs.content is None:
        return
    text = "Result against content and style, as convnd evaluate finds them."
    rows: list[list[object]] = []
    try:
        rows = [
            [each.name, _known(each.value), _known(each.before), each.unit, each.meaning]
            for each in measure_all(inputs.content, result, inputs.styles)
        ]
    except (DependencyError, InputFileError) as error:  # a report without them is one all the same
        text = f"Not measured: {error}."
    page.section("Measures", text)
    if rows:
        page.table(["measure", "result", "content", "unit", "what it is"], rows)


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def spectrograms(content: Grid | None, style: Grid, result: Grid) -> bytes:
    """Content, style and result of one lead (II, or the first) over time and frequency, as PNG.

    Hann windows of half a second but at most 512 samples (sounds), overlapping by three quarters;
    without time, of 128 samples.

    Args:
        content: ``(1, C, T)``, or None.
        style: likewise.
        result: likewise.

    Raises:
        DependencyError: matplotlib or scipy is missing.
    """
    import numpy as np

    from convnd.io.signals.signal import import_optional

    signal = import_optional("scipy.signal", "spectrogram")
    lead = next((name for name in result.channels if lead_key(name) == "ii"), result.channels[0])
    lines = lines_of(lead, content, style, result)
    timed = result.units == ("s",)
    maps = []
    for role, (values, rate) in lines:
        part = values[: round(_LONGEST * rate)] if timed else values
        good = np.isfinite(part)
        if not good.any():
            continue
        at = np.arange(len(part))
        part = np.interp(at, at[good], part[good])
        length = min(len(part), max(16, min(512, round(rate / 2)) if timed else 128))
        frequencies, times, power = signal.spectrogram(
            part, rate, window="hann", nperseg=length, noverlap=length * 3 // 4, detrend="constant"
        )
        maps.append((role, times, frequencies, 10 * np.log10(power + 1e-15)))
    top = max(float(np.percentile(power, 99.9)) for *_, power in maps)
    drawn, axes = plots.new_figure(9, 1.9 * len(maps) + 0.4, rows=len(maps))
    end = max(float(times[-1]) for role, times, *_ in maps if role == "result")
    for axis, (role, times, frequencies, power) in zip(axes[:, 0], maps, strict=True):
        shown = axis.pcolormesh(
            times, frequencies, power, vmin=top - _RANGE, vmax=top, cmap="magma", rasterized=True
        )
        axis.set_title(f"{role}, lead {lead}", fontsize=9)
        axis.set_xlim(0, end)
        axis.set_ylim(0, float(maps[-1][2][-1]))
        axis.set_ylabel("Hz" if timed else "cycles per sample")
    axes[-1, 0].set_xlabel("s" if timed else "sample")
    unit = "mV" if per_millivolt(result) is not None else "units"
    drawn.colorbar(shown, ax=axes[:, 0].tolist(), shrink=0.7, label=f"dB ({unit}²/Hz)")
    return plots.encode(drawn, dpi=110)
