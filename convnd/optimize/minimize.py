"""The loop: it yields every step, the caller decides."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from convnd.errors import UsageError
from convnd.losses import Objective
from convnd.optimize.adam import Adam
from convnd.optimize.evaluation.whole import Evaluator, evaluate_whole
from convnd.optimize.gradient_descent import Descent, GradientDescent
from convnd.optimize.lbfgs import LBFGS, AllReduce
from convnd.optimize.offload import DiskOffload
from convnd.optimize.step_recovery import StepRecovery
from convnd.registry import Registry

__all__ = ["HISTORY", "OPTIMIZERS", "Step", "has_converged", "minimize"]

Make = Callable[[Tensor, float, AllReduce, DiskOffload], Descent]

# A step counts as diverged when it is this many times above the best, and above the start as well:
# steps without a line search do rise now and then, and near zero everything is many times more.
_DIVERGED = 10.0

HISTORY = 20
"""Pairs of gradient and step that L-BFGS remembers; 100 cost 600 MiB at 512²."""


def _lbfgs(x: Tensor, rate: float, all_reduce: AllReduce, _: DiskOffload) -> Descent:
    return LBFGS(x, rate, history=HISTORY, all_reduce=all_reduce)


def _adam(x: Tensor, rate: float, _: AllReduce, offload: DiskOffload) -> Descent:
    return Adam(x, rate, offload=offload)


def _gradient_descent(x: Tensor, rate: float, _: AllReduce, __: DiskOffload) -> Descent:
    return GradientDescent(x, rate)


def _all_reduce_nothing(number: Tensor) -> Tensor:
    return number


@dataclass(frozen=True)
class _Optimizer:
    make: Make
    rate: float
    copies: int
    """Tensors as large as the iterate that a walk holds during an evaluation; counted."""


OPTIMIZERS: Registry[_Optimizer] = Registry("optimizer")
# All have the iterate, the one before, the best and the gradient; L-BFGS the gradient before, a
# direction and its pairs, Adam two moments.
OPTIMIZERS.add("lbfgs", _Optimizer(_lbfgs, 1.0, 6 + 2 * HISTORY))
OPTIMIZERS.add("adam", _Optimizer(_adam, 0.02, 6))  # of values that span about 1
OPTIMIZERS.add("gradient-descent", _Optimizer(_gradient_descent, 1.0, 4))  # G := G - rate · dJ/dG


@dataclass(frozen=True)
class Step:
    """One evaluated iterate.

    Args:
        index: 0 for the start.
        loss: the objective at `values`.
        parts: weighted share of each term by name.
        values: the iterate ``(1, C, *S)``; later steps do not change it.
        rejected_steps: steps of this walk that were taken back so far.
        note: a line for people, where the walk was set back for the first time before this step,
            or began to compute in float32; else "".
        state: all that the walk needs to go on from here, for `minimize`; to be asked for before
            the next step is. It holds on to the optimiser's memory.
    """

    index: int
    loss: float
    parts: Mapping[str, float]
    values: Tensor
    rejected_steps: int = 0
    note: str = ""
    state: Callable[[], dict[str, Any]] = field(default=dict, repr=False, compare=False)


def minimize(
    objective: Objective,
    start: Tensor,
    *,
    steps: int,
    optimizer: str = "lbfgs",
    learning_rate: float | None = None,
    evaluate: Evaluator = evaluate_whole,
    all_reduce: AllReduce = _all_reduce_nothing,
    offload: DiskOffload | None = None,
    resume: Mapping[str, Any] | None = None,
) -> Iterator[Step]:
    """Walk downhill from ``start``, yielding every evaluated iterate, and the best one at the end.

    A step of L-BFGS that went uphill is yielded as well; the next one starts at the best again
    (`LBFGS.restart_from`). Each step costs one evaluation, and one more each time it is retaken
    (two where the gradient at the best is not kept, as by all but L-BFGS): a step that is not
    finite or far above the best is taken back, and the walk goes on from the best iterate at half
    the rate, with a fresh memory. When that has not helped eight times in a row,
    features are computed in float32 where they were not, at the rate of the best, and eight more
    are tried.

    Args:
        objective: what to make small.
        start: ``(1, C, *S)``; left as it is.
        steps: steps to take; ``steps + 1`` iterates are yielded, the start first.
        optimizer: one of `OPTIMIZERS`.
        learning_rate: of the optimizer; None takes its own.
        evaluate: gives loss and gradient.
        all_reduce: where ``start`` is this process's part of an iterate, and ``evaluate`` gives the
            same loss to all processes and this part of the gradient to this one: adds numbers up
            over all of them, see `convnd.optimize.ProcessGroup`.
        offload: where the values of steps and the moments of Adam are kept; None is in memory. The
            iterates are the same ones.
        resume: `Step.state` of an earlier walk with the same arguments; it goes on from that step,
            which is yielded again, on a CPU bit by bit as if it had never stopped.

    Raises:
        UnknownNameError: no such optimizer.
        UsageError: ``steps`` or ``learning_rate`` is not positive.
        NumericalError: loss or gradient is not finite at the start, or again and again after
            smaller steps, in float32 too. What was yielded last is the last good iterate.

    >>> from convnd.backbones import VGG, VGG19
    >>> from convnd.losses import Term, TotalVariationLoss
    >>> net = VGG(VGG19.truncate(["relu1_1"]), spatial_dims=1, in_channels=1)
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
    offload = DiskOffload.disabled() if offload is None else offload

    def apart(values: Tensor) -> Tensor:
        """An iterate that may be moved in its own memory; else it leaves a step's before it is."""
        return values.clone() if offload else values.detach()

    x = apart(start.detach().contiguous())
    device = x.device
    del start  # it may be as large as all else here, and the caller's only copy
    descend = chosen.make(x, rate, all_reduce, offload)
    best: Step | None = None
    downhill: Tensor | None = None  # the gradient at the best, for those that go back often
    first = math.inf
    recovery = StepRecovery(rate)
    index = 0

    def state() -> dict[str, Any]:
        assert best is not None
        return {
            "now": _as_dict(step),
            "gradient": gradient,
            "best": _as_dict(best),
            "downhill": downhill,
            "first": first,
            "rate": recovery.rate,
            "rejected_steps": recovery.rejected_steps,
            "exact": recovery.exact,
            "optimizer": descend.state,
        }

    while True:
        if resume is not None:
            step, best = (
                Step(**_moved(resume[name], device), rejected_steps=resume["rejected_steps"])
                for name in ("now", "best")
            )
            x, index, first = apart(step.values), step.index, resume["first"]
            same = best.values.equal(step.values)
            step = replace(step, values=offload.store(step.values))
            best = replace(best, values=step.values if same else offload.store(best.values))
            exact = resume["exact"] and objective.exact()
            recovery = StepRecovery(resume["rate"], resume["rejected_steps"], exact=exact)
            gradient = resume["gradient"].to(device)
            downhill = None if resume["downhill"] is None else resume["downhill"].to(device)
            descend = chosen.make(x, recovery.rate, all_reduce, offload)
            descend.load(resume["optimizer"])
            resume = None
            yield replace(step, state=state)
            if index == steps:
                return
            index += 1
        elif _diverged(
            (found := evaluate(objective, x)).loss, found.gradient, best, first, all_reduce
        ):
            if best is None:
                recovery.reject(objective, index, found.loss, started=False)
                continue
            loss, x = found.loss, apart(best.values)
            del found
            while recovery.reject(objective, index, loss, started=True) or downhill is None:
                # The best as it is in float32, which may be another thing.
                found = evaluate(objective, x)
                loss, downhill = found.loss, found.gradient
                if not _diverged(loss, downhill, None, first, all_reduce):
                    best = replace(best, loss=loss, parts=found.parts)
                    break
                if recovery.exact:
                    raise recovery.failure(index, loss)
                downhill = None
            gradient = downhill
            descend = chosen.make(x, recovery.rate, all_reduce, offload)
        else:
            came_from = index if best is None else best.index
            note = recovery.accept(came_from)
            values = offload.store(x) if offload else x.detach()
            step = Step(index, found.loss, found.parts, values, recovery.rejected_steps, note)
            gradient = found.gradient
            del found, values
            if best is None:
                first = step.loss
            if best is None or step.loss <= best.loss:
                best, downhill = step, gradient
            if index == steps and best.loss < step.loss:
                step = replace(step, loss=best.loss, parts=best.parts, values=best.values)
            # The state knows the step, so this one must not know the state: what is so large may
            # not wait for a collector of cycles.
            yield replace(step, state=state)
            if index == steps:
                return
            index += 1
        if not offload:
            x.data = x.data.clone()  # what it was belongs to the step
        x.grad = gradient  # none of the optimisers writes into it
        if isinstance(descend, LBFGS) and step.loss > best.loss:
            assert downhill is not None
            descend.restart_from(best.values, downhill)
        else:
            descend.step()
        # Large, and not needed while the next one is made.
        x.grad = None
        del gradient
        if not isinstance(descend, LBFGS):
            downhill = None


def has_converged(losses: Sequence[float], *, over: int, tolerance: float) -> bool:
    """Whether a walk has come to rest: over its last steps the loss fell by too little.

    Args:
        losses: at every step so far, the start first.
        over: how many steps are looked back.
        tolerance: the relative decrease over them below which a walk rests.

    >>> has_converged([8.0, 4.0, 2.0, 1.99], over=1, tolerance=0.01)
    True
    >>> has_converged([8.0, 4.0, 2.0, 1.99], over=2, tolerance=0.01)
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


def _diverged(
    loss: float, gradient: Tensor, best: Step | None, first: float, all_reduce: AllReduce
) -> bool:
    if not math.isfinite(loss) or not math.isfinite(all_reduce(gradient.sum()).item()):
        return True
    return best is not None and loss > max(_DIVERGED * best.loss, first)
