"""What a loss is: additive sums over positions, and a function of those sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from convnd.errors import UsageError
from convnd.registry import unknown_name
from convnd.stats import Sums

__all__ = [
    "INPUT",
    "NORMALIZATIONS",
    "Loss",
    "Term",
    "Window",
    "check_normalization",
    "tile_index",
    "tile_offset",
    "tile_shape",
]

INPUT = "input"
"""Name of the layer that is the iterate itself."""

NORMALIZATIONS = ("balanced", "lecture", "gatys", "mean")
"""How distances become losses; see `ContentLoss` and `StyleLoss`."""

Window = Sequence[slice]
"""Where a tile lies in its layer, one slice for each spatial axis; a stop of None is the end."""


def tile_index(window: Window) -> tuple[slice, ...]:
    """The index that a window is in a tensor ``(B, C, *S)``.

    >>> tile_index([slice(1, 3)])
    (slice(None, None, None), slice(None, None, None), slice(1, 3, None))
    """
    return (slice(None), slice(None), *window)


def tile_shape(features: Tensor, window: Window | None) -> tuple[int, ...]:
    """Positions of a tile's own along each axis, without those behind that it only looks at.

    Args:
        features: ``(B, C, *S)``.
        window: where they lie in the whole layer; None is all of it.

    >>> import torch
    >>> tile_shape(torch.zeros(1, 1, 5, 5), (slice(4, 8), slice(4, None)))
    (4, 5)
    """
    extent = tuple(features.shape[2:])
    if window is None:
        return extent
    return tuple(
        have if part.stop is None else min(have, part.stop - part.start)
        for have, part in zip(extent, window, strict=True)
    )


def tile_offset(features: Tensor, window: Window | None) -> tuple[int, ...]:
    """Where a tile's own positions begin in their layer; the arguments are those of `tile_shape`.

    >>> import torch
    >>> tile_offset(torch.zeros(1, 1, 5, 5), (slice(4, 8), slice(0, None)))
    (4, 0)
    """
    if window is None:
        return (0,) * (features.ndim - 2)
    return tuple(part.start or 0 for part in window)


class Loss(Protocol):
    r"""A loss :math:`\Phi(\sum_{tiles} s(tile))` on one layer, its target fixed.

    Attributes:
        layer: the layer that it reads.
        additive: whether the sums of a grid are those of its tiles added up, when each tile sees
            its `overlap`. Only then can it be evaluated tile by tile.
        linear: whether :math:`\Phi` is a factor that depends on no more than the count.
        overlap: positions behind a tile's own, along each axis, that the sums look at.
    """

    layer: str

    @property
    def additive(self) -> bool:
        """See the class."""
        ...

    @property
    def linear(self) -> bool:
        """See the class."""
        ...

    @property
    def overlap(self) -> int:
        """See the class."""
        ...

    def sums(self, features: Tensor, window: Window | None = None) -> Sums:
        """The additive part over a tile's own positions.

        Args:
            features: ``(B, C, *S)`` of `layer`, with `overlap` more behind the tile's own along
                each axis where the layer has them.
            window: where the tile's own lie in the whole layer; None is all of it.
        """
        ...

    def value(self, sums: Sums) -> Tensor:
        """The loss, a scalar, from the sums over the whole layer."""
        ...


@dataclass(frozen=True)
class Term:
    """One weighted loss of an objective.

    Args:
        name: what progress reports it as; terms of one name are added up.
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
                f"{self.name}: expected a finite weight of at least 0, got {self.weight}; "
                "correct it"
            )


def check_normalization(name: str) -> str:
    """``name`` if it is one of `NORMALIZATIONS`.

    Raises:
        UnknownNameError: it is not.
    """
    if name not in NORMALIZATIONS:
        raise unknown_name("normalization", name, list(NORMALIZATIONS))
    return name
