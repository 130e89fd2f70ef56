"""From an objective and an iterate to a loss and its gradient.

An evaluator is any function of this module's type `Evaluator`. The one here takes the input whole.
Because objectives are functions of sums, others fit in without any other room knowing, see
`convnd.optimize.evaluation.tiled`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd.losses import Objective

__all__ = ["Evaluation", "Evaluator", "evaluate_whole", "evaluation"]


@dataclass(frozen=True)
class Evaluation:
    """A loss and its gradient at one iterate.

    Args:
        loss: the objective's value.
        parts: weighted share of each term by name.
        gradient: of the loss, shaped as the iterate.
    """

    loss: float
    parts: Mapping[str, float]
    gradient: Tensor

    def plus(self, other: Evaluation, *, gradient: bool = True) -> Evaluation:
        """Of two sums of terms together.

        Args:
            other: at the same iterate.
            gradient: add its gradient, too, in the memory of this one.
        """
        parts = dict(self.parts)
        for name, part in other.parts.items():
            parts[name] = parts.get(name, 0.0) + part
        both = self.gradient.add_(other.gradient) if gradient else self.gradient
        return Evaluation(self.loss + other.loss, parts, both)


Evaluator = Callable[[Objective, Tensor], Evaluation]


def evaluate_whole(objective: Objective, x: Tensor) -> Evaluation:
    """Evaluator in one piece.

    Args:
        objective: what to evaluate.
        x: ``(1, C, *S)``, float32.

    Returns:
        Loss and gradient; neither is checked for being finite.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        loss, shares = objective.value(objective.sums(objective.features(x)))
        (gradient,) = torch.autograd.grad(loss, x)
    return evaluation(objective, loss, shares, gradient, x)


def evaluation(
    objective: Objective, loss: Tensor, shares: Tensor, gradient: Tensor, x: Tensor
) -> Evaluation:
    """What `Objective.value` gave, as numbers.

    Args:
        objective: names the shares.
        loss: scalar.
        shares: one for each term.
        gradient: ``(B, C, *S)``.
        x: the iterate, whose layout in memory the gradient is to have.
    """
    total, *values = torch.cat([loss.detach().reshape(1), shares]).tolist()  # one transfer
    parts: dict[str, float] = {}
    for term, value in zip(objective.terms, values, strict=True):
        parts[term.name] = parts.get(term.name, 0.0) + value
    # Optimisers read the gradient as a flat vector, in the order of the iterate.
    if gradient.stride() != x.stride():
        gradient = torch.empty_like(x).copy_(gradient)
    return Evaluation(total, parts, gradient)
