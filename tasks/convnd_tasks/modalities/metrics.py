"""Measurements of a result, and how they are printed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field

from convnd_tasks.runtime.tables import align_columns

__all__ = ["Measure", "as_json", "as_table", "finite_mean", "finite_or_none"]


@dataclass(frozen=True)
class Measure:
    """One measurement of a result.

    Args:
        name: name in snake case; the key in JSON.
        value: value for the result; NaN if it could not be measured.
        before: value for the untouched content; None if it has no meaning there.
        style: value for the style; None if it has no meaning there.
        unit: unit of the values; "" for a pure number.
        better: ``"higher"`` or ``"lower"``; "" if neither is better.
        against: ``"content"`` or ``"style"``, which the result is compared with; or "".
        meaning: one line of explanation.
        parts: values of channels, layers or regions by name.
    """

    name: str
    value: float
    _: KW_ONLY
    before: float | None = None
    style: float | None = None
    unit: str = ""
    better: str = ""
    against: str = ""
    meaning: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)


def as_json(measures: Sequence[Measure]) -> dict[str, object]:
    """Convert measures to entries for ``json.dumps``; a value that was not measured is None.

    Empty texts and missing values are left out. JSON has no number for infinity, so an infinite
    value is None, with another entry ``"infinite": true``.

    >>> as_json([Measure(name="error", value=float("nan"), unit="ms")])
    {'error': {'value': None, 'unit': 'ms'}}
    """
    entries: dict[str, object] = {}
    for measure in measures:
        entry: dict[str, object] = {"value": finite_or_none(measure.value)}
        if measure.value == math.inf:
            entry["infinite"] = True
        for key in ("before", "style"):
            if getattr(measure, key) is not None:
                entry[key] = finite_or_none(getattr(measure, key))
        texts = {key: getattr(measure, key) for key in ("unit", "better", "against", "meaning")}
        entry |= {key: text for key, text in texts.items() if text}
        if measure.parts:
            entry["parts"] = {name: finite_or_none(value) for name, value in measure.parts.items()}
        entries[measure.name] = entry
    return entries


def as_table(measures: Sequence[Measure]) -> list[str]:
    """Format measures as lines of text, with the values of result, untouched content and style.

    >>> as_table([Measure(name="error", value=0.5, unit="ms", meaning="mean error")])[1].split()
    ['error', '0.5', 'ms', 'mean', 'error']
    """
    styles = any(measure.style is not None for measure in measures)
    rows: list[tuple[str, ...]] = [
        ("measure", "result", "content", "style", "unit", "better", "what it is")
    ]
    rows += [
        (
            measure.name,
            _format(measure.value),
            _format(measure.before),
            _format(measure.style),
            measure.unit,
            measure.better,
            measure.meaning,
        )
        for measure in measures
    ]
    if not styles:
        rows = [(*row[:3], *row[4:]) for row in rows]
    return align_columns(rows, numbers=range(1, 4 if styles else 3))


def _format(value: float | None) -> str:
    if value is None:
        return ""
    if value == math.inf:
        return "inf"
    return f"{value:.4g}" if math.isfinite(value) else "-"


def finite_or_none(value: float | None) -> float | None:
    """Return the value, or None if it is missing or not finite."""
    return float(value) if value is not None and math.isfinite(value) else None


def finite_mean(values: Iterable[float]) -> float:
    """Average the values that are finite; NaN if there are none.

    >>> finite_mean([1.0, float("nan"), 2.0])
    1.5
    """
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
