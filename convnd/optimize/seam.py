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
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from convnd.losses import Objective, Term, Window, within
from convnd.optimize.evaluate import Evaluate, Evaluation, evaluation
from convnd.optimize.passes import backward, forward, slopes
from convnd.optimize.tiler import placed
from convnd.shapes import Tile, Tiling
from convnd.stats import Sums

__all__ = ["Halves"]


class _Seam:
    r"""The term :math:`\langle h, g\rangle` of the features at the cut."""

    additive = True
    linear = True
    overlap = 0

    def __init__(self, layer: str) -> None:
        self.layer = layer
        self.gradient: Tensor | None = None

    def sums(self, features: Tensor, window: Window | None = None) -> Sums:
        assert self.gradient is not None
        gradient = self.gradient if window is None else self.gradient[within(window)]
        return Sums((features * gradient).sum(), math.prod(features.shape[2:]))

    def value(self, sums: Sums) -> Tensor:
        return sums.total


class Halves:
    """An objective whose network is cut.

    Args:
        front: the terms before the cut, and one that joins the two; its network ends at the cut.
        deep: the terms behind it, over the features at the cut.
        evaluate: evaluates ``deep``.
    """

    def __init__(self, front: Objective, deep: Objective, evaluate: Evaluate) -> None:
        self.front, self.deep = front, deep
        self._evaluate = evaluate

    @classmethod
    def of(cls, objective: Objective, size: Sequence[int], evaluate: Evaluate) -> Halves | None:
        """The two parts for an input of ``size``; None where the network cannot be cut."""
        cut = objective.backbone.cut(objective.layers, size)
        if cut is None:
            return None
        name, rest = cut
        before = [term for term in objective.terms if term.loss.layer not in rest.layers]
        behind = [term for term in objective.terms if term.loss.layer in rest.layers]
        joint = Term(name, 1.0, _Seam(name))
        return cls(
            Objective(objective.backbone, [*before, joint], precision=objective.precision),
            Objective(rest, behind, precision=objective.precision),
            evaluate,
        )

    def __call__(self, x: Tensor, tiling: Tiling, *, room: float = 0) -> Evaluation:
        """Loss and gradient of ``x``.

        Args:
            x: ``(B, C, *S)``.
            tiling: of ``x``, for the layers of ``front``.
            room: see `convnd.optimize.passes.forward`; it is taken while the deep part is worked
                on.

        Raises:
            UsageError: see `convnd.optimize.TiledEvaluation`, like the other.
            ResourceError: there is too little memory for the deep part.
        """
        seam = self.front.terms[-1].loss
        assert isinstance(seam, _Seam)
        h: Tensor | None = None

        def see(tile: Tile, found: Mapping[str, Tensor]) -> None:
            nonlocal h
            h = placed(found[seam.layer], tile.windows[seam.layer], h)

        tiles = [*tiling][::-1]  # the last one tells where the layer ends
        before = forward(self.front, x, tiles, see, room=room)
        assert h is not None
        deep = self._evaluate(self.deep, h)
        h = None
        seam.gradient = deep.gradient
        gradient, totals = backward(self.front, x, tiles, before, slopes(self.front, before.totals))
        seam.gradient = None
        with torch.no_grad():
            _, shares = self.front.value(totals)
            found = evaluation(self.front, shares[:-1].sum(), shares, gradient, x)
        parts = {name: part for name, part in found.parts.items() if name != seam.layer}
        # The deep part's gradient is of something else, and in this one already.
        return Evaluation(found.loss, parts, found.gradient).plus(deep, gradient=False)
