"""Drawings of signals: each lead on ECG paper, beside its spectrum."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from convnd.io.reading import import_optional
from convnd.io.signals.signal import sampling_rate, value_units
from convnd_tasks.modalities.signals.leads import find_name, per_millivolt
from convnd_tasks.modalities.signals.spectra import power_spectrum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["figure", "leads_with_values", "lines_of"]

_MARGIN_SECONDS = 0.8  # of paper before the traces, for the calibration pulse and names
_PULSE = (0.2, 1.0)  # s, mV
_INCH = 25.4  # mm
_SPEED, _GAIN = 25.0, 10.0  # mm/s, mm/mV: the scale on which electrocardiograms are printed
_MAX_SECONDS = 10.0  # on one sheet
_MAX_SAMPLES = 5000  # on one sheet, if the sampling rate is unknown
_MAX_LEADS = 12  # on one sheet
_LIGHT, _HEAVY, _PAPER = "#f6d3d3", "#e8a3a3", "#fffafa"
_COLORS = {"content": "#555555", "style": "#1f5fa8", "result": "#111111"}


def figure(content: Grid | None, style: Grid, result: Grid) -> Any:
    """Draw content, style and result of each lead, beside their spectra, with matplotlib.

    Voltages in time are drawn on ECG paper, 25 mm/s and 10 mm/mV, at true scale when printed at
    the size of the figure; other values on plain grids. The figure shows the first 10 s (5,000
    samples without a sampling rate) of the first 12 leads that have values.

    Args:
        content: ``(1, C, T)``, or None.
        style: ``(1, C_s, T_s)``; leads are matched by name, and a single lead serves all.
        result: ``(1, C, T)``.

    Raises:
        DependencyError: matplotlib is missing.
    """
    matplotlib_figure = import_optional("matplotlib.figure", "paper")
    import_optional("matplotlib.backends.backend_agg", "paper")
    has_rate = result.units == ("s",)
    paper = has_rate and per_millivolt(result) is not None
    leads = leads_with_values(result)[:_MAX_LEADS]
    rows = [(lead, lines_of(lead, content, style, result)) for lead in leads]
    seconds = max(_seconds(result), 1e-9)
    width = ((min(_MAX_SECONDS, seconds) + _MARGIN_SECONDS) * _SPEED if paper else 200.0) / _INCH
    traces = [
        [(role, (_cut(*line, has_rate=has_rate), line[1])) for role, line in lines]
        for _, lines in rows
    ]
    heights = [_height(lines) if paper else 30.0 * len(lines) for lines in traces]
    left, right, top, bottom = 0.75, 0.35, 0.6, 0.55  # margins in inches
    gap, spectrum_width = 0.75, 3.2
    page = (left + width + gap + spectrum_width + right, top + sum(heights) / _INCH + bottom)
    drawing = matplotlib_figure.Figure(figsize=page, facecolor="white")
    # All leads share one pair of axes, since creating axes takes more time than drawing traces.
    sheet = _add_axes(drawing, left, bottom, width, sum(heights) / _INCH)
    floors = [sum(heights[number + 1 :]) for number in range(len(heights))]
    end = max((_end(lines) for lines in traces), default=1.0)
    _draw_sheet(sheet, end, heights, floors, paper=paper, has_rate=has_rate)
    for number, ((lead, lines), height, floor) in enumerate(
        zip(rows, heights, floors, strict=True)
    ):
        _draw_traces(sheet, lead, traces[number], end, (floor, height), paper=paper)
        low, inches = bottom + floor / _INCH + 0.12, height / _INCH - 0.24
        axes = _add_axes(drawing, left + width + gap, low, spectrum_width, inches)
        last = number == len(rows) - 1
        _draw_spectra(axes, lines, result, last=last, first=number == 0)
    scale = " · 25 mm/s, 10 mm/mV" if paper else ""
    title = f"{', '.join(role for role, _ in rows[0][1])}, from the top{scale}"
    drawing.text(left / page[0], 1 - 0.3 / page[1], title, fontsize=10, va="center")
    return drawing


def _add_axes(drawing: Any, left: float, bottom: float, width: float, height: float) -> Any:
    """Add axes at a position in inches."""
    x, y = drawing.get_size_inches()
    return drawing.add_axes((left / x, bottom / y, width / x, height / y))


def lines_of(
    lead: str, content: Grid | None, style: Grid, result: Grid
) -> list[tuple[str, tuple[NDArray[Any], float]]]:
    """Collect the traces of a lead: role, values (voltages in mV) and sampling rate of each."""
    lines = []
    for role, grid in (("content", content), ("style", style), ("result", result)):
        if grid is None:
            continue
        index = find_name(grid.channels, lead)
        if index is None:
            continue
        values = grid.values[0, index].detach().cpu().double().numpy()
        scale = per_millivolt(grid)
        lines.append(
            (role, (values if scale is None else values / scale[index], sampling_rate(grid)))
        )
    return lines


def leads_with_values(grid: Grid) -> list[str]:
    """List the names of the leads that have a value."""
    finite = grid.values[0].isfinite().any(1).tolist()
    return [name for name, has_values in zip(grid.channels, finite, strict=True) if has_values]


def _seconds(grid: Grid) -> float:
    return grid.shape[0] * grid.spacing[0]


def _cut(values: NDArray[Any], rate: float, *, has_rate: bool) -> NDArray[Any]:
    """Cut a trace to the length of a sheet."""
    return values[: max(2, round(_MAX_SECONDS * rate)) if has_rate else _MAX_SAMPLES]


def _reach(line: tuple[NDArray[Any], float]) -> tuple[float, float, float]:
    """Compute the median of a trace, and its distance from the minimum and to the maximum."""
    import numpy as np

    values, _ = line
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 0.5, 0.5
    middle = float(np.median(finite))
    return middle, middle - float(finite.min()), float(finite.max()) - middle


def _height(lines: list[tuple[str, tuple[NDArray[Any], float]]]) -> float:
    """Compute the millimetres of paper for the traces of a lead, in whole large squares."""
    total_reach = sum(sum(_reach(line)[1:]) * _GAIN + 4 for _, line in lines)
    return float(min(max(math.ceil(total_reach / 5) * 5, 20), 150))


def _end(lines: list[tuple[str, tuple[NDArray[Any], float]]]) -> float:
    """Compute the time at which the content and the result of a lead end; a style is cut there."""
    ends = [len(values) / rate for role, (values, rate) in lines if role != "style"]
    return max(ends)


def _draw_sheet(
    axes: Any,
    end: float,
    heights: list[float],
    floors: list[float],
    *,
    paper: bool,
    has_rate: bool,
) -> None:
    """Prepare the axes of the traces, in seconds or samples and in mm.

    Args:
        axes: matplotlib's axes.
        end: end of the traces.
        heights: height of each lead's part.
        floors: lower border of each lead's part.
        paper: whether to draw ECG paper, with a calibration pulse for each lead.
        has_rate: whether the sampling rate is known.
    """
    import numpy as np

    margin = _MARGIN_SECONDS if paper else _MARGIN_SECONDS / _MAX_SECONDS * end
    total = sum(heights)
    axes.set_xlim(-margin, end)
    axes.set_ylim(0, total)
    axes.set_yticks([])
    axes.tick_params(labelsize=7)
    axes.set_xlabel("s" if has_rate else "sample", fontsize=8)
    axes.hlines(floors[:-1], -margin, end, "black", linewidth=0.8)
    if not paper:
        return
    axes.set_facecolor(_PAPER)
    for step, color, thick in ((1, _LIGHT, 0.3), (5, _HEAVY, 0.5)):  # mm
        seconds = step / _SPEED
        times = np.arange(-round(margin / seconds), math.ceil(end / seconds) + 1) * seconds
        axes.vlines(times, 0, total, color, linewidth=thick, zorder=0)
        axes.hlines(np.arange(0, total, step), -margin, end, color, linewidth=thick, zorder=0)
    duration, pulse = _PULSE[0], _PULSE[1] * _GAIN
    times = 0.05 - margin + np.array([0, 0.05, 0.05, 0.05 + duration, 0.05 + duration, 0.3])
    for floor, height in zip(floors, heights, strict=True):
        foot = floor + (height - pulse) / 2
        levels = foot + np.array([0, 0, pulse, pulse, 0, 0])
        axes.plot(times, levels, color="black", linewidth=0.7)


def _draw_traces(
    axes: Any,
    lead: str,
    lines: list[tuple[str, tuple[NDArray[Any], float]]],
    end: float,
    part: tuple[float, float],
    *,
    paper: bool,
) -> None:
    """Draw the traces of a lead below each other.

    Args:
        axes: matplotlib's axes, see `_draw_sheet`.
        lead: name of the lead.
        lines: role, values and sampling rate of each trace.
        end: end of the traces.
        part: lower border and height of the lead's part, in mm.
        paper: whether a millivolt takes 10 mm; otherwise the traces fill the part.
    """
    import numpy as np

    floor, height = part
    reaches = [_reach(line) for _, line in lines]
    total_reach = sum(low + high for _, low, high in reaches)
    gain = _GAIN if paper else height / (total_reach * 1.15 or 1.0)  # mm for a unit of the values
    gap = (height - total_reach * gain) / len(lines)
    top = floor + height
    for (role, (values, rate)), (middle, low, high) in zip(lines, reaches, strict=True):
        times = np.arange(len(values)) / rate
        base = top - gap / 2 - high * gain
        levels = (values - middle) * gain + base
        is_shown = times <= end
        axes.plot(times[is_shown], levels[is_shown], color=_COLORS[role], linewidth=0.7)
        _label(axes, role, base, "data", 2, fontsize=6, color=_COLORS[role])
        top = base - low * gain - gap / 2
    _label(axes, lead, floor + height / 2, "axes fraction", 6, fontsize=10)


def _label(axes: Any, text: str, level: float, place: str, distance: float, **style: Any) -> None:
    """Write a text to the left of the beginning of the traces, or of the axes."""
    axes.annotate(
        text,
        (0, level),
        xycoords=(place, "data"),
        textcoords="offset points",
        xytext=(-distance, 0),
        ha="right",
        va="center",
        **style,
    )


def _draw_spectra(
    axes: Any,
    lines: list[tuple[str, tuple[NDArray[Any], float]]],
    result: Grid,
    *,
    last: bool,
    first: bool,
) -> None:
    """Draw the power spectra of the traces of a lead, after Welch.

    Args:
        axes: matplotlib's axes.
        lines: role, values and sampling rate of each trace.
        result: the result, whose unit and rate label the axes.
        last: whether this is the lowest lead, which gets the label of the frequency axis.
        first: whether this is the uppermost lead, which gets the title and the legend.
    """
    has_rate = result.units == ("s",)
    for role, (values, rate) in lines:
        spectrum = power_spectrum(values, rate, has_rate=has_rate)
        if spectrum is None:
            continue
        axes.plot(
            *spectrum,
            color=_COLORS[role],
            linewidth=1.2 if role == "result" else 0.8,
            linestyle="--" if role == "result" else "-",
            label=role,
        )
    axes.set_xlim(0, sampling_rate(result) / 2)
    axes.grid(color="#dddddd", linewidth=0.4)
    axes.tick_params(labelsize=7, labelbottom=last)
    unit = next(iter(dict.fromkeys(value_units(result))), "")
    unit = "mV" if per_millivolt(result) is not None else unit or "units"
    axes.set_ylabel(f"dB ({unit}²/Hz)" if has_rate else f"dB ({unit}²)", fontsize=7)
    if first:
        axes.legend(fontsize=7, frameon=False, loc="upper right")
        axes.set_title("power spectrum", fontsize=9)
    if last:
        axes.set_xlabel("Hz" if has_rate else "cycles per sample", fontsize=8)
