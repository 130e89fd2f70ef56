"""The objective: weighted losses over the features of one backbone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from convnd.backbones import Backbone, Precision
from convnd.errors import UsageError
from convnd.losses.base import INPUT, Term, Window, tile_index, tile_shape
from convnd.nn.pad import wrapped_crop
from convnd.stats import Sums

__all__ = ["Objective"]


class Objective:
    r"""A weighted sum of losses, each a function of additive statistics.

    .. math:: L(x) = \sum_t w_t\, \Phi_t\Big(\sum_{tiles} s_t(tile)\Big)

    The objective does not hold the field ``x``. An evaluator cuts it into tiles, adds up their
    `sums`, and calls `value` (see `convnd.optimize.evaluation`).

    Args:
        backbone: computes the features; it does not change.
        terms: the weighted losses.
        precision: number format and memory layout of the features; None is that of ``backbone``.
            A backbone of another precision is copied.

    Attributes:
        layers: the layers that terms read, without `INPUT`.
        raw: the layers whose features are read before their projection, see
            `convnd.backbones.Backbone.projection`.
        overlaps: number of positions after a tile that its sums read, by layer.

    Raises:
        UsageError: there is no term, terms of one layer read it before and after its projection,
            or a module of another precision cannot be copied.

    >>> from convnd.backbones import VGG, VGG19
    >>> from convnd.losses import ContentLoss
    >>> net, x = VGG(VGG19.truncate(["relu1_1"])), torch.zeros(1, 3, 8, 8)
    >>> content = ContentLoss(net(x, ["relu1_1"])["relu1_1"], layer="relu1_1")
    >>> objective = Objective(net, [Term("content", 1.0, content)])
    >>> loss, shares = objective.value(objective.sums(objective.features(x)))
    >>> loss.item(), shares.tolist()
    (0.0, [0.0])
    """

    def __init__(
        self, backbone: Backbone, terms: Sequence[Term], *, precision: Precision | None = None
    ) -> None:
        if not terms:
            raise UsageError(
                "Objective", expected="at least one term", got="none", remedy="add a loss"
            )
        self.terms = tuple(terms)
        self.precision = Precision.of(backbone) if precision is None else precision
        self.backbone = self.precision.convert(backbone)
        names = dict.fromkeys(term.loss.layer for term in terms if term.loss.layer != INPUT)
        self.layers = tuple(names)
        # If all terms of a layer read it before its projection, the projection is not computed.
        self.raw = tuple(
            name
            for name in self.layers
            if any(getattr(term.loss, "raw", False) for term in terms if term.loss.layer == name)
        )
        for term in terms:
            if term.loss.layer in self.raw and not getattr(term.loss, "raw", False):
                raise UsageError(
                    "Objective",
                    expected=f"all terms of {term.loss.layer} before or all after its projection",
                    got=f"{term.name} after it",
                    remedy="build the others without projection",
                )
        self.overlaps: dict[str, int] = {}
        for term in terms:
            layer, overlap = term.loss.layer, term.loss.overlap
            self.overlaps[layer] = max(overlap, self.overlaps.get(layer, 0))

    def switch_to_float32(self) -> bool:
        """Compute features in float32 from now on, without approximations.

        The weights remain rounded to the former precision, since targets were computed with it.

        Returns:
            Whether the precision changed.
        """
        exact = self.precision.exact()
        if exact == self.precision:
            return False
        self.precision = exact
        self.backbone = exact.convert(self.backbone)
        return True

    def features(self, x: Tensor, *, cut_axes: tuple[int, ...] = ()) -> dict[str, Tensor]:
        """Return the features of every layer that a term reads, and the field itself as `INPUT`.

        Args:
            x: ``(1, C, *S)``, float32.
            cut_axes: axes along which ``x`` is a crop of a periodic field with a halo.
        """
        backbone = self.backbone.cut_along(cut_axes)
        features = (
            backbone(self.precision.layout(x), self.layers, raw=self.raw) if self.layers else {}
        )
        return {**features, INPUT: x}

    def sums(
        self,
        features: Mapping[str, Tensor],
        windows: Mapping[str, Window] | None = None,
        *,
        skip_linear: bool = False,
        partial_sums: Sequence[Sums] | None = None,
    ) -> list[Sums]:
        """Return the sums of every term over a tile.

        Args:
            features: features of a tile without halo, followed by `overlaps` positions where the
                layer has them.
            windows: positions of the tile in each layer; None is the whole layer.
            skip_linear: whether to leave the totals of linear losses at 0. The derivative of
                `value` does not depend on them.
            partial_sums: result of an earlier call with ``skip_linear`` for the same tile; only the
                totals of linear losses are then computed.

        Raises:
            ShapeError: features and a target do not match.
        """
        sums = []
        for number, term in enumerate(self.terms):
            if partial_sums is not None and not term.loss.linear:
                sums.append(partial_sums[number])
                continue
            layer, overlap = term.loss.layer, term.loss.overlap
            values, window = features[layer], None if windows is None else windows[layer]
            if overlap and self.backbone.periodic:
                values, window = _continue(values, window, overlap)
            if window is not None and overlap < self.overlaps[layer]:
                extents = tile_shape(values, window)
                values = values[tile_index([slice(extent + overlap) for extent in extents])]
            if skip_linear and term.loss.linear:
                count = math.prod(tile_shape(values, window))
                sums.append(Sums(values.new_zeros((), dtype=torch.float32), count))
            else:
                sums.append(term.loss.sums(values, window))
        return sums

    def value(self, sums: Sequence[Sums]) -> tuple[Tensor, Tensor]:
        """Return the loss, a scalar, and the weighted loss of each term, ``(number of terms,)``.

        Args:
            sums: sums of every term over all tiles.
        """
        shares = torch.stack(
            [
                term.loss.value(part) * term.weight
                for term, part in zip(self.terms, sums, strict=True)
            ]
        )
        return shares.sum(), shares.detach()


def _continue(
    features: Tensor, window: Window | None, overlap: int
) -> tuple[Tensor, tuple[slice, ...]]:
    """Continue a periodic layer with its first positions, along the axes that are not cut.

    Args:
        features: ``(B, C, *S)``.
        window: positions of the tile in the layer; None is the whole layer.
        overlap: number of positions to add.

    Returns:
        The features, and the window with the ends of the layer.
    """
    window = [slice(0, None)] * (features.ndim - 2) if window is None else window
    extents = features.shape[2:]
    crop = [
        slice(0, n + (overlap if part.stop is None else 0))
        for n, part in zip(extents, window, strict=True)
    ]
    ends = [
        slice(part.start, n if part.stop is None else part.stop)
        for n, part in zip(extents, window, strict=True)
    ]
    return wrapped_crop(features, crop), tuple(ends)
