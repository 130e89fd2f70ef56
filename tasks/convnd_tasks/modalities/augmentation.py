"""What augmentations by styles share: arguments, random numbers, and dictionaries of data."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convnd.errors import UsageError
from convnd.grid import Grid
from convnd_tasks.modalities.tensors import as_tensor

__all__ = ["Data", "StyleAugmentation"]

Data = str | os.PathLike[str] | Grid | Tensor | NDArray[np.generic]
"""A recording or a volume: a path, a grid, or its values."""

S = TypeVar("S")


class StyleAugmentation(ABC, Generic[S]):
    """A callable that draws a style and a strength, and changes data by them.

    Random numbers come from torch's global generator, which data loaders seed differently in each
    worker.

    Args:
        styles: one style, or a list or tuple of several.
        strength: strength from 0 to 1, or a range from which it is drawn uniformly.
        probability: probability that a call changes its data.
        keys: names of the entries of a dictionary to change; empty if calls get the data itself.

    Raises:
        UsageError: a number is out of range, or there is no style.
    """

    def __init__(
        self,
        styles: Any,
        *,
        strength: float | tuple[float, float],
        probability: float,
        keys: Sequence[str],
    ) -> None:
        low, high = strength if isinstance(strength, tuple) else (strength, strength)
        if not 0 <= low <= high <= 1:
            raise UsageError(
                self._name,
                expected="a strength from 0 to 1",
                got=strength,
                remedy="for example (0, 1)",
            )
        if not 0 <= probability <= 1:
            raise UsageError(f"{self._name}: expected a probability from 0 to 1, got {probability}")
        self.strength, self.probability = (low, high), probability
        self.keys = (keys,) if isinstance(keys, str) else tuple(keys)
        several: Sequence[Any] = styles if isinstance(styles, list | tuple) else [styles]
        self._styles: list[S] = [self._open(style) for style in several]
        if not self._styles:
            raise UsageError(f"{self._name}: expected at least one style, got none")

    @property
    def _name(self) -> str:
        """Name of the class, for messages."""
        return type(self).__name__

    @abstractmethod
    def _open(self, style: Any) -> S:
        """Read or convert one style."""

    @abstractmethod
    def apply(self, data: Any, style: int = 0, strength: float = 1.0) -> Any:
        """Return a copy of data, changed by a given style and strength.

        Args:
            data: a tensor or an array.
            style: index of the style.
            strength: from 0 to 1.
        """

    def _check(self, data: Any, style: int, strength: float) -> Tensor:
        """Check the arguments of `apply`, and return the data as a tensor.

        Raises:
            UsageError: the data is no tensor or array, or there is no such style or strength.
        """
        if not 0 <= style < len(self._styles):
            raise UsageError(
                self._name,
                expected=f"a style from 0 to {len(self._styles) - 1}",
                got=style,
                remedy="give its index",
            )
        if not 0 <= strength <= 1:
            raise UsageError(f"{self._name}: expected a strength from 0 to 1, got {strength}")
        remedy = "read files first, or give keys for a dictionary"
        return as_tensor(data, self._name, remedy=remedy)

    def __call__(self, data: Any) -> Any:
        """Return a changed copy of data, or of a dictionary of data; or, by chance, the data.

        Args:
            data: what `apply` takes; or a dictionary of it, whose entries all get the same style
                and strength.

        Raises:
            UsageError: keys are given, and the data is no dictionary.
        """
        if float(torch.rand(())) >= self.probability:
            return data
        style = int(torch.randint(len(self._styles), ()))
        low, high = self.strength
        strength = low + (high - low) * float(torch.rand(()))
        if not self.keys:
            return self.apply(data, style, strength)
        if not isinstance(data, Mapping):
            raise UsageError(
                self._name,
                expected=f"a dictionary with {', '.join(self.keys)}",
                got=type(data).__name__,
                remedy="leave keys out",
            )
        changed = dict(data)
        for key in self.keys:
            changed[key] = self.apply(data[key], style, strength)
        return changed
