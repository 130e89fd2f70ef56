"""What every optimizer has in common: it moves one tensor along its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["AllReduce", "Optimizer"]

AllReduce = Callable[[Tensor], Tensor]
"""Adds a number up over the processes that share a field."""


class Optimizer:
    """An optimizer of one tensor.

    ``torch.optim.Optimizer`` handles groups of tensors, and making the first one imports torch's
    compiler, which takes two seconds.

    Args:
        x: the tensor to optimize, changed in place. `step` reads its gradient from ``x.grad``.
        lr: learning rate, in the optimizer's own units.

    Attributes:
        state: what the optimizer remembers between steps.
        restarts_from_best: whether `restart_from` replaces `step` after the loss has risen.
        follows_gradient_scale: whether a step is as long as the gradient is large, so that a steep
            objective needs a small learning rate.
    """

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
        """Continue from the ``state`` of another optimizer, which may be on another device."""
        self.state = {name: _to_device(value, self.x.device) for name, value in state.items()}


def _to_device(value: Any, device: torch.device) -> Any:
    if isinstance(value, list):
        return [_to_device(item, device) for item in value]
    return value.to(device) if isinstance(value, Tensor) else value
