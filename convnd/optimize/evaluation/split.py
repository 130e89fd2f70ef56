r"""A network split in two parts, each evaluated in tiles of its own.

Deep layers have a large receptive field, so their tiles have a wide halo; but they are coarse and
take little memory. Where a network can be split, its shallow part :math:`f` is computed in tiles
with the narrow halo of shallow layers. Its features at the cut are kept for the whole field, and
the terms behind the cut are an objective :math:`L_d(h)` of these features, evaluated in few tiles
or in one:

.. math:: \frac{d}{dx} \big(L_s(x) + L_d(f(x))\big)
    = \frac{d}{dx} \big(L_s(x) + \langle f(x), g\rangle\big), \quad g = \frac{dL_d}{dh}

The gradient of the deep part thus enters the shallow part as one more linear term.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from convnd.losses import Objective, Term, Window, tile_index
from convnd.optimize.evaluation.tiles import insert_tile
from convnd.optimize.evaluation.whole import Evaluation, make_evaluation
from convnd.shapes import Tile
from convnd.stats import Sums

__all__ = ["CutFeatures", "SplitObjective"]


class _CutLoss:
    r"""The term :math:`\langle h, g\rangle` of the features at the cut."""

    additive = True
    linear = True
    overlap = 0

    def __init__(self, layer: str) -> None:
        self.layer = layer
        self.gradient: Tensor | None = None
        self.origin: Sequence[int] | None = None

    def sums(self, features: Tensor, window: Window | None = None) -> Sums:
        """Return the scalar product over a window of the layer."""
        assert self.gradient is not None
        gradient = self.gradient
        if window is not None:
            gradient = gradient[tile_index(_shift(window, self.origin))]
        return Sums((features * gradient).sum(), math.prod(features.shape[2:]))

    def value(self, sums: Sums) -> Tensor:
        """Return the scalar product."""
        return sums.total


class CutFeatures:
    """The features at the cut, collected tile by tile.

    Args:
        layer: the layer at the cut.
        origin: first position of the region that the tiles cover, along each axis of the layer;
            None is the start of the layer.
    """

    def __init__(self, layer: str, origin: Sequence[int] | None = None) -> None:
        self.layer = layer
        self.origin = origin
        self._values: Tensor | None = None

    def insert(self, tile: Tile, features: Mapping[str, Tensor]) -> None:
        """Add a tile's features. The last tile comes first: it shows where the layer ends."""
        window = _shift(tile.windows[self.layer], self.origin)
        self._values = insert_tile(features[self.layer], window, self._values)

    def take(self) -> Tensor:
        """Return the features of all tiles ``(B, C, *S)``, and forget them."""
        values, self._values = self._values, None
        assert values is not None
        return values


class SplitObjective:
    """An objective whose network is split in two.

    Args:
        front: the terms before the cut and the linear term at it; its network ends at the cut.
        deep: the terms behind the cut, over the features at the cut.
    """

    def __init__(self, front: Objective, deep: Objective) -> None:
        self.front, self.deep = front, deep
        cut_loss = front.terms[-1].loss
        assert isinstance(cut_loss, _CutLoss)
        self._cut_loss = cut_loss

    @classmethod
    def split(cls, objective: Objective, size: Sequence[int]) -> SplitObjective | None:
        """Split an objective of fields of one size; None where its network cannot be split."""
        network_parts = objective.backbone.split_at(objective.layers, size)
        if network_parts is None:
            return None
        layer, deep_part = network_parts
        front = [term for term in objective.terms if term.loss.layer not in deep_part.layers]
        deep = [term for term in objective.terms if term.loss.layer in deep_part.layers]
        cut_term = Term(layer, 1.0, _CutLoss(layer))
        return cls(
            Objective(objective.backbone, [*front, cut_term], precision=objective.precision),
            Objective(deep_part, deep, precision=objective.precision),
        )

    @property
    def layer(self) -> str:
        """The layer at the cut."""
        return self._cut_loss.layer

    @contextlib.contextmanager
    def deep_gradient(
        self, gradient: Tensor, origin: Sequence[int] | None = None
    ) -> Iterator[None]:
        """Return a context in which ``front`` includes the gradient of the deep part.

        Args:
            gradient: gradient of the deep part with respect to the features at the cut.
            origin: position of its first value in the layer; None is the start of the layer.
        """
        self._cut_loss.gradient, self._cut_loss.origin = gradient, origin
        try:
            yield
        finally:
            self._cut_loss.gradient, self._cut_loss.origin = None, None

    def combine(
        self,
        totals: Sequence[Sums],
        gradient: Tensor,
        deep: Evaluation,
        x: Tensor,
        broadcast: Callable[[Tensor], Tensor] = lambda shares: shares,
    ) -> Evaluation:
        """Return the evaluation of the whole objective.

        Args:
            totals: sums of the terms of ``front``.
            gradient: gradient of ``front`` with the deep part's gradient in it.
            deep: evaluation of ``deep``.
            x: the field.
            broadcast: gives all processes the numbers of one.
        """
        with torch.no_grad():
            shares = broadcast(self.front.value(totals)[1])
            front = make_evaluation(self.front, shares[:-1].sum(), shares, gradient, x)
        parts = {name: part for name, part in front.parts.items() if name != self.layer}
        # The deep part's own gradient is one of the features, and already in this one.
        return Evaluation(front.loss, parts, front.gradient).add(deep, gradient=False)


def _shift(window: Window, origin: Sequence[int] | None) -> Window:
    """Return a window of the layer relative to a region of it."""
    if origin is None:
        return window
    return [
        slice(part.start - first, None if part.stop is None else part.stop - first)
        for part, first in zip(window, origin, strict=True)
    ]
