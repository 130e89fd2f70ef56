"""Spectrograms of content, style and result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convnd_tasks.modalities.signals.ecg_plot import leads_with_values, lines_of
from convnd_tasks.modalities.signals.leads import interpolate_gaps, lead_key, per_millivolt
from convnd_tasks.runtime import plots

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["MAX_SECONDS", "spectrograms"]

MAX_SECONDS = 60.0
"""Largest number of seconds that a spectrogram shows."""

_RANGE = 60.0  # dB below the maximum that are shown


def spectrograms(content: Grid | None, style: Grid, result: Grid) -> bytes:
    """Draw one lead of content, style and result over time and frequency, as PNG.

    The lead is II, or the first that has values. Hann windows are half a second long, but at most
    512 samples, and overlap by three quarters; without a sampling rate they are 128 samples long.

    Args:
        content: ``(1, C, T)``, or None.
        style: ``(1, C_s, T_s)``.
        result: ``(1, C, T)``.

    Raises:
        DependencyError: matplotlib or scipy is missing.
    """
    import numpy as np

    from convnd.io.reading import import_optional

    signal = import_optional("scipy.signal", "spectrogram")
    leads = leads_with_values(result)
    lead = next((name for name in leads if lead_key(name) == "ii"), leads[0])
    lines = lines_of(lead, content, style, result)
    has_rate = result.units == ("s",)
    maps = []
    for role, (values, rate) in lines:
        part = values[: round(MAX_SECONDS * rate)] if has_rate else values
        if not np.isfinite(part).any():
            continue
        part = interpolate_gaps(part)
        length = min(len(part), max(16, min(512, round(rate / 2)) if has_rate else 128))
        frequencies, times, power = signal.spectrogram(
            part, rate, window="hann", nperseg=length, noverlap=length * 3 // 4, detrend="constant"
        )
        maps.append((role, times, frequencies, 10 * np.log10(power + 1e-15)))
    top = max(float(np.percentile(power, 99.9)) for *_, power in maps)
    drawing, axes = plots.new_figure(9, 1.9 * len(maps) + 0.4, rows=len(maps))
    end = max(float(times[-1]) for role, times, *_ in maps if role == "result")
    for axis, (role, times, frequencies, power) in zip(axes[:, 0], maps, strict=True):
        mesh = axis.pcolormesh(
            times, frequencies, power, vmin=top - _RANGE, vmax=top, cmap="magma", rasterized=True
        )
        axis.set_title(f"{role}, lead {lead}", fontsize=9)
        axis.set_xlim(0, end)
        axis.set_ylim(0, float(maps[-1][2][-1]))
        axis.set_ylabel("Hz" if has_rate else "cycles per sample")
    axes[-1, 0].set_xlabel("s" if has_rate else "sample")
    unit = "mV" if per_millivolt(result) is not None else "units"
    drawing.colorbar(mesh, ax=axes[:, 0].tolist(), shrink=0.7, label=f"dB ({unit}²/Hz)")
    return plots.encode(drawing, dpi=110)
