"""The steps of a minimization, and the state to continue it from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from convnd.errors import ConvndError, InputFileError, ResourceError, is_out_of_memory
from convnd.io.atomic import error_text
from convnd.optimize.base import Optimizer, is_count, is_number
from convnd.optimize.step_recovery import StepRecovery

__all__ = ["State", "Step", "check_field", "check_state", "state_errors"]


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
        optimizer: the optimizer, with ``x`` and its own state.
        losses: losses of the last steps up to this one, for `convnd.optimize.has_converged`.
    """

    step: Step
    gradient: Tensor | None
    best: Step
    best_gradient: Tensor | None
    first_loss: float
    recovery: StepRecovery
    optimizer: Optimizer
    losses: Sequence[float] = ()

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
            "losses": [*self.losses],
        }


def _step_to_dict(step: Step) -> dict[str, Any]:
    return {
        "index": step.index,
        "loss": step.loss,
        "parts": dict(step.parts),
        "values": step.values,
    }


@contextlib.contextmanager
def state_errors(expected: str = "a checkpoint that this job has written") -> Iterator[None]:
    """Turn any error of the block, which reads a stored state, into one about the checkpoint.

    Args:
        expected: description of the right checkpoint, for the error.

    Raises:
        InputFileError: the block raised an error of any class but ours.
        ResourceError: the block ran out of memory.
    """
    try:
        yield
    except ConvndError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise ResourceError(
                "resume", expected="memory for the checkpoint", got="none", remedy="free some"
            ) from error
        raise InputFileError(
            "resume",
            expected=expected,
            got=f"'{error_text(error)}'",
            remedy="remove it to start from the beginning",
        ) from error


def check_state(stored: Mapping[str, Any], x: Tensor) -> None:
    """Check a state of a minimization that was read from a file; the optimizer checks its own.

    Args:
        stored: a result of `State.to_dict`.
        x: a tensor with the shape and type of the optimized one.

    Raises:
        ValueError: it is no such state. Missing entries raise other errors, see `state_errors`.
    """
    if (
        not all(is_number(stored[name]) for name in ("first_loss", "learning_rate"))
        or not stored["learning_rate"] > 0
        or not is_count(stored["rejected_steps"])
        or not isinstance(stored["exact"], bool)
        or not isinstance(stored["losses"], list)
        or not all(map(is_number, stored["losses"]))
    ):
        raise ValueError("no state of a minimization")
    for step in (stored["step"], stored["best"]):
        parts = step["parts"]
        if (
            set(step) != {"index", "loss", "parts", "values"}
            or not (is_count(step["index"]) and is_number(step["loss"]))
            or not (isinstance(parts, dict) and all(map(is_number, parts.values())))
        ):
            raise ValueError("no step of a minimization")
        check_field(step["values"], x.shape, x.dtype)
    check_field(stored["gradient"], x.shape, x.dtype)
    if stored["best_gradient"] is not None:
        check_field(stored["best_gradient"], x.shape, x.dtype)


def check_field(values: object, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> None:
    """Check a stored tensor.

    Raises:
        ValueError: it is no tensor, or of another shape or type.
    """
    if not isinstance(values, Tensor):
        raise ValueError(f"{type(values).__name__} in place of a tensor")
    if tuple(values.shape) != tuple(shape) or values.dtype != dtype:
        raise ValueError(f"a tensor {tuple(values.shape)} of {values.dtype}")
