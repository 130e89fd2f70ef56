r"""A network in two parts, each in tiles of its own.

Deep layers see far, so that tiles of theirs have a wide halo, and are coarse, so that they take
little memory. Where a network can be cut, its shallow part :math:`f` is worked on in tiles with the
narrow halo of shallow layers. What it gives at the cut is kept for the whole input, and the terms
behind the cut are an objective :math:`L_d(h)` of that, evaluated in few tiles or in one:

.. math:: \frac{d}{dx} \big(L_s(x) + L_d(f(x))\big)
    = \frac{d}{dx} \big(L_s(x) + \langle f(x), g\rangle\big), \quad g = \frac{dL_d}{dh}

So the deep part comes back as one more linear term of the shallow one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from convnd.losses import INPUT, Objective, Term, Window, tile_index
from convnd.optimize.evaluation.tiles import insert_tile
from convnd.optimize.evaluation.whole import Evaluation, Evaluator, evaluation
from convnd.shapes import Tile
from convnd.stats import Sums

__all__ = ["SplitObjective", "evaluate_sequentially", "independent_parts"]


class _CutLoss:
    r"""The term :math:`\langle h, g\rangle` of the features at the cut."""

    additive = True
    linear = True
    overlap = 0

    def __init__(self, layer: str) -> None:
        self.layer = layer
        self.gradient: Tensor | None = None
        self.origin: Sequence[int] | None = None

    def moved(self, window: Window) -> Window:
        """A window of the layer in what is kept of it."""
        if self.origin is None:
            return window
        return [
            slice(part.start - first, None if part.stop is None else part.stop - first)
            for part, first in zip(window, self.origin, strict=True)
        ]

    def sums(self, features: Tensor, window: Window | None = None) -> Sums:
        assert self.gradient is not None
        gradient = (
            self.gradient if window is None else self.gradient[tile_index(self.moved(window))]
        )
        return Sums((features * gradient).sum(), math.prod(features.shape[2:]))

    def value(self, sums: Sums) -> Tensor:
        return sums.total


class SplitObjective:
    """An objective whose network is cut.

    In the first pass over tiles, last one first, `see` is shown their features; then `turn`
    evaluates the deep part, and in the second pass ``front`` has the gradient of both.

    Args:
        front: the terms before the cut, and one that joins the two; its network ends at the cut.
        deep: the terms behind it, over the features at the cut.
    """

    def __init__(self, front: Objective, deep: Objective) -> None:
        self.front, self.deep = front, deep
        seam = front.terms[-1].loss
        assert isinstance(seam, _CutLoss)
        self._seam = seam
        self._h: Tensor | None = None

    @classmethod
    def of(cls, objective: Objective, size: Sequence[int]) -> SplitObjective | None:
        """The two parts for an input of ``size``; None where the network cannot be cut."""
        cut = objective.backbone.split_at(objective.layers, size)
        if cut is None:
            return None
        name, rest = cut
        before = [term for term in objective.terms if term.loss.layer not in rest.layers]
        behind = [term for term in objective.terms if term.loss.layer in rest.layers]
        joint = Term(name, 1.0, _CutLoss(name))
        return cls(
            Objective(objective.backbone, [*before, joint], precision=objective.precision),
            Objective(rest, behind, precision=objective.precision),
        )

    @property
    def layer(self) -> str:
        """Where the cut is."""
        return self._seam.layer

    def begin(self, origin: Sequence[int] | None = None) -> None:
        """Forget what was seen.

        Args:
            origin: where in the layer the tiles that come begin; None is at its start.
        """
        self._h, self._seam.gradient, self._seam.origin = None, None, origin

    def see(self, tile: Tile, found: Mapping[str, Tensor]) -> None:
        """See a tile's features at the cut; the last tile, which tells where they end, first."""
        window = self._seam.moved(tile.windows[self.layer])
        self._h = insert_tile(found[self.layer], window, self._h)

    def turn(self, evaluate: Evaluator) -> Evaluation:
        """Evaluator the deep part at what was seen of all tiles.

        Args:
            evaluate: of ``deep``.
        """
        h, self._h = self._h, None
        assert h is not None
        found = evaluate(self.deep, h)
        self._seam.gradient = found.gradient
        return found

    def evaluation(
        self,
        totals: Sequence[Sums],
        gradient: Tensor,
        deep: Evaluation,
        x: Tensor,
        agreed: Callable[[Tensor], Tensor] = lambda shares: shares,
    ) -> Evaluation:
        """Both parts together.

        Args:
            totals: of ``front``.
            gradient: of both.
            deep: what `turn` gave.
            x: the iterate.
            agreed: makes numbers those of all processes.
        """
        self._seam.gradient = None
        with torch.no_grad():
            shares = agreed(self.front.value(totals)[1])
            found = evaluation(self.front, shares[:-1].sum(), shares, gradient, x)
        parts = {name: part for name, part in found.parts.items() if name != self.layer}
        # The deep part's gradient is of something else, and in this one already.
        return Evaluation(found.loss, parts, found.gradient).plus(deep, gradient=False)


def independent_parts(objective: Objective) -> list[Objective]:
    """The objective as a sum of some whose networks have nothing in common."""
    groups = objective.backbone.independent_groups(objective.layers)
    if len(groups) < 2:
        return [objective]
    # The input is a kind of its own: what it needs is no halo of a network's.
    return [
        Objective(objective.backbone, terms, precision=objective.precision)
        for group in (*groups, (INPUT,))
        if (terms := [each for each in objective.terms if each.loss.layer in group])
    ]


def evaluate_sequentially(
    evaluate: Evaluator, objectives: Sequence[Objective], x: Tensor
) -> Evaluation:
    """The sum of objectives, evaluated one after the other.

    Args:
        evaluate: of each.
        objectives: at least one, as `independent_parts` gives them.
        x: the iterate.
    """
    first, *others = objectives
    found = evaluate(first, x)
    for each in others:
        found = found.plus(evaluate(each, x))
    return found
