"""Objectives as sums of parts that share no computation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from convnd.losses import INPUT, Objective
from convnd.optimize.evaluation.whole import Evaluation, Evaluator

__all__ = ["evaluate_sequentially", "independent_parts"]


def independent_parts(objective: Objective) -> list[Objective]:
    """Split an objective into parts whose layers share no computation.

    Terms of the input form a part of their own, because they need none of the network's halo.

    Returns:
        At least one objective; their sum is the given one.
    """
    groups = objective.backbone.independent_groups(objective.layers)
    if len(groups) < 2:
        return [objective]
    return [
        Objective(objective.backbone, terms, precision=objective.precision)
        for group in (*groups, (INPUT,))
        if (terms := [term for term in objective.terms if term.loss.layer in group])
    ]


def evaluate_sequentially(
    evaluate: Evaluator, objectives: Sequence[Objective], x: Tensor
) -> Evaluation:
    """Evaluate the sum of objectives, one after the other.

    Args:
        evaluate: evaluates one of them.
        objectives: at least one, see `independent_parts`.
        x: ``(B, C, *S)``.
    """
    first, *remaining = objectives
    total = evaluate(first, x)
    for objective in remaining:
        total = total.add(evaluate(objective, x))
    return total
