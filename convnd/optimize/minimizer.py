"""One minimization: moves, evaluates, accepts or rejects, and continues from a stored state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.linalg import vector_norm

from convnd.errors import UsageError
from convnd.losses import Objective
from convnd.optimize.base import AllReduce, Optimizer, Precondition
from convnd.optimize.evaluation import Evaluation, Evaluator, evaluate_whole
from convnd.optimize.offload import DiskOffload
from convnd.optimize.optimizers import HISTORY, OPTIMIZERS
from convnd.optimize.state import State, Step, check_state, state_errors
from convnd.optimize.step_recovery import StepRecovery

__all__ = ["Minimizer", "MinimizerArguments", "has_converged"]

# A step has diverged when its loss is this many times the best one, and above the first one as
# well: steps without a line search rise now and then, and near zero every loss is many times more.
_DIVERGED = 10.0
_EPSILON = torch.finfo(torch.float32).eps
# Multiples of the rounding of x to which the rounding of features amounts. For a signal compared
# with itself it was 1 to 3.
_NOISE = 64

_SETTLE_OVER = 10
"""Steps over which the decrease of the loss is compared with the tolerance. A step of L-BFGS may
raise the loss, and the first one hardly moves."""

_FIRST_MOVE = 0.05
"""Root mean square of the first move of gradient descent where its learning rate was too large, for
values that span about 1."""


class MinimizerArguments(TypedDict, total=False):
    """The optional arguments of `Minimizer`, which `minimize` passes on."""

    optimizer: str
    learning_rate: float | None
    evaluate: Evaluator
    all_reduce: AllReduce
    offload: DiskOffload | None
    inherit: tuple[dict[str, Any], float] | None
    precondition: Precondition | None
    history: int


class Minimizer:
    """Moves a tensor downhill, one accepted step at a time; `minimize` is the generator on top.

    A step that is not finite, or whose loss is far above the best one, is rejected: the run
    continues from the best step at half the learning rate with an empty optimizer state. After
    eight rejections in a row features are computed in float32, if they were not, at the learning
    rate of the best step, and eight more are tried. A rejected step costs one more evaluation, or
    two with optimizers that do not keep the gradient of the best step (all but L-BFGS). A step of
    L-BFGS that only raised the loss is accepted, and the next one starts from the best step again
    (`LBFGS.restart_from`).

    Args:
        objective: the function to minimize.
        start: ``(1, C, *S)``, not changed. One of several processes gives its part of the field.
        optimizer: one of `OPTIMIZERS`.
        learning_rate: learning rate of the optimizer; None is its default.
        evaluate: computes the loss of the whole field, and the gradient of ``start``.
        all_reduce: adds up a number over all processes, see `convnd.optimize.ProcessGroup`.
        offload: stores the steps' values and the moments of Adam; None is memory.
        inherit: ``Step.state()["optimizer"]`` of a run of this optimizer that ended at ``start``
            with a similar objective, and 1; or at another size, and the ratio of the numbers of
            samples. See `Optimizer.inherit`.
        precondition: preconditioner of `LBFGS`; other optimizers ignore it.
        history: number of pairs that `LBFGS` remembers; other optimizers ignore it.

    Raises:
        UnknownNameError: no such optimizer.
        UsageError: ``learning_rate`` is not positive.

    Attributes:
        state: None before the first step.
    """

    def __init__(
        self,
        objective: Objective,
        start: Tensor,
        *,
        optimizer: str = "lbfgs",
        learning_rate: float | None = None,
        evaluate: Evaluator = evaluate_whole,
        all_reduce: AllReduce = lambda number: number,
        offload: DiskOffload | None = None,
        inherit: tuple[dict[str, Any], float] | None = None,
        precondition: Precondition | None = None,
        history: int = HISTORY,
    ) -> None:
        spec = OPTIMIZERS[optimizer]
        rate = spec.learning_rate if learning_rate is None else learning_rate
        if not 0 < rate < math.inf:
            raise UsageError(
                "minimize",
                expected="a positive finite learning rate",
                got=f"{rate}",
                remedy=f"the default of {optimizer} is {spec.learning_rate:g}",
            )
        self._objective = objective
        self._evaluate = evaluate
        self._all_reduce = all_reduce
        self._offload = DiskOffload.disabled() if offload is None else offload
        self._make = spec.make
        self._parts = all_reduce, self._offload, precondition, history
        self._recovery = StepRecovery(rate)
        self._optimizer = self._make_optimizer(self._variable(start.detach().contiguous()))
        if inherit is not None:
            self._optimizer.inherit(*inherit)
        self.state: State | None = None

    def advance(self) -> Step:
        """Move and evaluate until a step is accepted, and return it.

        Raises:
            NumericalError: see `minimize`.
        """
        if self.state is not None:
            self._move(self.state)
        while True:
            evaluation = self._evaluate(self._objective, self._optimizer.x)
            if not self._diverged(evaluation, self.state):
                return self.accept(evaluation)
            loss = evaluation.loss
            del evaluation  # its gradient is as large as x
            self.reject(loss)

    def accept(self, evaluation: Evaluation) -> Step:
        """Make the present ``x`` the next step.

        Args:
            evaluation: loss and gradient at ``x``.
        """
        x, state = self._optimizer.x, self.state
        index = 0 if state is None else state.step.index + 1
        note = self._recovery.accept(0 if state is None else state.best.index)
        step = Step(
            index,
            evaluation.loss,
            evaluation.parts,
            self._offload.store(x) if self._offload else x.detach(),
            self._recovery.rejected_steps,
            note,
        )
        gradient = evaluation.gradient
        if state is None:
            self.state = State(
                step,
                gradient,
                step,
                gradient,
                step.loss,
                self._recovery,
                self._optimizer,
                [step.loss],
            )
            return step
        state.step, state.gradient = step, gradient
        state.losses = [*state.losses, step.loss][-1 - _SETTLE_OVER :]
        if step.loss <= state.best.loss:
            state.best, state.best_gradient = step, gradient
        return step

    def reject(self, loss: float) -> None:
        """Return to the best step with a smaller learning rate or in float32, and move from there.

        Args:
            loss: the loss of the rejected step.

        Raises:
            NumericalError: no retry is left.
        """
        state, recovery = self.state, self._recovery
        if state is None:
            recovery.reject(self._objective, 0, loss, started=False)
            return
        index = state.step.index + 1
        x = self._variable(state.best.values)
        while (
            recovery.reject(self._objective, index, loss, started=True)
            or state.best_gradient is None
        ):
            # In float32 the best step has another loss and another gradient.
            evaluation = self._evaluate(self._objective, x)
            loss, state.best_gradient = evaluation.loss, evaluation.gradient
            if not self._diverged(evaluation, None):
                state.best = replace(state.best, loss=loss, parts=evaluation.parts)
                break
            if recovery.exact:
                raise recovery.failure(index, loss)
            state.best_gradient = None
        state.gradient = state.best_gradient
        steep = recovery.halvings_have_failed and self._optimizer.follows_gradient_scale
        if state.step.index == 0 and steep:
            recovery.limit_rate(_FIRST_MOVE / self._root_mean_square(state.best_gradient))
        self._optimizer = state.optimizer = self._make_optimizer(x)
        self._move(state)

    def at_minimum(self) -> bool:
        r"""Return whether the objective is 0 as nearly as float32 can represent it.

        To first order, the objective reaches 0 at a distance of :math:`f / \lVert g \rVert` along
        its gradient :math:`g` (the step of Polyak, 1987). The units of the objective do not matter.
        A distance of a few times the rounding of ``x``, :math:`\varepsilon \lVert x \rVert`, is
        noise. After the start, the objective must also have fallen to its rounding error,
        :math:`\varepsilon f_0`.
        """
        state = self.state
        if state is None or state.gradient is None:
            return False
        if state.step.index > 0 and state.step.loss > _EPSILON * state.first_loss:
            return False
        norms = torch.stack([vector_norm(values) for values in (self._optimizer.x, state.gradient)])
        x_norm, gradient_norm = self._all_reduce(norms.square()).sqrt().tolist()
        return bool(0 <= state.step.loss <= _NOISE * _EPSILON * x_norm * gradient_norm)

    def has_settled(self, tolerance: float) -> bool:
        """Return whether the loss has almost stopped falling.

        Args:
            tolerance: relative decrease over ten steps below which the loss has settled; 0 means
                never.
        """
        assert self.state is not None
        return tolerance > 0 and has_converged(
            self.state.losses, over=_SETTLE_OVER, tolerance=tolerance
        )

    def finish(self) -> Step:
        """Make the best step's values those of the last step, and return it."""
        state = self.state
        assert state is not None
        if state.best.loss < state.step.loss:
            best = state.best
            state.step = replace(state.step, loss=best.loss, parts=best.parts, values=best.values)
        return state.step

    def resume(self, stored: Mapping[str, Any]) -> Step:
        """Continue from a stored state.

        Args:
            stored: a result of `State.to_dict`, with tensors on any device.

        Returns:
            The last accepted step.

        Raises:
            InputFileError: the state is not that of such a minimization.
        """
        x = self._optimizer.x
        with state_errors():
            check_state(stored, x)
        step, best = (
            Step(
                **{**stored[name], "values": stored[name]["values"].to(x.device)},
                rejected_steps=stored["rejected_steps"],
            )
            for name in ("step", "best")
        )
        exact = stored["exact"] and self._objective.switch_to_float32()
        self._recovery = StepRecovery(
            stored["learning_rate"], stored["rejected_steps"], exact=exact
        )
        self._optimizer = self._make_optimizer(self._variable(step.values))
        with state_errors():
            self._optimizer.load(stored["optimizer"])
        is_best = best.values.equal(step.values)
        step = replace(step, values=self._offload.store(step.values))
        best_values = step.values if is_best else self._offload.store(best.values)
        best_gradient = stored["best_gradient"]
        self.state = State(
            step,
            stored["gradient"].to(x.device),
            replace(best, values=best_values),
            None if best_gradient is None else best_gradient.to(x.device),
            stored["first_loss"],
            self._recovery,
            self._optimizer,
            stored["losses"],
        )
        return step

    def _root_mean_square(self, gradient: Tensor) -> float:
        """The root mean square of a gradient over all processes."""
        squares = self._all_reduce(gradient.double().square().sum())
        count = self._all_reduce(gradient.new_tensor(gradient.numel(), dtype=torch.float64))
        return max(float((squares / count).sqrt()), 1e-300)

    def _move(self, state: State) -> None:
        optimizer = self._optimizer
        x = optimizer.x
        if not self._offload:
            x.data = x.data.clone()  # the old memory belongs to the step
        # Gradients are large: nothing keeps one longer than it is needed.
        x.grad, state.gradient = state.gradient, None  # optimizers do not write into it
        if optimizer.restarts_from_best and state.step.loss > state.best.loss:
            assert state.best_gradient is not None
            optimizer.restart_from(state.best.values, state.best_gradient)
        else:
            optimizer.step()
        x.grad = None
        if not optimizer.restarts_from_best:
            state.best_gradient = None

    def _diverged(self, evaluation: Evaluation, state: State | None) -> bool:
        loss, gradient = evaluation.loss, evaluation.gradient
        if not math.isfinite(loss) or not math.isfinite(self._all_reduce(gradient.sum()).item()):
            return True
        return state is not None and loss > max(_DIVERGED * state.best.loss, state.first_loss)

    def _variable(self, values: Tensor) -> Tensor:
        """Return a step's values as the tensor that the optimizer moves.

        Without `DiskOffload` both share memory until `_move`, which copies before it changes them.
        """
        return values.clone() if self._offload else values.detach()

    def _make_optimizer(self, x: Tensor) -> Optimizer:
        return self._make(x, self._recovery.learning_rate, *self._parts)


def has_converged(losses: Sequence[float], *, over: int, tolerance: float) -> bool:
    """Return whether the loss has almost stopped falling.

    Args:
        losses: the losses of all steps so far, the start first.
        over: number of last steps to compare over.
        tolerance: relative decrease over these steps below which the run has converged.

    >>> has_converged([8.0, 4.0, 2.0, 1.99], over=1, tolerance=0.01)
    True
    >>> has_converged([8.0, 4.0, 2.0, 1.99], over=2, tolerance=0.01)
    False
    """
    if len(losses) <= over:
        return False
    reference = losses[-1 - over]
    return reference - min(losses[-over:]) < tolerance * abs(reference)
