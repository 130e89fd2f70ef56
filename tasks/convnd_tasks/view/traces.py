"""Traces and spectra of signals for a page, as data for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from convnd_tasks.view.shown import Shown

__all__ = ["MOST_POINTS", "describe_signal", "lead_spectrum", "lead_traces"]

MOST_POINTS = 4000
"""Points of a trace, at most: more than a screen has."""

_DIGITS = 5


def describe_signal(shown: Shown) -> dict[str, Any]:
    """Describe a recording: leads, units, length and sampling rate.

    Args:
        shown: the recording.
    """
    samples = shown.values.shape[1]
    return {
        "leads": list(shown.names),
        "units": list(shown.units),
        "rate": 1 / shown.spacing[0] if shown.axis_unit else None,
        "end": samples * shown.spacing[0],
        "samples": samples,
        "axis_unit": shown.axis_unit,
    }


def lead_traces(
    shown: Shown, leads: Sequence[str], start: float, end: float, points: int
) -> list[list[float | None] | None]:
    """Sample a part of a recording at points that are evenly spaced, whatever its rate.

    Where several samples lie between two points, these get the least and the largest of them, so
    that no peak is lost; where there are fewer, values are interpolated.

    Args:
        shown: the recording.
        leads: names of the leads of another recording; a recording of one lead serves for all.
        start: beginning, in the unit of the axis.
        end: end, in the same unit.
        points: number of points, even.

    Returns:
        The values of each lead, with None for gaps; None for a lead that is not there.
    """
    step, indices = shown.spacing[0], [_find(shown.names, lead) for lead in leads]
    return [
        None if index is None else _sample(shown.values[index], step, start, end, points)
        for index in indices
    ]


def _find(names: Sequence[str], lead: str) -> int | None:
    from convnd_tasks.modalities.signals.leads import find_name

    return find_name(names, lead)


def _sample(
    values: NDArray[Any], step: float, start: float, end: float, points: int
) -> list[float | None]:
    import numpy as np

    positions = (start + (end - start) * np.arange(points) / points) / step
    if (end - start) / step <= points:
        inside = (positions >= -0.5) & (positions <= len(values) - 0.5)
        sampled = np.interp(positions, np.arange(len(values)), values)
        sampled[~inside] = np.nan
    else:
        edges = np.clip(np.round(positions[::2]).astype(int), 0, len(values))
        sampled = np.full(points, np.nan)
        for number, (first, last) in enumerate(
            zip(edges, [*edges[1:], min(len(values), round(end / step))], strict=True)
        ):
            part = values[first:last]
            part = part[np.isfinite(part)]
            if part.size:
                sampled[2 * number : 2 * number + 2] = part.min(), part.max()
    return _plain(sampled)


def _plain(values: NDArray[Any]) -> list[float | None]:
    """Round values, and replace what JSON does not have."""
    import numpy as np

    finite = np.abs(values[np.isfinite(values)])
    largest = float(finite.max()) if finite.size else 0.0
    digits = _DIGITS - 1 - int(np.floor(np.log10(largest))) if largest > 0 else 0
    rounded = np.round(values.astype(float), digits).tolist()
    return [value if value == value and abs(value) != np.inf else None for value in rounded]


def lead_spectrum(shown: Shown, lead: str) -> dict[str, Any] | None:
    """Compute the power spectrum of a lead, see `power_spectrum`; None if it is not there.

    Args:
        shown: the recording.
        lead: name of the lead, of this recording or of another one.
    """
    from convnd_tasks.modalities.signals.spectra import power_spectrum

    index = _find(shown.names, lead)
    if index is None:
        return None
    timed = bool(shown.axis_unit)
    values = shown.values[index].astype(float)
    spectrum = power_spectrum(values, 1 / shown.spacing[0], has_rate=timed)
    if spectrum is None:
        return None
    frequencies, density = spectrum
    return {"frequency": _plain(frequencies), "density": _plain(density)}
