r"""The two passes of an evaluation tile by tile.

An objective is :math:`L = \Phi(\sum_{tiles} s(tile))`, so

.. math:: \frac{dL}{dx} = \sum_{tiles} J_s(tile)^T \, \nabla\Phi\Big(\sum_{tiles} s\Big)

The first pass adds up the sums of all tiles and needs no memory for gradients. The second pass,
with :math:`\nabla\Phi` known, adds up each tile's part of the gradient. Galerne et al. ("Scaling
painting style transfer", 2024) do so for VGG and Gram matrices in two dimensions. As far as memory
allows, the first pass keeps the graphs of its first tiles, and the second computes only the others
again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from convnd.errors import UsageError
from convnd.losses import Objective
from convnd.nn.pad import wrapped_crop
from convnd.optimize.evaluation.tileable import WHOLE
from convnd.optimize.evaluation.tiles import add_crop, strip_halo
from convnd.shapes import Tile
from convnd.stats import Sums

__all__ = [
    "FirstPass",
    "add_sums",
    "backward_pass",
    "forward_pass",
    "grad_wrt_sums",
    "not_additive_error",
]

OnTile = Callable[[Tile, Mapping[str, Tensor]], None]
"""Receives a tile and the features of its own positions by layer."""


@dataclass(frozen=True)
class _SavedTile:
    """A tile after the first pass, with its graph if one was built.

    Sums of linear losses have only their count: what they compare with may be known only after the
    first pass. They are left out without a graph too, because the order of operations decides on
    the last digits of the result.
    """

    crop: Tensor
    features: Mapping[str, Tensor]
    sums: Sequence[Sums]


@dataclass(frozen=True)
class FirstPass:
    """Result of `forward_pass`.

    Attributes:
        totals: sums of every term over all tiles; of a linear loss only the count. Empty without
            tiles.
        saved: the first tiles with their graphs; `backward_pass` removes them.
    """

    totals: Sequence[Sums]
    saved: deque[_SavedTile] = field(default_factory=deque)


class _GraphMemory:
    """Counts the bytes of tensors that graphs save for the backward pass."""

    def __init__(self, excluded: Tensor) -> None:
        self.bytes = 0
        self._counted = {excluded.untyped_storage().data_ptr()}

    def counting(self) -> saved_tensors_hooks:
        """Return a context in which the tensors saved by graphs are counted."""
        return saved_tensors_hooks(self._count, lambda tensor: tensor)

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._counted:
            self._counted.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor.detach()  # an output would refer to the graph that refers to it


def forward_pass(
    objective: Objective,
    x: Tensor,
    tiles: Sequence[Tile],
    on_tile: OnTile | None = None,
    *,
    spare_bytes: float = 0,
) -> FirstPass:
    """Add up the sums of all tiles.

    Args:
        objective: an objective of additive losses.
        x: ``(B, C, *S)``, the field that tiles are cut out of.
        tiles: the tiles.
        on_tile: is called with every tile and the features of its own positions.
        spare_bytes: memory for the graphs of the first tiles, in addition to one tile of work. Any
            number above 0 is enough for one tile.

    Raises:
        UsageError: a loss is not additive.
    """
    _check_additive(objective)
    x = x.detach()
    totals: list[Sums] = []
    saved: deque[_SavedTile] = deque()
    memory, largest = _GraphMemory(x), 0
    for tile in tiles:
        bytes_before = memory.bytes
        if bytes_before + largest > spare_bytes:
            spare_bytes = 0  # later tiles are not saved either: the second pass keeps the order
        save = spare_bytes > 0
        with torch.set_grad_enabled(save), memory.counting() if save else nullcontext():
            tile_sums = _sum_tile(objective, x, tile)
        if on_tile is not None:
            features = {name: values.detach() for name, values in tile_sums.features.items()}
            on_tile(tile, features)
            del features
        totals = add_sums(totals, [sums.detach() for sums in tile_sums.sums])
        if save:
            saved.append(tile_sums)
            largest = max(largest, memory.bytes - bytes_before)
        del tile_sums
    return FirstPass(totals, saved)


def _sum_tile(objective: Objective, x: Tensor, tile: Tile) -> _SavedTile:
    """Compute a tile's features and sums, with a graph if gradients are enabled."""
    crop = wrapped_crop(x, tile.crop).requires_grad_(torch.is_grad_enabled())
    features = strip_halo(tile, objective.features(crop, cut_axes=tile.cut_axes))
    return _SavedTile(crop, features, objective.sums(features, tile.windows, skip_linear=True))


def grad_wrt_sums(objective: Objective, totals: Sequence[Sums]) -> tuple[Tensor, ...]:
    """Return the derivative of the loss with respect to the sums over all tiles."""
    leaves = [Sums(sums.total.detach().requires_grad_(), sums.count) for sums in totals]
    with torch.enable_grad():
        loss, _ = objective.value(leaves)
        return torch.autograd.grad(loss, [sums.total for sums in leaves])


def backward_pass(
    objective: Objective,
    x: Tensor,
    tiles: Sequence[Tile],
    first_pass: FirstPass,
    sum_grads: Sequence[Tensor],
) -> tuple[Tensor, Sequence[Sums]]:
    """Add up each tile's part of the gradient.

    Args:
        objective: as for `forward_pass`.
        x: as for `forward_pass`.
        tiles: as for `forward_pass`.
        first_pass: result of `forward_pass`; the saved tiles are removed one by one.
        sum_grads: result of `grad_wrt_sums`.

    Returns:
        The gradient, shaped as ``x``, and the sums of all terms over all tiles.
    """
    x = x.detach()
    gradient = torch.zeros_like(x)
    totals: list[Sums] = []
    for tile in tiles:
        with torch.enable_grad():
            saved = (
                first_pass.saved.popleft() if first_pass.saved else _sum_tile(objective, x, tile)
            )
            crop = saved.crop
            sums = objective.sums(saved.features, tile.windows, partial_sums=saved.sums)
            del saved
            products = [
                (term.total * grad).sum() for term, grad in zip(sums, sum_grads, strict=True)
            ]
            product = torch.stack(products).sum()
            (tile_gradient,) = torch.autograd.grad(product, crop)
        add_crop(gradient, tile.crop, tile_gradient)
        totals = add_sums(totals, [term.detach() for term in sums])
        del crop, sums, products, product, tile_gradient
    return gradient, totals


def _check_additive(objective: Objective) -> None:
    for term in objective.terms:
        if not getattr(term.loss, "additive", False):
            raise not_additive_error(f"the term {term.name}")


def not_additive_error(name: str) -> UsageError:
    """Return the error for a statistic or term whose sums over tiles do not add up."""
    return UsageError(
        "tiles",
        expected="statistics that add up over tiles",
        got=f"{name}, which does not declare that its do",
        remedy=WHOLE,
    )


def add_sums(totals: Sequence[Sums], sums: Sequence[Sums]) -> list[Sums]:
    """Add a tile's sums to the totals, in float64: there may be many thousands of tiles.

    Args:
        totals: sums of the tiles so far; empty before the first one.
        sums: sums of the next tile, one for each term.
    """
    wide = [Sums(_to_float64(term.total), term.count) for term in sums]
    if not totals:
        return wide
    return [total + term for total, term in zip(totals, wide, strict=True)]


def _to_float64(total: Tensor) -> Tensor:
    return total if total.device.type == "mps" else total.double()
