"""The interface of optimizers: each moves one tensor along its gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

__all__ = ["AllReduce", "Optimizer", "Precondition", "is_count", "is_number"]

AllReduce = Callable[[Tensor], Tensor]
"""Returns the sums of numbers over the processes that share a field."""

Precondition = Callable[[Tensor], Tensor]
"""Applies a symmetric, positive, linear operator to a field, and returns a new one."""


class Optimizer:
    """An optimizer of one tensor.

    ``torch.optim.Optimizer`` handles groups of tensors, and making the first one imports torch's
    compiler, which takes two seconds.

    Args:
        x: the tensor to optimize, changed in place. `step` reads its gradient from ``x.grad``.
        lr: learning rate, in the optimizer's own units.

    Attributes:
        state: values that the optimizer keeps between steps, by name.
        state_kinds: kind of each entry of the state: "field" (a tensor shaped as ``x``), "matrix"
            (of channels, in float64), "number", "count", or a list of "fields" or "numbers".
        restarts_from_best: whether `restart_from` replaces `step` after the loss has risen.
        follows_gradient_scale: whether a step is as long as the gradient is large, so that a steep
            objective needs a small learning rate.
    """

    state_kinds: ClassVar[Mapping[str, str]] = {}
    restarts_from_best = False
    follows_gradient_scale = False

    def __init__(self, x: Tensor, lr: float) -> None:
        self.x = x
        self.lr = lr
        self.state: dict[str, Any] = {}

    def step(self) -> None:
        """Move ``x`` once along its gradient, which stays unchanged."""
        raise NotImplementedError

    def restart_from(self, values: Tensor, gradient: Tensor) -> None:
        """Move ``x`` from another point than its present one.

        Args:
            values: the point to start from, shaped as ``x``.
            gradient: the gradient at that point.
        """
        raise NotImplementedError

    def load(self, state: dict[str, Any]) -> None:
        """Continue from the ``state`` of another optimizer, which may be on another device.

        Raises:
            ValueError: the state is that of another kind of optimizer, or of another ``x``.
        """
        if state and set(state) != set(self.state_kinds):
            raise ValueError(f"the state of another optimizer: {', '.join(map(str, state))[:80]}")
        for name, value in state.items():
            if not self._is_kind(value, self.state_kinds[name]):
                raise ValueError(f"another kind of {name} in the optimizer")
        self.state = {name: _to_device(value, self.x.device) for name, value in state.items()}

    def inherit(self, state: dict[str, Any], ratio: float) -> None:
        """Start from the curvature or moments that an optimizer collected for a similar objective.

        Args:
            state: `state` of an optimizer of the same class, or empty.
            ratio: samples of ``x`` divided by those of the field of that objective; 1 is the same
                size. A mean over more samples has a smaller gradient.
        """
        if ratio == 1:
            self.load(state)

    def _is_kind(self, value: object, kind: str) -> bool:
        if kind in ("fields", "numbers"):
            return isinstance(value, list) and all(self._is_kind(v, kind[:-1]) for v in value)
        if kind == "field":
            return (
                isinstance(value, Tensor)
                and value.shape == self.x.shape
                and value.dtype == self.x.dtype
            )
        if kind == "matrix":
            return (
                isinstance(value, Tensor)
                and value.dtype == torch.float64
                and value.shape == (self.x.shape[1],) * 2
                and bool(value.isfinite().all())
            )
        if kind == "count":
            return is_count(value)
        scalar = isinstance(value, Tensor) and value.ndim == 0 and value.dtype == self.x.dtype
        return scalar or is_number(value)


def is_count(value: object) -> bool:
    """Return whether a value of a stored state is a whole number from 0 on."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def is_number(value: object) -> bool:
    """Return whether a value of a stored state is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e300  # which NaN is not


def _to_device(value: Any, device: torch.device) -> Any:
    if isinstance(value, list):
        return [_to_device(item, device) for item in value]
    return value.to(device) if isinstance(value, Tensor) else value
