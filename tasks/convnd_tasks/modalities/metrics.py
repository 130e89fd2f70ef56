"""What an evaluation finds, and the table of who evaluates what."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast

from convnd.errors import UsageError
from convnd.registry import Registry

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["EVALUATORS", "Evaluator", "Measure", "as_json", "as_table", "evaluator_for"]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One figure about a result.

    Args:
        name: in snake case; the key in JSON.
        value: of the result; NaN is "could not be measured".
        before: the same figure for the untouched content, where that says something.
        unit: of both, "" for a pure number.
        better: ``"higher"``, ``"lower"`` or "".
        against: what the result is compared with: ``"content"``, ``"style"`` or "".
        meaning: one line for people.
        parts: the value of each channel or region by name.
    """

    name: str
    value: float
    before: float | None = None
    unit: str = ""
    better: str = ""
    against: str = ""
    meaning: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)


class Evaluator(Protocol):
    """Measures a result in the language of its field; lives in a module ``measure_all``."""

    def __call__(self, content: Grid, result: Grid, styles: Sequence[Grid]) -> list[Measure]:
        """Figures for a result made of a content and styles.

        Raises:
            InputFileError: the grids cannot be compared.
            DependencyError: a package that finds the figures is missing.
        """
        ...


EVALUATORS: Registry[str] = Registry("evaluator")
"""Number of spatial axes, as text, to the module whose ``measure_all`` is an `Evaluator`."""

EVALUATORS.add("1", "convnd_tasks.modalities.signals.metrics")
EVALUATORS.add("3", "convnd_tasks.modalities.volumes.metrics")


def evaluator_for(dim: int) -> Evaluator:
    """The evaluator of a rank, imported now.

    Raises:
        UsageError: there is none.
    """
    if str(dim) not in EVALUATORS:
        raise UsageError(
            f"evaluate: expected data of {' or '.join(EVALUATORS)} spatial axes, got {dim}; "
            "no measures are known for it"
        )
    return cast(Evaluator, importlib.import_module(EVALUATORS[str(dim)]).measure_all)


def as_json(measures: Sequence[Measure]) -> dict[str, object]:
    """The measures by name, ready for ``json.dumps``; what could not be measured is None.

    >>> as_json([Measure(name="error", value=float("nan"), unit="ms")])
    {'error': {'value': None, 'unit': 'ms'}}
    """
    found: dict[str, object] = {}
    for each in measures:
        entry: dict[str, object] = {"value": _finite(each.value)}
        if each.before is not None:
            entry["before"] = _finite(each.before)
        entry |= {
            key: text for key in ("unit", "better", "against") if (text := getattr(each, key))
        }
        if each.parts:
            entry["parts"] = {name: _finite(value) for name, value in each.parts.items()}
        found[each.name] = entry
    return found


def as_table(measures: Sequence[Measure]) -> list[str]:
    """The measures as lines of text: the result's figure beside that of the untouched content.

    >>> as_table([Measure(name="error", value=0.5, unit="ms", meaning="mean error")])[1].split()
    ['error', '0.5', 'ms', 'mean', 'error']
    """
    rows = [("measure", "result", "content", "unit", "better", "what it is")]
    rows += [
        (
            measure.name,
            _figure(measure.value),
            _figure(measure.before),
            measure.unit,
            measure.better,
            measure.meaning,
        )
        for measure in measures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = []
    for row in rows:
        cells = [
            row[column].rjust(widths[column])
            if column in (1, 2)
            else row[column].ljust(widths[column])
            for column in range(5)
        ]
        lines.append("  ".join([*cells, row[5]]).rstrip())
    return lines


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if math.isfinite(value) else "-"


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
