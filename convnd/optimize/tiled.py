"""Tile by tile, with the same result as in one piece."""

from __future__ import annotations

import torch
from torch import Tensor

from convnd.losses import INPUT, Objective
from convnd.optimize.evaluate import Evaluation, evaluate_whole, evaluation
from convnd.optimize.passes import backward, forward, slopes
from convnd.optimize.seam import Halves
from convnd.optimize.tiler import Tiler
from convnd.shapes import Tiling

__all__ = ["TiledEvaluation"]


class TiledEvaluation:
    """An `Evaluate` that works tile by tile; a single tile is evaluated whole.

    When memory runs out, it starts again with smaller tiles: what it returns is always complete.

    Args:
        tiler: says which tiles, and whether deep layers are worked on by themselves.

    >>> from convnd.backbones import VGG, VGG19
    >>> from convnd.losses import Term, TotalVariationLoss
    >>> net = VGG(VGG19.until(["relu1_1"]), spatial_dims=1, in_channels=1)
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
        if len(several := _apart(objective)) > 1:
            found = self(several[0], x)
            for each in several[1:]:
                found = found.plus(self(each, x))
            return found
        layers: tuple[str, ...] = (*objective.layers, INPUT)

        def work(tiling: Tiling) -> Evaluation:
            room = self.tiler.room(tiling, layers)
            if halves is not None:
                return halves(x, tiling, room=room)
            if len(tiling) == 1:
                return evaluate_whole(objective, x)
            tiles = list(tiling)
            before = forward(objective, x, tiles, room=room)
            steepness = slopes(objective, before.totals)
            gradient, totals = backward(objective, x, tiles, before, steepness)
            with torch.no_grad():
                return evaluation(objective, *objective.value(totals), gradient, x)

        size = x.shape[2:]
        halves = None
        if self.tiler.deep is not None:
            halves = Halves.of(objective, size, TiledEvaluation(self.tiler.deep))
        if halves is not None:
            layers = (*halves.front.layers, INPUT)
        return self.tiler.attempt(work, objective.backbone, layers, size, objective.overlaps)


def _apart(objective: Objective) -> list[Objective]:
    """The objective as a sum of some whose networks have nothing in common."""
    groups = objective.backbone.apart(objective.layers)
    if len(groups) < 2:
        return [objective]
    # The input is a kind of its own: what it needs is no halo of a network's.
    return [
        Objective(objective.backbone, terms, precision=objective.precision)
        for group in (*groups, (INPUT,))
        if (terms := [each for each in objective.terms if each.loss.layer in group])
    ]
