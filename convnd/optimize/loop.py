"""Minimization as a generator of steps, which the caller watches, saves and stops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from convnd.errors import UsageError
from convnd.losses import Objective
from convnd.optimize.base import AllReduce, Precondition
from convnd.optimize.evaluation import Evaluator, evaluate_whole
from convnd.optimize.minimizer import Minimizer
from convnd.optimize.offload import DiskOffload
from convnd.optimize.state import Step, state_errors

__all__ = ["minimize"]


def minimize(
    objective: Objective,
    start: Tensor,
    *,
    steps: int,
    optimizer: str = "lbfgs",
    learning_rate: float | None = None,
    tolerance: float = 0.0,
    evaluate: Evaluator = evaluate_whole,
    all_reduce: AllReduce = lambda number: number,
    offload: DiskOffload | None = None,
    inherit: tuple[dict[str, Any], float] | None = None,
    precondition: Precondition | None = None,
    resume: Mapping[str, Any] | None = None,
) -> Iterator[Step]:
    """Minimize an objective, yielding every evaluated step and finally the best one.

    Each step costs one evaluation. What happens to steps that diverge is described at `Minimizer`.

    Args:
        objective: the function to minimize.
        start: ``(1, C, *S)``, not changed.
        steps: steps to take; ``steps + 1`` are yielded, the start first, and fewer if the objective
            reaches 0 as nearly as float32 can represent it, or almost stops falling.
        optimizer: one of `OPTIMIZERS`.
        learning_rate: of the optimizer; None is its default.
        tolerance: relative decrease of the loss over ten steps below which the run ends; 0 takes
            all steps.
        evaluate: computes loss and gradient.
        all_reduce: adds a number up over all processes, see `convnd.optimize.ProcessGroup`. For
            several processes ``start`` is this one's part of the field, and ``evaluate`` returns
            the loss of the whole field and the gradient of this part.
        offload: stores the steps' values and the moments of Adam; None is memory.
        inherit: ``Step.state()["optimizer"]`` of a run of this optimizer that ended at ``start``
            with a similar objective, and 1; or at another size, and the ratio of the numbers of
            samples. See `Optimizer.inherit`.
        precondition: see `LBFGS`; other optimizers ignore it.
        resume: `Step.state` of an earlier run with the same arguments. That step is yielded again;
            on a CPU all later ones are the same to the bit as without the interruption.

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
    >>> start = torch.tensor([[[0.0, 1.0, 0.0, 1.0]]])
    >>> *_, last = minimize(smooth, start, steps=20)
    >>> last.index <= 20, last.loss < 1e-6
    (True, True)
    """
    minimizer = Minimizer(
        objective,
        start,
        optimizer=optimizer,
        learning_rate=learning_rate,
        evaluate=evaluate,
        all_reduce=all_reduce,
        offload=offload,
        inherit=inherit,
        precondition=precondition,
    )
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
