"""Losses: additive sums over positions, and a function of those sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from convnd.errors import ShapeError, UsageError
from convnd.nn._native import traced_as_leaf
from convnd.registry import check_name
from convnd.stats import Sums

__all__ = [
    "INPUT",
    "NORMALIZATIONS",
    "Loss",
    "LossModule",
    "Term",
    "Window",
    "check_normalization",
    "expand_target",
    "relative_distance",
    "tile_index",
    "tile_offset",
    "tile_shape",
]

INPUT = "input"
"""Name by which a loss reads the optimized field itself instead of features."""

NORMALIZATIONS = ("balanced", "lecture", "gatys", "mean")
"""Formulas that turn squared distances into losses; see `ContentLoss` and `StyleLoss`."""

Window = Sequence[slice]
"""Positions of a tile in its layer: one slice per spatial axis; a stop of None is the end."""


def tile_index(window: Window) -> tuple[slice, ...]:
    """Return the index that cuts a window out of a tensor ``(B, C, *S)``.

    Args:
        window: a slice for each spatial axis.

    >>> tile_index([slice(1, 3)])
    (slice(None, None, None), slice(None, None, None), slice(1, 3, None))
    """
    return (slice(None), slice(None), *window)


def tile_shape(features: Tensor, window: Window | None) -> tuple[int, ...]:
    """Return the extent of a tile along each axis, without its overlap.

    Args:
        features: features of the tile ``(B, C, *S)``, possibly followed by an overlap.
        window: the tile's place in its layer; None is the whole layer.

    >>> import torch
    >>> tile_shape(torch.zeros(1, 1, 5, 5), (slice(4, 8), slice(4, None)))
    (4, 5)
    """
    extent = tuple(features.shape[2:])
    if window is None:
        return extent
    return tuple(
        n if part.stop is None else min(n, part.stop - part.start)
        for n, part in zip(extent, window, strict=True)
    )


def tile_offset(features: Tensor, window: Window | None) -> tuple[int, ...]:
    """Return the first position of a tile in its layer along each axis.

    Args:
        features: features of the tile ``(B, C, *S)``.
        window: the tile's place in its layer; None is the whole layer.

    >>> import torch
    >>> tile_offset(torch.zeros(1, 1, 5, 5), (slice(4, 8), slice(0, None)))
    (4, 0)
    """
    if window is None:
        return (0,) * (features.ndim - 2)
    return tuple(part.start or 0 for part in window)


class Loss(Protocol):
    r"""A loss :math:`\Phi(\sum_{tiles} s(tile))` on one layer with a fixed target.

    `sums` computes the sums :math:`s` of a tile, and `value` is the function :math:`\Phi`.

    Attributes:
        layer: name of the layer that the loss reads, or `INPUT`.
        additive: whether the sums of a field are those of its tiles added up, if each tile has its
            `overlap`. Only then can the loss be evaluated tile by tile.
        linear: whether :math:`\Phi` multiplies the sums by a factor that depends only on the number
            of positions.
        overlap: number of positions after a tile, along each axis, that its sums read.
    """

    layer: str

    @property
    def additive(self) -> bool:
        """Whether sums of tiles add up."""
        ...

    @property
    def linear(self) -> bool:
        """Whether the loss is linear in the sums."""
        ...

    @property
    def overlap(self) -> int:
        """Number of positions after a tile that its sums read."""
        ...

    def sums(self, features: Tensor, window: Window | None = None) -> Sums:
        """Return the sums over the positions of a tile.

        Args:
            features: ``(B, C, *S)`` of `layer`, followed along each axis by `overlap` positions
                where the layer has them.
            window: the tile's place in the layer; None is the whole layer.
        """
        ...

    def value(self, sums: Sums) -> Tensor:
        """Return the loss, a scalar, from the sums over the whole layer."""
        ...


class LossModule(nn.Module):
    """The base class of the losses of this package, as modules of torch.

    A call returns the `value` of the `sums` of the whole layer, so that training loops use the
    losses of style transfer. Targets are buffers: `to` moves them, and ``state_dict`` holds them. A
    target of a batch of one is that of every item.

    >>> import torch
    >>> from convnd.losses import ContentLoss
    >>> loss = ContentLoss(torch.tensor([[[3.0, 4.0]]]), normalization="mean")
    >>> loss(torch.zeros(2, 1, 2)).item(), list(loss.state_dict())
    (12.5, ['target'])
    """

    def sums(self, features: Tensor, window: Window | None = None) -> Sums:
        """Return the sums over the positions of a tile, see `Loss.sums`."""
        raise NotImplementedError

    def value(self, sums: Sums) -> Tensor:
        """Return the loss, a scalar, see `Loss.value`."""
        raise NotImplementedError

    @traced_as_leaf
    def forward(self, features: Tensor) -> Tensor:
        """Return the loss of the features of a whole layer.

        Args:
            features: ``(B, C, *S)``.
        """
        return self.value(self.sums(features))

    def _measure_target(self) -> None:
        """Compute what depends on the target, such as its energy."""

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._measure_target()


@dataclass(frozen=True)
class Term:
    """One weighted loss of an objective.

    Args:
        name: name in reports; terms of the same name are added up there.
        weight: finite, at least 0.
        loss: the loss.

    Raises:
        UsageError: the weight is negative or not finite.
    """

    name: str
    weight: float
    loss: Loss

    def __post_init__(self) -> None:
        if not 0 <= self.weight < float("inf"):
            raise UsageError(
                f"{self.name}",
                expected="a finite weight of at least 0",
                got=f"{self.weight}",
                remedy="0 leaves the term out",
            )


def check_normalization(name: str) -> str:
    """Return ``name`` if it is one of `NORMALIZATIONS`.

    Raises:
        UnknownNameError: there is no such normalization.
    """
    check_name("normalization", name, NORMALIZATIONS)
    return name


def relative_distance(
    squared_distance: Tensor, normalization: str, *, energy: Tensor | float, count: float
) -> Tensor:
    """Divide squared distances so that one weight serves every layer, size and number of axes.

    Args:
        squared_distance: any shape.
        normalization: ``"balanced"`` divides by the energy of the target, ``"mean"`` by the number
            of values.
        energy: sum of the squared values of the target, of a shape that broadcasts with the
            distances; a target of zeros has no scale of its own, and counts 1.
        count: number of values that were compared.

    >>> import torch
    >>> relative_distance(torch.tensor(8.0), "balanced", energy=torch.tensor(4.0), count=2)
    tensor(2.)
    """
    if normalization == "mean":
        return squared_distance / count
    if isinstance(energy, Tensor):
        return squared_distance / energy.where(energy > 0, 1.0)
    return squared_distance / (energy if energy > 0 else 1.0)


def expand_target(operation: str, target: Tensor, shape: Sequence[int], layer: str) -> Tensor:
    """Expand a target to the shape of the values that it is compared with.

    Args:
        operation: name of the loss, for the message.
        target: ``(B, …)``, or ``(1, …)`` for every item of a batch.
        shape: shape ``(B, …)`` of the values.
        layer: layer of the values, for the message.

    Raises:
        ShapeError: the shapes differ in more than the number of items.

    >>> import torch
    >>> expand_target("loss", torch.zeros(1, 3, 8), (2, 3, 8), "relu1_1").shape
    torch.Size([2, 3, 8])
    """
    if tuple(target.shape) == tuple(shape):
        return target
    if len(shape) > 0 and target.shape[1:] == tuple(shape[1:]):
        if len(target) == 1:
            return target.expand(shape)
        remedy = "give one target for all items of the batch, or one for each"
    elif len(shape) > 1 and target.ndim == len(shape) and target.shape[1] == shape[1]:
        remedy = "bring both to one size"
    else:
        remedy = "bring both to the same channels"
    raise ShapeError(
        operation,
        expected=f"values {tuple(target.shape)} of {layer} as the target's",
        got=f"{tuple(shape)}",
        remedy=remedy,
    )
