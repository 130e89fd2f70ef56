r"""Tile by tile, with the same result as in one piece.

An objective is :math:`L = \Phi(\sum_{tiles} s(tile))`, so

.. math:: \frac{dL}{dx} = \sum_{tiles} J_s(tile)^T \, \nabla\Phi\Big(\sum_{tiles} s\Big)

A first pass adds up the statistics and needs no memory for gradients; with :math:`\nabla\Phi`
fixed, a second one takes each tile's part of the gradient. Galerne et al. ("Scaling painting style
transfer", 2024) do so for VGG and Gram matrices in two axes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd.errors import UsageError
from convnd.losses import INPUT, Objective, Window, beginning, own_extent, within
from convnd.optimize.evaluate import Evaluation, evaluate_whole, evaluation
from convnd.optimize.tiler import WHOLE, Tiler, crops, inside
from convnd.shapes import Tile, Tiling
from convnd.stats import Statistic, Sums, adds_up, tile_sums

__all__ = [
    "Forward",
    "RecomputedContent",
    "TiledEvaluation",
    "backward",
    "forward",
    "slopes",
    "tiled_features",
    "tiled_sums",
]

Features = Callable[[Tensor], Mapping[str, Tensor]]


class TiledEvaluation:
    """An `Evaluate` that works tile by tile; a single tile is evaluated whole.

    When memory runs out, it starts again with smaller tiles: what it returns is always complete.

    Args:
        tiler: says which tiles.

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
        layers = (*objective.layers, INPUT)

        def work(tiling: Tiling) -> Evaluation:
            if len(tiling) == 1:
                return evaluate_whole(objective, x)
            tiles = list(tiling)
            before = forward(objective, x, tiles)
            steepness = slopes(objective, before.totals)
            gradient, totals = backward(objective, x, tiles, before, steepness)
            with torch.no_grad():
                return evaluation(objective, *objective.value(totals), gradient)

        size = x.shape[2:]
        return self.tiler.attempt(work, objective.backbone, layers, size, objective.overlaps)


@dataclass(frozen=True)
class Forward:
    """What a first pass over tiles leaves behind.

    Args:
        totals: sums of every term; of a linear one only the count when there are several tiles.
        leaf: the crop of a single tile, and `sums` with the graph that leads to it: nothing is
            computed twice where one graph holds it all.
        sums: likewise.
    """

    totals: Sequence[Sums]
    leaf: Tensor | None = None
    sums: Sequence[Sums] = ()


def forward(objective: Objective, x: Tensor, tiles: Sequence[Tile]) -> Forward:
    """The first pass: sums over the tiles' own positions.

    Args:
        objective: of additive terms.
        x: ``(B, C, *S)``; what tiles are cut out of.
        tiles: at least one.

    Raises:
        UsageError: a term is not additive.
    """
    _check_additive(objective)
    x = x.detach()
    if len(tiles) == 1:
        leaf = x[within(tiles[0].crop)].requires_grad_()
        with torch.enable_grad():
            sums = objective.sums(inside(tiles[0], objective.features(leaf)), tiles[0].windows)
        return Forward(_add(None, [each.detached() for each in sums]), leaf, sums)
    totals: list[Sums] | None = None
    with torch.no_grad():
        for tile in tiles:
            found = inside(tile, objective.features(x[within(tile.crop)]))
            totals = _add(totals, objective.sums(found, tile.windows, slopes=True))
    assert totals is not None
    return Forward(totals)


def slopes(objective: Objective, totals: Sequence[Sums]) -> tuple[Tensor, ...]:
    """The derivative of the loss by the sums of all tiles together."""
    fixed = [Sums(each.total.detach().requires_grad_(), each.count) for each in totals]
    with torch.enable_grad():
        loss, _ = objective.value(fixed)
        return torch.autograd.grad(loss, [each.total for each in fixed])


def backward(
    objective: Objective,
    x: Tensor,
    tiles: Sequence[Tile],
    before: Forward,
    steepness: Sequence[Tensor],
) -> tuple[Tensor, Sequence[Sums]]:
    """The second pass: the tiles' part of the gradient, and their sums, all of them.

    Args:
        objective: as for `forward`, like ``x`` and ``tiles``.
        x: ``(B, C, *S)``.
        tiles: the same.
        before: what `forward` left.
        steepness: see `slopes`.
    """
    x = x.detach()
    gradient = torch.zeros_like(x, memory_format=torch.contiguous_format)
    totals: list[Sums] | None = None
    for tile in tiles:
        leaf, sums = before.leaf, before.sums
        with torch.enable_grad():
            if leaf is None:
                leaf = x[within(tile.crop)].requires_grad_()
                sums = objective.sums(inside(tile, objective.features(leaf)), tile.windows)
            share = torch.stack(
                [(each.total * slope).sum() for each, slope in zip(sums, steepness, strict=True)]
            ).sum()
            (part,) = torch.autograd.grad(share, leaf)
        gradient[within(tile.crop)] += part
        totals = _add(totals, [each.detached() for each in sums])
        del leaf, sums, share, part
    assert totals is not None
    return gradient, totals


class RecomputedContent:
    """Features of the content computed again for every tile, where there is no room to keep them.

    Costs each evaluation one forward pass of the content up to its layer.

    Args:
        features: of a crop, by layer.
        content: ``(B, C, *S)``.
        tiling: of it, for one layer.
        layer: that layer.
        tiles: those whose energy counts; None is all.
    """

    def __init__(
        self,
        features: Features,
        content: Tensor,
        tiling: Tiling,
        layer: str,
        *,
        tiles: Sequence[Tile] | None = None,
    ) -> None:
        self._features = features
        self._content = content
        self._tiling = tiling
        self._layer = layer
        self.channels = 0
        self.energy = 0.0
        with torch.no_grad():
            for _, found in crops(features, content, tiling if tiles is None else tiles):
                values = found[layer]
                self.channels = values.shape[0] * values.shape[1]
                self.energy += float(values.square().sum(dtype=torch.float64))

    def at(self, window: Window | None) -> Tensor:
        """Features in a window of the layer; None is all of it."""
        where = [slice(0, None)] * len(self._tiling.size) if window is None else window
        crop, place = self._tiling.around(self._layer, where)
        with torch.no_grad():
            return self._features(self._content[within(crop)])[self._layer][within(place)]


def tiled_sums(
    features: Features,
    x: Tensor,
    tiling: Tiling,
    statistics: Mapping[str, Statistic],
    *,
    tiles: Sequence[Tile] | None = None,
) -> dict[str, Sums]:
    """Statistics of layers, tile by tile.

    Args:
        features: of a crop, by layer.
        x: ``(B, C, *S)``.
        tiling: of ``x``, with the statistics' overlaps in their layers.
        statistics: for every layer asked for, what is summed.
        tiles: those that are summed over, at least one; None is all.

    Raises:
        UsageError: there are several tiles and the statistic does not add up over them.
    """
    for statistic in statistics.values():
        if len(tiling) > 1 and not adds_up(statistic):
            raise _not_additive(type(statistic).__name__)
    totals: list[Sums] | None = None
    with torch.no_grad():
        for tile, found in crops(features, x, tiling if tiles is None else tiles):
            each = [
                tile_sums(
                    statistic,
                    found[name],
                    own_extent(found[name], tile.windows[name]),
                    beginning(found[name], tile.windows[name]),
                )
                for name, statistic in statistics.items()
            ]
            totals = _add(totals, each)
    assert totals is not None
    return dict(zip(statistics, totals, strict=True))


def tiled_features(
    features: Features, x: Tensor, tiling: Tiling, layers: Sequence[str]
) -> dict[str, Tensor]:
    """The features of whole layers, computed tile by tile.

    Args:
        features: of a crop, by layer.
        x: ``(B, C, *S)``.
        tiling: of ``x``.
        layers: the layers asked for.

    Returns:
        ``(B, C_l, *S_l)`` each, on the device of ``x``.
    """
    whole: dict[str, Tensor] = {}
    with torch.no_grad():
        for index in reversed(range(len(tiling))):  # the last tile tells where layers end
            tile = tiling[index]
            found = inside(tile, features(x[within(tile.crop)]))
            for name in layers:
                values, window = found[name].to(x.device), tile.windows[name]
                if name not in whole:
                    extent = [
                        part.start + each
                        for part, each in zip(window, values.shape[2:], strict=True)
                    ]
                    whole[name] = values.new_empty((*values.shape[:2], *extent))
                whole[name][within(window)] = values
    return whole


def _check_additive(objective: Objective) -> None:
    for term in objective.terms:
        if not getattr(term.loss, "additive", False):
            raise _not_additive(f"the term {term.name}")


def _not_additive(what: str) -> UsageError:
    return UsageError(
        f"tiles: expected sums that add up over tiles, got {what}, which does not say that its do; "
        + WHOLE
    )


def _add(totals: list[Sums] | None, sums: Sequence[Sums]) -> list[Sums]:
    # In float64: there may be many thousands of tiles.
    wide = [Sums(_wide(each.total), each.count) for each in sums]
    if totals is None:
        return wide
    return [one + other for one, other in zip(totals, wide, strict=True)]


def _wide(total: Tensor) -> Tensor:
    return total if total.device.type == "mps" else total.double()
