"""What moves an iterate along its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["Descent", "GradientDescent"]


class Descent:
    """An iterate, the length of a step, and what is remembered from step to step.

    ``torch.optim.Optimizer`` does the same for many tensors in groups, and when the first of them
    is made it imports torch's compiler, which takes two seconds.

    Args:
        x: the iterate; its gradient is read from ``x.grad``.
        lr: length of a step, in the optimiser's own terms.
    """

    def __init__(self, x: Tensor, lr: float) -> None:
        self.x = x
        self.lr = lr
        self.state: dict[str, Any] = {}

    def step(self) -> None:
        """Move the iterate once along its gradient as it is."""
        raise NotImplementedError

    def load(self, state: dict[str, Any]) -> None:
        """Go on from the ``state`` of another one, which may have been on another device."""
        self.state = {name: _moved(each, self.x.device) for name, each in state.items()}


class GradientDescent(Descent):
    """The notes' own: ``G := G - rate · dJ/dG``.

    >>> x = torch.tensor([3.0])
    >>> x.grad = torch.tensor([2.0])
    >>> GradientDescent(x, 0.5).step()
    >>> x
    tensor([2.])
    """

    @torch.no_grad()
    def step(self) -> None:
        """Move the iterate once along its gradient as it is."""
        assert self.x.grad is not None
        self.x.add_(self.x.grad, alpha=-self.lr)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, list):
        return [_moved(each, device) for each in value]
    return value.to(device) if isinstance(value, Tensor) else value
