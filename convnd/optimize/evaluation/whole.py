"""The basic evaluator: the whole field in one piece.

An evaluator is a function from an objective and a field to a loss and its gradient. Because an
objective is a function of sums over positions, other evaluators give the same result tile by tile
(`convnd.optimize.evaluation.tiled`) or on several processes (`convnd.optimize.distributed`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd.losses import Objective

__all__ = ["Evaluation", "Evaluator", "evaluate_whole", "make_evaluation"]


@dataclass(frozen=True)
class Evaluation:
    """A loss and its gradient.

    Attributes:
        loss: value of the objective.
        parts: weighted share of each term in the loss, by name.
        gradient: gradient of the loss, shaped as the field.
    """

    loss: float
    parts: Mapping[str, float]
    gradient: Tensor

    def add(self, other: Evaluation, *, gradient: bool = True) -> Evaluation:
        """Return the evaluation of the sum of two objectives.

        Args:
            other: evaluation of the other objective at the same field.
            gradient: whether to add its gradient too, in place.
        """
        parts = dict(self.parts)
        for name, part in other.parts.items():
            parts[name] = parts.get(name, 0.0) + part
        total = self.gradient.add_(other.gradient) if gradient else self.gradient
        return Evaluation(self.loss + other.loss, parts, total)


Evaluator = Callable[[Objective, Tensor], Evaluation]
"""Computes loss and gradient of an objective at a field ``(B, C, *S)``."""


def evaluate_whole(objective: Objective, x: Tensor) -> Evaluation:
    """Evaluate in one piece.

    Args:
        objective: the objective.
        x: ``(1, C, *S)``, float32.

    Returns:
        Loss and gradient, which may be infinite or NaN.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        loss, shares = objective.value(objective.sums(objective.features(x)))
        (gradient,) = torch.autograd.grad(loss, x)
    return make_evaluation(objective, loss, shares, gradient, x)


def make_evaluation(
    objective: Objective, loss: Tensor, shares: Tensor, gradient: Tensor, x: Tensor
) -> Evaluation:
    """Convert the tensors of `Objective.value` to an `Evaluation`.

    Args:
        objective: names the shares.
        loss: scalar.
        shares: weighted value of each term of the objective.
        gradient: ``(B, C, *S)``.
        x: the field, whose memory layout the gradient gets.
    """
    total, *values = torch.cat([loss.detach().reshape(1), shares]).tolist()  # one transfer
    parts: dict[str, float] = {}
    for term, value in zip(objective.terms, values, strict=True):
        parts[term.name] = parts.get(term.name, 0.0) + value
    # Optimizers read the gradient as a flat vector, in the order of the field.
    if gradient.stride() != x.stride():
        gradient = torch.empty_like(x).copy_(gradient)
    return Evaluation(total, parts, gradient)
