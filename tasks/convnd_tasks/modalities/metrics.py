"""Figures about a result, and how they are printed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field

__all__ = ["Measure", "as_json", "as_table", "finite_mean", "finite_or_none"]


@dataclass(frozen=True)
class Measure:
    """One figure about a result.

    Args:
        name: in snake case; the key in JSON.
        value: the figure of the result; NaN if it could not be measured.
        before: the figure of the untouched content; None if it has no meaning there.
        style: the figure of the style; None if it has no meaning there.
        unit: of both figures; "" for a pure number.
        better: ``"higher"`` or ``"lower"``; "" if neither is better.
        against: what the result is compared with: ``"content"``, ``"style"`` or "".
        meaning: one line of plain text.
        parts: the value of each channel, layer or region by name.
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
    """The measures by name, ready for ``json.dumps``; a value that could not be measured is None.

    Texts that are empty, and figures that a measure does not have, are left out. JSON has no number
    for infinity, so an infinite figure is None with ``"infinite": true`` beside it.

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
    """The measures as lines of text, with the figures of result, untouched content and style.

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
            _figure(measure.value),
            _figure(measure.before),
            _figure(measure.style),
            measure.unit,
            measure.better,
            measure.meaning,
        )
        for measure in measures
    ]
    if not styles:
        rows = [(*row[:3], *row[4:]) for row in rows]
    numbers = range(1, 4 if styles else 3)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [
            row[column].rjust(width) if column in numbers else row[column].ljust(width)
            for column, width in enumerate(widths)
        ]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return lines


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    if value == math.inf:
        return "inf"
    return f"{value:.4g}" if math.isfinite(value) else "-"


def finite_or_none(value: float | None) -> float | None:
    """The value, or None for one that is not finite or missing."""
    return float(value) if value is not None and math.isfinite(value) else None


def finite_mean(values: Iterable[float]) -> float:
    """The mean of the values that are finite; NaN if none is.

    >>> finite_mean([1.0, float("nan"), 2.0])
    1.5
    """
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
