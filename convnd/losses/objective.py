"""The objective: weighted losses over the features of one backbone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from convnd.backbones import Backbone, Precision
from convnd.errors import UsageError
from convnd.losses.base import INPUT, Term, Window, tile_index, tile_shape
from convnd.stats import Sums

__all__ = ["Objective"]


class Objective:
    r"""A function of additive statistics, :math:`L(x) = \sum_t w_t \Phi_t(\sum_{tiles} s_t)`.

    It holds no iterate and decides nothing about how it is evaluated: `sums` may be asked for
    tile by tile and added up before `value` makes a loss of them (see
    `convnd.optimize.evaluation.whole`).

    Args:
        backbone: gives the features; its parameters are cast to ``precision`` in place.
        terms: the weighted losses.
        precision: number format and layout of the features.

    Raises:
        UsageError: there is no term.
    """

    def __init__(
        self, backbone: Backbone, terms: Sequence[Term], *, precision: Precision | None = None
    ) -> None:
        if not terms:
            raise UsageError("Objective: expected at least one term, got none; add a loss")
        self.backbone = backbone
        self.terms = tuple(terms)
        self.precision = Precision() if precision is None else precision
        self.precision.apply(backbone)
        names = dict.fromkeys(term.loss.layer for term in terms if term.loss.layer != INPUT)
        self.layers = tuple(names)
        # What every term at a layer takes from before its tap need not be mapped at all.
        self.raw = tuple(
            name
            for name in self.layers
            if any(getattr(term.loss, "raw", False) for term in terms if term.loss.layer == name)
        )
        for term in terms:
            if term.loss.layer in self.raw and not getattr(term.loss, "raw", False):
                raise UsageError(
                    f"Objective: expected all terms of {term.loss.layer} before or all behind its "
                    f"tap, got {term.name} behind it; build the others without a tap"
                )
        self.overlaps: dict[str, int] = {}
        for term in terms:
            layer, overlap = term.loss.layer, term.loss.overlap
            self.overlaps[layer] = max(overlap, self.overlaps.get(layer, 0))

    def switch_to_float32(self) -> bool:
        """Compute features in float32 from now on, without shortcuts; False if they are already.

        The weights stay rounded as they were: the targets were computed with these.
        """
        exact = self.precision.exact()
        if exact == self.precision:
            return False
        self.precision = exact
        exact.apply(self.backbone)
        return True

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Features of every layer that a term reads, and the iterate itself as `INPUT`.

        Args:
            x: ``(1, C, *S)``, float32.
        """
        features = (
            self.backbone(self.precision.layout(x), self.layers, raw=self.raw)
            if self.layers
            else {}
        )
        return {**features, INPUT: x}

    def sums(
        self,
        features: Mapping[str, Tensor],
        windows: Mapping[str, Window] | None = None,
        *,
        skip_linear: bool = False,
        known: Sequence[Sums] | None = None,
    ) -> list[Sums]:
        """The additive part of every term.

        Args:
            features: of a tile's own positions, halo cropped, as `features` gives them; with
                `overlaps` more behind them where the layer has them.
            windows: where the tile's own lie in each layer; None is all of it.
            skip_linear: only what the derivative of `value` depends on is wanted: of a linear loss,
                that is the count, and its total is left at 0.
            known: what this gave for ``skip_linear``, so that only the totals left out are missing.
        """
        found = []
        for number, term in enumerate(self.terms):
            if known is not None and not term.loss.linear:
                found.append(known[number])
                continue
            layer, overlap = term.loss.layer, term.loss.overlap
            values, window = features[layer], None if windows is None else windows[layer]
            if window is not None and overlap < self.overlaps[layer]:
                extents = tile_shape(values, window)
                values = values[tile_index([slice(extent + overlap) for extent in extents])]
            if skip_linear and term.loss.linear:
                count = math.prod(tile_shape(values, window))
                found.append(Sums(values.new_zeros((), dtype=torch.float32), count))
            else:
                found.append(term.loss.sums(values, window))
        return found

    def value(self, sums: Sequence[Sums]) -> tuple[Tensor, Tensor]:
        """The loss, and each term's weighted share of it ``(number of terms,)``."""
        shares = torch.stack(
            [
                term.loss.value(part) * term.weight
                for term, part in zip(self.terms, sums, strict=True)
            ]
        )
        return shares.sum(), shares.detach()
