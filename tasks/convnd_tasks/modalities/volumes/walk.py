"""How far the work on a scan has come, and the walk at one size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, cast

import torch

from convnd.errors import NumericalError, StopSignal
from convnd.optimize import minimize

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.losses import Objective
    from convnd.optimize import Evaluation, Step
    from convnd_tasks.modalities.volumes.objective import SliceObjective

__all__ = ["Course", "walk"]

At = Callable[["Tensor"], "Tensor"]
"""From the optimiser's variables to values."""


@dataclass
class Course:
    """What the work on a scan has come to: all that a checkpoint holds.

    Args:
        scale: number of the size, from 0 (coarse), that the frame behind those done is worked at.
        start: where the walk at this size began ``(1, 1, *S)``, this process's part; None before
            it has.
        terms: names of the style terms of this walk, view by view.
        done: change of each frame that is done, in the scan's units, towards head, front and right;
            this process's part.
        losses: at every step of all frames.
        steps: taken in those that are done.
        rejected_steps: steps that were taken back in walks that are over.
        notes: what people should be told of the walks.
        walk: state of the walk to go on with, see `convnd.optimize.Step`.
    """

    scale: int = 0
    start: Tensor | None = None
    terms: list[list[str]] = field(default_factory=list)
    done: list[Tensor] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    steps: int = 0
    rejected_steps: int = 0
    notes: list[str] = field(default_factory=list)
    walk: dict[str, Any] | None = None

    def state(self, step: Step) -> dict[str, Any]:
        """To make one like this of, that goes on with a step, which it then takes note of anew."""
        kept = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**kept, "losses": self.losses[:-1], "walk": step.state()}

    def resumed(self) -> dict[str, Any] | None:
        """The state to go on with, once: it holds as much as the optimiser does."""
        found, self.walk = self.walk, None
        return found


def walk(
    objective: SliceObjective,
    start: Tensor,
    *,
    steps: int,
    optimizer: str,
    told: Callable[[Step, At], None],
    resume: dict[str, Any] | None = None,
) -> tuple[Tensor, int, BaseException | None]:
    """Downhill from a start.

    Args:
        objective: of this size.
        start: ``(1, 1, *S)``, this process's part.
        steps: to take.
        optimizer: one of `convnd.optimize.OPTIMIZERS`.
        told: is told of every step; what it raises to stop the work ends the walk.
        resume: see `convnd.optimize.minimize`.

    Returns:
        The best on the way, how many steps were taken back, and what ended it before its last step.
    """
    stride = objective.stride()

    def at(way: Tensor) -> Tensor:
        return way.mul(stride).add_(start)

    def evaluate(_: Objective, way: Tensor) -> Evaluation:
        found = objective.evaluate(at(way))
        found.gradient.mul_(stride)
        return found

    lowest, rejected_steps = math.inf, 0
    best: Tensor | None = None
    stopped: BaseException | None = None
    if resume is not None:
        lowest, best = resume["best"]["loss"], resume["best"]["values"].to(start.device)
    steps_taken = minimize(
        cast("Any", objective),  # which it only hands on to the evaluator
        torch.zeros_like(start),
        steps=steps,
        optimizer=optimizer,
        evaluate=evaluate,
        all_reduce=objective.group.all_reduce,
        resume=resume,
    )
    del resume
    try:
        for step in steps_taken:
            rejected_steps = step.rejected_steps
            if step.loss <= lowest:
                lowest, best = step.loss, step.values
            told(step, at)
    except (KeyboardInterrupt, StopSignal, NumericalError) as error:
        stopped = error.with_traceback(None)  # whose frames hold the optimiser's memory
    return start if best is None else at(best), rejected_steps, stopped
