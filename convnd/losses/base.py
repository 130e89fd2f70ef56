"""What a loss is: additive sums over positions, and a function of those sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from convnd.errors import UsageError
from convnd.registry import unknown_name
from convnd.stats import Sums

__all__ = ["INPUT", "NORMALIZATIONS", "Loss", "Term", "Window", "check_normalization"]

INPUT = "input"
"""Name of the layer that is the iterate itself."""

NORMALIZATIONS = ("balanced", "notes", "gatys", "mean")
"""How distances become losses; see `ContentLoss` and `StyleLoss`."""

Window = Sequence[slice]
"""Where a tile lies in its layer, one slice for each spatial axis."""


class Loss(Protocol):
    r"""A loss :math:`\Phi(\sum_{tiles} s(tile))` on one layer, its target fixed."""

    layer: str

    def sums(self, features: Tensor, window: Window | None = None) -> Sums:
        """The additive part over a tile's own positions.

        Args:
            features: ``(B, C, *S)`` of `layer`.
            window: where they lie in the whole layer; None is all of it.
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
