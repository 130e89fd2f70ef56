"""One safety figure of a changed scan, and the description of several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["SafetyFigure", "describe_broken", "describe_figures", "is_judged"]

_TOLERANCE = 1e-4  # of a limit, by which rounding may exceed it
_ROUNDING = 1e-9  # of a limit, below which a value is shown as 0


@dataclass(frozen=True)
class SafetyFigure:
    """One measured value and its limits.

    Args:
        name: name of the measure, for example "mean change of soft".
        value: the measured value; NaN if it cannot be measured, which is neither safe nor broken.
        low: lowest safe value.
        high: highest safe value.
        unit: unit of the values, or "".
        reason: why the value cannot be measured.
        decisive: the value alone shows whether anatomy is kept.

    >>> print(SafetyFigure("mean change of soft", 2e-17, 0.0, 2.0, "HU"))
    mean change of soft 0 HU (at most 2)
    >>> print(SafetyFigure("Dice of two classes", 0.9912, 0.98, math.inf))
    Dice of two classes 0.991 (at least 0.98)
    """

    name: str
    value: float
    low: float
    high: float
    unit: str = ""
    reason: str = ""
    decisive: bool = True

    @property
    def measured(self) -> bool:
        """Whether there is a value."""
        return not math.isnan(self.value)

    @property
    def broken(self) -> bool:
        """Whether the value is outside its limits by more than rounding explains."""
        within = self.low * (1 - _TOLERANCE) <= self.value <= self.high * (1 + _TOLERANCE)
        return self.measured and not within

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        limits = (
            f"at most {self.high:.3g}"
            if self.low in (-math.inf, 0.0)
            else f"at least {self.low:.3g}"
            if self.high == math.inf
            else f"{self.low:.3g} to {self.high:.3g}"
        )
        scale = self.high if math.isfinite(self.high) else self.low
        value = 0.0 if abs(self.value) < _ROUNDING * scale else self.value
        return f"{self.name} {value:.3g}{unit} ({limits})"


def describe_broken(figures: Sequence[SafetyFigure]) -> str:
    """Describe the figures outside their limits in a message; "" if there are none."""
    return "; ".join(str(figure) for figure in figures if figure.broken)


def describe_figures(figures: Sequence[SafetyFigure]) -> str:
    """Describe all figures in a line, those that were not measured last."""
    reasons: dict[str, list[str]] = {}
    for figure in figures:
        if not figure.measured:
            reasons.setdefault(figure.reason, []).append(figure.name)
    missing = [f"{', '.join(names)} ({reason})" for reason, names in reasons.items()]
    measured = [str(figure) for figure in figures if figure.measured]
    return "; ".join([*measured, *([f"not measured: {'; '.join(missing)}"] if missing else [])])


def is_judged(figures: Sequence[SafetyFigure]) -> bool:
    """Whether a mean, the contrast of structures or a Dice coefficient was measured."""
    return any(figure.measured and figure.decisive for figure in figures)
