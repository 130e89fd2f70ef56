"""Minimization as a generator of steps, which the caller watches, saves and stops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Unpack

from torch import Tensor

from convnd.errors import UsageError
from convnd.losses import Objective
from convnd.optimize.minimizer import Minimizer, MinimizerArguments
from convnd.optimize.state import Step, state_errors

__all__ = ["minimize"]


def minimize(
    objective: Objective,
    start: Tensor,
    *,
    steps: int,
    tolerance: float = 0.0,
    resume: Mapping[str, Any] | None = None,
    **arguments: Unpack[MinimizerArguments],
) -> Iterator[Step]:
    """Minimize an objective, yielding every evaluated step and finally the best one.

    Each step costs one evaluation. What happens to steps that diverge is described at `Minimizer`.

    Args:
        objective: the function to minimize.
        start: ``(1, C, *S)``, not changed.
        steps: steps to take; ``steps + 1`` are yielded, the start first, and fewer if the objective
            reaches 0 as nearly as float32 can represent it, or almost stops falling.
        tolerance: relative decrease of the loss over ten steps below which the run ends; 0 takes
            all steps.
        resume: `Step.state` of an earlier run with the same arguments. That step is yielded again;
            on a CPU all later ones are the same to the bit as without the interruption.
        **arguments: further arguments of `Minimizer`, such as ``optimizer``.

    Yields:
        Accepted steps. The last one has the values of the best.

    Raises:
        UnknownNameError: no such optimizer.
        UsageError: ``steps`` is negative or ``learning_rate`` is not positive.
        InputFileError: the state to resume from is not that of such a minimization.
        NumericalError: loss or gradient is not finite at the start or after all retries.

    >>> import torch
    >>> from convnd.backbones import VGG, VGG19
    >>> from convnd.losses import Term, TotalVariationLoss
    >>> net = VGG(VGG19.truncate(["relu1_1"]), spatial_dims=1, in_channels=1)
    >>> smooth = Objective(net, [Term("smooth", 1.0, TotalVariationLoss([1.0]))])
    >>> *_, last = minimize(smooth, torch.tensor([[[0.0, 1.0, 0.0, 1.0]]]), steps=20)
    >>> last.index <= 20, last.loss < 1e-6
    (True, True)
    """
    minimizer = Minimizer(objective, start, **arguments)
    return _accepted_steps(minimizer, steps, tolerance, resume)


def _accepted_steps(
    minimizer: Minimizer, steps: int, tolerance: float, resume: Mapping[str, Any] | None
) -> Iterator[Step]:
    """Yield every accepted step, and finally the best one."""
    if steps < 0:
        raise UsageError(
            "minimize",
            expected="steps of at least 0",
            got=f"{steps}",
            remedy="0 evaluates the start alone",
        )
    if resume is None:
        step = minimizer.advance()
    else:
        step = minimizer.resume(resume)
        resume = None
        with state_errors():
            if step.index > steps:
                raise ValueError(f"step {step.index} of {steps}")
    while True:
        is_last = step.index == steps or minimizer.at_minimum() or minimizer.has_settled(tolerance)
        if is_last:
            step = minimizer.finish()
        assert minimizer.state is not None
        # The state refers to the step, so the step that it holds must not refer to the state: a
        # cycle of objects this large must not wait for the garbage collector.
        yield replace(step, state=minimizer.state.to_dict)
        if is_last:
            return
        del step
        step = minimizer.advance()
