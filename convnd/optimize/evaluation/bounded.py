"""Evaluation of fields that are cut at bounds, or partly replaced by a content."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from convnd.losses import Objective
from convnd.optimize.evaluation.whole import Evaluation, Evaluator

__all__ = ["evaluate_masked", "evaluate_within"]


def evaluate_within(evaluate: Evaluator, bounds: tuple[float, float]) -> Evaluator:
    """Make an evaluator of fields whose values are cut at two bounds.

    A picture is cut when it is written. Without this function values outside of the bounds would
    lower the objective, and the written picture would lack them.

    Args:
        evaluate: computes loss and gradient.
        bounds: the lowest and the highest value.

    Returns:
        An evaluator of the field with its values cut. The gradient is 0 where it would move a value
        that is outside further away; it stays where it moves the value back.

    >>> from convnd.backbones import VGG, VGG19
    >>> from convnd.losses import Term, TotalVariationLoss
    >>> from convnd.optimize import evaluate_whole
    >>> import torch
    >>> net = VGG(VGG19.truncate(["relu1_1"]), spatial_dims=1, in_channels=1)
    >>> smooth = Objective(net, [Term("smooth", 1.0, TotalVariationLoss([1.0]))])
    >>> x = torch.tensor([[[1.5, 1.0, 0.0, -0.5]]])
    >>> evaluate_within(evaluate_whole, (0.0, 1.0))(smooth, x).gradient.sign()
    tensor([[[ 0.,  1., -1.,  0.]]])
    """
    low, high = bounds

    def evaluate_cut(objective: Objective, x: Tensor) -> Evaluation:
        evaluation = evaluate(objective, x.clamp(low, high))
        gradient = evaluation.gradient
        leaves = ((x < low) & (gradient > 0)) | ((x > high) & (gradient < 0))
        return dataclasses.replace(evaluation, gradient=gradient.masked_fill(leaves, 0.0))

    return evaluate_cut


def evaluate_masked(evaluate: Evaluator, content: Tensor, mask: Tensor) -> Evaluator:
    r"""Make an evaluator of fields of which a mask applies only a part to a content.

    .. math:: y = c + m\,(x - c), \qquad \frac{dL}{dx} = m\,\frac{dL}{dy}

    with the content :math:`c` and the mask :math:`m`. What is written is :math:`y`, so that the
    statistics near the border of the mask are those of the written field.

    Args:
        evaluate: computes loss and gradient.
        content: ``(B, C, *S)``.
        mask: share of the field at each position, from 0 to 1, ``(1, 1, *S)`` or ``(B, 1, *S)``.

    >>> import torch
    >>> from convnd.backbones import VGG, VGG19
    >>> from convnd.losses import Term, TotalVariationLoss
    >>> from convnd.optimize import evaluate_whole
    >>> net = VGG(VGG19.truncate(["relu1_1"]), spatial_dims=1, in_channels=1)
    >>> smooth = Objective(net, [Term("smooth", 1.0, TotalVariationLoss([1.0]))])
    >>> x, mask = torch.tensor([[[3.0, 1.0, 0.0]]]), torch.tensor([[[0.0, 1.0, 1.0]]])
    >>> evaluate_masked(evaluate_whole, torch.zeros(1, 1, 3), mask)(smooth, x).gradient.sign()
    tensor([[[ 0.,  1., -1.]]])
    """

    def evaluate_mixed(objective: Objective, x: Tensor) -> Evaluation:
        evaluation = evaluate(objective, torch.lerp(content, x, mask.expand_as(x)))
        return dataclasses.replace(evaluation, gradient=evaluation.gradient * mask)

    return evaluate_mixed
