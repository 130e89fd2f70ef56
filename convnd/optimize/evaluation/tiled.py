"""Evaluation tile by tile, with the same result as in one piece."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from convnd.losses import INPUT, Objective
from convnd.optimize.evaluation.parts import evaluate_sequentially, independent_parts
from convnd.optimize.evaluation.split import CutFeatures, SplitObjective
from convnd.optimize.evaluation.tiler import Tiler
from convnd.optimize.evaluation.two_pass import backward_pass, forward_pass, grad_wrt_sums
from convnd.optimize.evaluation.whole import Evaluation, evaluate_whole, make_evaluation
from convnd.shapes import Tiling

__all__ = ["TiledEvaluation"]


class TiledEvaluation:
    """An `Evaluator` that works tile by tile; a single tile is evaluated whole.

    If memory runs out, the evaluation starts again with smaller tiles.

    Args:
        tiler: chooses the tiles, and whether the network is split in two.

    >>> from convnd.backbones import VGG, VGG19
    >>> from convnd.losses import Term, TotalVariationLoss
    >>> net = VGG(VGG19.truncate(["relu1_1"]), spatial_dims=1, in_channels=1)
    >>> smooth = Objective(net, [Term("smooth", 1.0, TotalVariationLoss([1.0]))])
    >>> evaluate = TiledEvaluation(Tiler(tile=2))
    >>> result = evaluate(smooth, torch.tensor([[[0.0, 1.0, 3.0, 3.0]]]))
    >>> result.loss, result.gradient.tolist()
    (1.25, [[[-0.5, -0.5, 1.0, 0.0]]])
    """

    def __init__(self, tiler: Tiler) -> None:
        self.tiler = tiler

    def __call__(self, objective: Objective, x: Tensor) -> Evaluation:
        """Compute loss and gradient.

        Args:
            objective: the objective.
            x: ``(B, C, *S)``.

        Raises:
            UsageError: several tiles are needed, but a term is not additive or the network cannot
                be run on tiles, see `Tiler`.
            ResourceError: there is too little memory even for the smallest tiles.
        """
        if len(parts := independent_parts(objective)) > 1:
            return evaluate_sequentially(self, parts, x)
        split = None
        if self.tiler.deep_tiler is not None:
            split = SplitObjective.split(objective, x.shape[2:])
        if split is None:
            return self._run(lambda tiling: self._evaluate(objective, x, tiling), objective, x)
        return self._run(lambda tiling: self._evaluate_split(split, x, tiling), split.front, x)

    def _run(
        self, work: Callable[[Tiling], Evaluation], objective: Objective, x: Tensor
    ) -> Evaluation:
        return self.tiler.run_with_retries(
            work, objective.backbone, (*objective.layers, INPUT), x.shape[2:], objective.overlaps
        )

    def _evaluate(self, objective: Objective, x: Tensor, tiling: Tiling) -> Evaluation:
        if len(tiling) == 1:
            return evaluate_whole(objective, x)
        tiles, spare_bytes = list(tiling), self.tiler.spare_bytes(tiling, objective.layers)
        first = forward_pass(objective, x, tiles, spare_bytes=spare_bytes)
        sum_grads = grad_wrt_sums(objective, first.totals)
        gradient, totals = backward_pass(objective, x, tiles, first, sum_grads)
        with torch.no_grad():
            return make_evaluation(objective, *objective.value(totals), gradient, x)

    def _evaluate_split(self, split: SplitObjective, x: Tensor, tiling: Tiling) -> Evaluation:
        assert self.tiler.deep_tiler is not None
        front, tiles = split.front, [*tiling][::-1]  # `CutFeatures` needs the last tile first
        spare_bytes = self.tiler.spare_bytes(tiling, front.layers)
        cut = CutFeatures(split.layer)
        first = forward_pass(front, x, tiles, cut.insert, spare_bytes=spare_bytes)
        deep = TiledEvaluation(self.tiler.deep_tiler)(split.deep, cut.take())
        with split.deep_gradient(deep.gradient):
            sum_grads = grad_wrt_sums(front, first.totals)
            gradient, totals = backward_pass(front, x, tiles, first, sum_grads)
        return split.combine(totals, gradient, deep, x)
