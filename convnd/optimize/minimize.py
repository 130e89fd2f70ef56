"""The loop: it yields every step, the caller decides."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from convnd.errors import NumericalError, UsageError
from convnd.losses import Objective
from convnd.optimize.evaluate import Evaluate, evaluate_whole
from convnd.optimize.lbfgs import LBFGS, Add
from convnd.registry import Registry

__all__ = ["HISTORY", "OPTIMIZERS", "Step", "minimize", "settled"]

Make = Callable[[Tensor, float, Add], torch.optim.Optimizer]

# A step counts as diverged when it is this many times above the best, and above the start as well:
# steps without a line search do rise now and then, and near zero everything is many times more.
_DIVERGED = 10.0
_RETRIES = 8

HISTORY = 20
"""Pairs of gradient and step that L-BFGS remembers; 100 cost 600 MiB at 512²."""


def _lbfgs(x: Tensor, rate: float, add: Add) -> torch.optim.Optimizer:
    return LBFGS(x, rate, history=HISTORY, add=add)


def _adam(x: Tensor, rate: float, _: Add) -> torch.optim.Optimizer:
    return torch.optim.Adam([x], lr=rate, betas=(0.9, 0.99))


def _gradient_descent(x: Tensor, rate: float, _: Add) -> torch.optim.Optimizer:
    return torch.optim.SGD([x], lr=rate)


def _alone(number: Tensor) -> Tensor:
    return number


@dataclass(frozen=True)
class _Optimizer:
    make: Make
    rate: float


OPTIMIZERS: Registry[_Optimizer] = Registry("optimizer")
OPTIMIZERS.add("lbfgs", _Optimizer(_lbfgs, 1.0))
OPTIMIZERS.add("adam", _Optimizer(_adam, 0.02))  # of values that span about 1
OPTIMIZERS.add("gradient-descent", _Optimizer(_gradient_descent, 1.0))  # G := G - rate · dJ/dG


@dataclass(frozen=True)
class Step:
    """One evaluated iterate.

    Args:
        index: 0 for the start.
        loss: the objective at `values`.
        parts: weighted share of each term by name.
        values: the iterate ``(1, C, *S)``; later steps do not change it.
        state: all that the walk needs to go on from here, for `minimize`; to be asked for before
            the next step is.
    """

    index: int
    loss: float
    parts: Mapping[str, float]
    values: Tensor
    state: Callable[[], dict[str, Any]] = field(repr=False, compare=False)


def minimize(
    objective: Objective,
    start: Tensor,
    *,
    steps: int,
    optimizer: str = "lbfgs",
    learning_rate: float | None = None,
    evaluate: Evaluate = evaluate_whole,
    add: Add = _alone,
    resume: Mapping[str, Any] | None = None,
) -> Iterator[Step]:
    """Walk downhill from ``start``, yielding every evaluated iterate.

    Each step costs one evaluation, and one more each time it is retaken: a step that is not
    finite or far above the best is taken back, and the walk goes on from the best iterate at half
    the rate, with a fresh memory.

    Args:
        objective: what to make small.
        start: ``(1, C, *S)``; left as it is.
        steps: steps to take; ``steps + 1`` iterates are yielded, the start first.
        optimizer: one of `OPTIMIZERS`.
        learning_rate: of the optimizer; None takes its own.
        evaluate: gives loss and gradient.
        add: where ``start`` is this process's part of an iterate, and ``evaluate`` gives the same
            loss to all processes and this part of the gradient to this one: adds numbers up over
            all of them, see `convnd.optimize.Group`.
        resume: `Step.state` of an earlier walk with the same arguments; it goes on from that step,
            which is yielded again, on a CPU bit by bit as if it had never stopped.

    Raises:
        UnknownNameError: no such optimizer.
        UsageError: ``steps`` or ``learning_rate`` is not positive.
        NumericalError: loss or gradient is not finite at the start, or again and again after
            smaller steps. What was yielded last is the last good iterate.

    >>> from convnd.backbones import VGG, VGG19
    >>> from convnd.losses import Term, TotalVariationLoss
    >>> net = VGG(VGG19.until(["relu1_1"]), spatial_dims=1, in_channels=1)
    >>> smooth = Objective(net, [Term("smooth", 1.0, TotalVariationLoss([1.0]))])
    >>> start = torch.tensor([[[0.0, 1.0, 0.0, 1.0]]])
    >>> *_, last = minimize(smooth, start, steps=20)
    >>> last.index, last.loss < 1e-6
    (20, True)
    """
    chosen = OPTIMIZERS[optimizer]
    rate = chosen.rate if learning_rate is None else learning_rate
    if steps < 0:
        raise UsageError(f"minimize: expected steps of at least 0, got {steps}; correct it")
    if not 0 < rate < math.inf:
        raise UsageError(
            f"minimize: expected a positive finite learning rate, got {rate}; correct it"
        )
    x = start.detach().clone(memory_format=torch.contiguous_format)
    descend = chosen.make(x, rate, add)
    best: Step | None = None
    downhill = x  # the gradient at the best
    first = math.inf
    index = failures = 0

    def state() -> dict[str, Any]:
        assert best is not None
        return {
            "now": _as_dict(step),
            "gradient": gradient,
            "best": _as_dict(best),
            "downhill": downhill,
            "first": first,
            "rate": rate,
            "optimizer": descend.state_dict(),
        }

    while True:
        if resume is not None:
            step, best = (
                Step(**_moved(resume[name], start.device), state=state) for name in ("now", "best")
            )
            x, index, rate, first = step.values.clone(), step.index, resume["rate"], resume["first"]
            gradient = resume["gradient"].to(start.device)
            downhill = resume["downhill"].to(start.device)
            descend = chosen.make(x, rate, add)
            descend.load_state_dict(resume["optimizer"])
            resume = None
            yield step
            if index == steps:
                return
            index += 1
        elif _diverged((found := evaluate(objective, x)).loss, found.gradient, best, first, add):
            if best is None or failures == _RETRIES:
                raise NumericalError(
                    f"minimize: expected a finite loss that falls, got {found.loss:g} at step "
                    f"{index}; use a smaller learning rate, --precision float32, or check the "
                    "input for values that are not finite"
                )
            failures += 1
            rate /= 2
            x = best.values.clone()
            descend = chosen.make(x, rate, add)
            gradient = downhill
        else:
            failures = 0
            step = Step(index, found.loss, found.parts, x.clone(), state)
            gradient = found.gradient
            if best is None:
                first = step.loss
            if best is None or step.loss <= best.loss:
                best, downhill = step, gradient
            yield step
            if index == steps:
                return
            index += 1
        x.grad = gradient.clone()  # optimisers may write into it
        descend.step()


def settled(losses: Sequence[float], *, over: int, tolerance: float) -> bool:
    """Whether a walk has come to rest: over its last steps the loss fell by too little.

    Args:
        losses: at every step so far, the start first.
        over: how many steps are looked back.
        tolerance: the relative decrease over them below which a walk rests.

    >>> settled([8.0, 4.0, 2.0, 1.99], over=1, tolerance=0.01)
    True
    >>> settled([8.0, 4.0, 2.0, 1.99], over=2, tolerance=0.01)
    False
    """
    if len(losses) <= over:
        return False
    before = losses[-1 - over]
    return before - min(losses[-over:]) < tolerance * abs(before)


def _as_dict(step: Step) -> dict[str, Any]:
    return {
        "index": step.index,
        "loss": step.loss,
        "parts": dict(step.parts),
        "values": step.values,
    }


def _moved(kept: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    # A checkpoint is read onto the CPU.
    return {**kept, "values": kept["values"].to(device)}


def _diverged(loss: float, gradient: Tensor, best: Step | None, first: float, add: Add) -> bool:
    if not math.isfinite(loss) or not math.isfinite(add(gradient.sum()).item()):
        return True
    return best is not None and loss > max(_DIVERGED * best.loss, first)
