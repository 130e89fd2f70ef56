r"""The two passes of an evaluation tile by tile.

An objective is :math:`L = \Phi(\sum_{tiles} s(tile))`, so

.. math:: \frac{dL}{dx} = \sum_{tiles} J_s(tile)^T \, \nabla\Phi\Big(\sum_{tiles} s\Big)

A first pass adds up the statistics and needs no memory for gradients; with :math:`\nabla\Phi`
fixed, a second one takes each tile's part of the gradient. Galerne et al. ("Scaling painting style
transfer", 2024) do so for VGG and Gram matrices in two axes. Where there is room for it, the first
pass keeps what the way back needs of the first tiles, and the second computes the others only.
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
from convnd.losses import Objective, tile_index
from convnd.optimize.evaluation.tiler import WHOLE
from convnd.optimize.evaluation.tiles import strip_halo
from convnd.shapes import Tile
from convnd.stats import Sums

__all__ = [
    "ForwardResult",
    "all_reduce_sums",
    "backward_pass",
    "forward_pass",
    "grad_wrt_sums",
    "not_additive_error",
]

See = Callable[[Tile, Mapping[str, Tensor]], None]


@dataclass(frozen=True)
class _Kept:
    """A tile: its crop, its features, and its sums, but those that are linear.

    These have to wait: what they are compared with may be known only after the first pass. They do
    so where nothing is kept, too, since the order of a graph decides on the last digits.
    """

    leaf: Tensor
    features: Mapping[str, Tensor]
    sums: Sequence[Sums]


@dataclass(frozen=True)
class ForwardResult:
    """What a first pass over tiles leaves behind.

    Args:
        totals: sums of every term; of a linear one only the count.
        kept: the first tiles, as many as there was room for; `backward_pass` takes them out.
    """

    totals: Sequence[Sums]
    kept: deque[_Kept] = field(default_factory=deque)


class _Held:
    """Bytes that graphs hold on to.

    Args:
        known: a tensor that is there anyway.
    """

    def __init__(self, known: Tensor) -> None:
        self.bytes = 0
        self._seen = {known.untyped_storage().data_ptr()}

    def counted(self) -> saved_tensors_hooks:
        """A context in which what is built counts."""
        return saved_tensors_hooks(self._count, lambda tensor: tensor)

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor.detach()  # an output would hold on to the graph that holds on to it


def forward_pass(
    objective: Objective,
    x: Tensor,
    tiles: Sequence[Tile],
    see: See | None = None,
    *,
    room: float = 0,
) -> ForwardResult:
    """The first pass: sums over the tiles' own positions.

    Args:
        objective: of additive terms.
        x: ``(B, C, *S)``; what tiles are cut out of.
        tiles: at least one.
        see: is shown every tile with the features of its own positions.
        room: bytes for what the way back needs of the first tiles, beside the work on one more;
            any at all are taken to be enough for one.

    Raises:
        UsageError: a term is not additive.
    """
    _check_additive(objective)
    x = x.detach()
    totals: list[Sums] | None = None
    kept: deque[_Kept] = deque()
    held, largest = _Held(x), 0
    for tile in tiles:
        before = held.bytes
        if before + largest > room:
            room = 0  # only the first ones, in their order
        with torch.set_grad_enabled(room > 0), held.counted() if room > 0 else nullcontext():
            found = _keep(objective, x, tile)
        if see is not None:
            see(tile, {name: features.detach() for name, features in found.features.items()})
        totals = all_reduce_sums(totals, [each.detach() for each in found.sums])
        if room > 0:
            kept.append(found)
            largest = max(largest, held.bytes - before)
        del found
    assert totals is not None
    return ForwardResult(totals, kept)


def _keep(objective: Objective, x: Tensor, tile: Tile) -> _Kept:
    """A tile's features and sums, with the graph that leads to them where one is built."""
    leaf = x[tile_index(tile.crop)].requires_grad_(torch.is_grad_enabled())
    features = strip_halo(tile, objective.features(leaf))
    return _Kept(leaf, features, objective.sums(features, tile.windows, skip_linear=True))


def grad_wrt_sums(objective: Objective, totals: Sequence[Sums]) -> tuple[Tensor, ...]:
    """The derivative of the loss by the sums of all tiles together."""
    fixed = [Sums(each.total.detach().requires_grad_(), each.count) for each in totals]
    with torch.enable_grad():
        loss, _ = objective.value(fixed)
        return torch.autograd.grad(loss, [each.total for each in fixed])


def backward_pass(
    objective: Objective,
    x: Tensor,
    tiles: Sequence[Tile],
    before: ForwardResult,
    sum_grads: Sequence[Tensor],
) -> tuple[Tensor, Sequence[Sums]]:
    """The second pass: the tiles' part of the gradient, and their sums, all of them.

    Args:
        objective: as for `forward_pass`, like ``x`` and ``tiles``.
        x: ``(B, C, *S)``.
        tiles: the same.
        before: what `forward_pass` left, whose tiles are let go of one by one.
        sum_grads: see `grad_wrt_sums`.
    """
    x = x.detach()
    gradient = torch.zeros_like(x)
    totals: list[Sums] | None = None
    for tile in tiles:
        with torch.enable_grad():
            kept = before.kept.popleft() if before.kept else _keep(objective, x, tile)
            leaf = kept.leaf
            sums = objective.sums(kept.features, tile.windows, known=kept.sums)
            del kept
            share = torch.stack(
                [(each.total * slope).sum() for each, slope in zip(sums, sum_grads, strict=True)]
            ).sum()
            (part,) = torch.autograd.grad(share, leaf)
        gradient[tile_index(tile.crop)] += part
        totals = all_reduce_sums(totals, [each.detach() for each in sums])
        del leaf, sums, share, part
    assert totals is not None
    return gradient, totals


def _check_additive(objective: Objective) -> None:
    for term in objective.terms:
        if not getattr(term.loss, "additive", False):
            raise not_additive_error(f"the term {term.name}")


def not_additive_error(what: str) -> UsageError:
    """The error for a statistic that tiles would change."""
    return UsageError(
        f"tiles: expected sums that add up over tiles, got {what}, which does not say that its do; "
        + WHOLE
    )


def all_reduce_sums(totals: list[Sums] | None, sums: Sequence[Sums]) -> list[Sums]:
    """Sums added to those of earlier tiles, in float64: there may be many thousands."""
    wide = [Sums(_wide(each.total), each.count) for each in sums]
    if totals is None:
        return wide
    return [one + other for one, other in zip(totals, wide, strict=True)]


def _wide(total: Tensor) -> Tensor:
    return total if total.device.type == "mps" else total.double()
