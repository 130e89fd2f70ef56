"""The steps of a minimization, and the state to continue it from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from convnd.optimize.base import Optimizer
from convnd.optimize.step_recovery import StepRecovery

__all__ = ["State", "Step"]


@dataclass(frozen=True)
class Step:
    """One evaluated step of a minimization.

    Attributes:
        index: number of the step; 0 is the start.
        loss: the objective at `values`.
        parts: weighted share of each term in the loss, by name.
        values: ``(1, C, *S)``; later steps do not change it.
        rejected_steps: steps that were rejected so far.
        note: one line for people after the first rejected step, and after the first change to
            float32; otherwise "".
        state: returns `State.to_dict` of this step, for ``minimize(resume=...)``. Call it before
            the next step is requested. It keeps the optimizer's memory alive.
    """

    index: int
    loss: float
    parts: Mapping[str, float]
    values: Tensor
    rejected_steps: int = 0
    note: str = ""
    state: Callable[[], dict[str, Any]] = field(default=dict, repr=False, compare=False)


@dataclass
class State:
    """Everything that a minimization needs to continue after a step.

    Attributes:
        step: the last accepted step.
        gradient: the gradient there; None once the optimizer has used it.
        best: the step with the lowest loss.
        best_gradient: the gradient there, for optimizers that restart from the best step.
        first_loss: the loss at the start.
        recovery: learning rate, number of rejected steps, and whether features are in float32.
        optimizer: holds ``x`` and its own state.
    """

    step: Step
    gradient: Tensor | None
    best: Step
    best_gradient: Tensor | None
    first_loss: float
    recovery: StepRecovery
    optimizer: Optimizer

    def to_dict(self) -> dict[str, Any]:
        """Return the state as nested dicts of numbers and tensors, which a checkpoint can store."""
        return {
            "step": _step_to_dict(self.step),
            "gradient": self.gradient,
            "best": _step_to_dict(self.best),
            "best_gradient": self.best_gradient,
            "first_loss": self.first_loss,
            "learning_rate": self.recovery.learning_rate,
            "rejected_steps": self.recovery.rejected_steps,
            "exact": self.recovery.exact,
            "optimizer": self.optimizer.state,
        }


def _step_to_dict(step: Step) -> dict[str, Any]:
    return {
        "index": step.index,
        "loss": step.loss,
        "parts": dict(step.parts),
        "values": step.values,
    }
