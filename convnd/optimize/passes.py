r"""The two passes of an evaluation tile by tile.

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
from convnd.losses import Objective, within
from convnd.optimize.tiler import WHOLE, inside
from convnd.shapes import Tile
from convnd.stats import Sums

__all__ = ["Forward", "added", "backward", "forward", "not_additive", "slopes"]

See = Callable[[Tile, Mapping[str, Tensor]], None]


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


def forward(
    objective: Objective, x: Tensor, tiles: Sequence[Tile], see: See | None = None
) -> Forward:
    """The first pass: sums over the tiles' own positions.

    Args:
        objective: of additive terms.
        x: ``(B, C, *S)``; what tiles are cut out of.
        tiles: at least one.
        see: is shown every tile with the features of its own positions.

    Raises:
        UsageError: a term is not additive.
    """
    _check_additive(objective)
    x = x.detach()
    if len(tiles) == 1 and see is None:
        leaf = x[within(tiles[0].crop)].requires_grad_()
        with torch.enable_grad():
            sums = objective.sums(inside(tiles[0], objective.features(leaf)), tiles[0].windows)
        return Forward(added(None, [each.detached() for each in sums]), leaf, sums)
    totals: list[Sums] | None = None
    with torch.no_grad():
        for tile in tiles:
            found = inside(tile, objective.features(x[within(tile.crop)]))
            if see is not None:
                see(tile, found)
            totals = added(totals, objective.sums(found, tile.windows, slopes=True))
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
    gradient = torch.zeros_like(x)
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
        totals = added(totals, [each.detached() for each in sums])
        del leaf, sums, share, part
    assert totals is not None
    return gradient, totals


def _check_additive(objective: Objective) -> None:
    for term in objective.terms:
        if not getattr(term.loss, "additive", False):
            raise not_additive(f"the term {term.name}")


def not_additive(what: str) -> UsageError:
    """The error for a statistic that tiles would change."""
    return UsageError(
        f"tiles: expected sums that add up over tiles, got {what}, which does not say that its do; "
        + WHOLE
    )


def added(totals: list[Sums] | None, sums: Sequence[Sums]) -> list[Sums]:
    """Sums added to those of earlier tiles, in float64: there may be many thousands."""
    wide = [Sums(_wide(each.total), each.count) for each in sums]
    if totals is None:
        return wide
    return [one + other for one, other in zip(totals, wide, strict=True)]


def _wide(total: Tensor) -> Tensor:
    return total if total.device.type == "mps" else total.double()
