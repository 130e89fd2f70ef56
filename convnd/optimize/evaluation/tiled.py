"""Tile by tile, with the same result as in one piece."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from convnd.losses import INPUT, Objective
from convnd.optimize.evaluation.split import (
    SplitObjective,
    evaluate_sequentially,
    independent_parts,
)
from convnd.optimize.evaluation.tiler import Tiler
from convnd.optimize.evaluation.two_pass import backward_pass, forward_pass, grad_wrt_sums
from convnd.optimize.evaluation.whole import Evaluation, evaluate_whole, evaluation
from convnd.shapes import Tiling

__all__ = ["TiledEvaluation"]


class TiledEvaluation:
    """An `Evaluator` that works tile by tile; a single tile is evaluated whole.

    When memory runs out, it starts again with smaller tiles: what it returns is always complete.

    Args:
        tiler: says which tiles, and whether deep layers are worked on by themselves.

    >>> from convnd.backbones import VGG, VGG19
    >>> from convnd.losses import Term, TotalVariationLoss
    >>> net = VGG(VGG19.truncate(["relu1_1"]), spatial_dims=1, in_channels=1)
    >>> smooth = Objective(net, [Term("smooth", 1.0, TotalVariationLoss([1.0]))])
    >>> found = TiledEvaluation(Tiler(tile=2))(smooth, torch.tensor([[[0.0, 1.0, 3.0, 3.0]]]))
    >>> found.loss, found.gradient.tolist()
    (1.25, [[[-0.5, -0.5, 1.0, 0.0]]])
    """

    def __init__(self, tiler: Tiler) -> None:
        self.tiler = tiler

    def __call__(self, objective: Objective, x: Tensor) -> Evaluation:
        """Loss and gradient of ``x`` ``(B, C, *S)``.

        Raises:
            UsageError: several tiles are needed, but a term is not additive, or see `Tiler`.
            ResourceError: there is too little memory even for the smallest tiles.
        """
        if len(several := independent_parts(objective)) > 1:
            return evaluate_sequentially(self, several, x)
        size = x.shape[2:]
        halves = None if self.tiler.deep_tiler is None else SplitObjective.of(objective, size)
        if halves is not None:
            return self._attempt(lambda tiling: self._in_halves(halves, x, tiling), halves.front, x)
        return self._attempt(lambda tiling: self._at_once(objective, x, tiling), objective, x)

    def _attempt(
        self, work: Callable[[Tiling], Evaluation], objective: Objective, x: Tensor
    ) -> Evaluation:
        layers = (*objective.layers, INPUT)
        return self.tiler.run_with_retries(
            work, objective.backbone, layers, x.shape[2:], objective.overlaps
        )

    def _at_once(self, objective: Objective, x: Tensor, tiling: Tiling) -> Evaluation:
        if len(tiling) == 1:
            return evaluate_whole(objective, x)
        tiles, room = list(tiling), self.tiler.spare_bytes(tiling, objective.layers)
        before = forward_pass(objective, x, tiles, room=room)
        sum_grads = grad_wrt_sums(objective, before.totals)
        gradient, totals = backward_pass(objective, x, tiles, before, sum_grads)
        with torch.no_grad():
            return evaluation(objective, *objective.value(totals), gradient, x)

    def _in_halves(self, halves: SplitObjective, x: Tensor, tiling: Tiling) -> Evaluation:
        assert self.tiler.deep_tiler is not None
        front, tiles = halves.front, [*tiling][::-1]
        halves.begin()
        before = forward_pass(
            front, x, tiles, halves.see, room=self.tiler.spare_bytes(tiling, front.layers)
        )
        deep = halves.turn(TiledEvaluation(self.tiler.deep_tiler))
        gradient, totals = backward_pass(
            front, x, tiles, before, grad_wrt_sums(front, before.totals)
        )
        return halves.evaluation(totals, gradient, deep, x)
