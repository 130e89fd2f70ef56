"""Adam, computed slab by slab, so that only its two moments are as large as the tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from convnd.optimize.base import Optimizer
from convnd.optimize.offload import DiskOffload, release_pages

__all__ = ["Adam"]

_SLAB = 2**22
"""Values that are updated at once; temporary tensors take three times 16 MiB."""


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015).

    It computes the same numbers, to the bit, as ``torch.optim.Adam`` for one tensor.

    Args:
        x: the tensor to optimize, contiguous. `step` reads its gradient from ``x.grad``.
        lr: learning rate; about the change of each value per step.
        betas: decay rates of the two moments.
        offload: stores the moments; None stores them in memory.

    >>> x = torch.tensor([3.0, 1.0])
    >>> optimizer = Adam(x, 0.5)
    >>> x.grad = torch.tensor([2.0, -8.0])
    >>> optimizer.step()
    >>> x
    tensor([2.5000, 1.5000])
    """

    state_kinds: ClassVar[Mapping[str, str]] = {
        "count": "count",
        "first": "field",
        "second": "field",
    }

    def __init__(
        self,
        x: Tensor,
        lr: float,
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        offload: DiskOffload | None = None,
    ) -> None:
        super().__init__(x, lr)
        self._betas = betas
        self._offload = DiskOffload.disabled() if offload is None else offload

    @torch.no_grad()
    def step(self) -> None:
        """Move ``x`` once along its gradient, which stays unchanged."""
        x, state, (beta1, beta2) = self.x, self.state, self._betas
        if not state:
            state.update(count=0, first=self._offload.zeros(x), second=self._offload.zeros(x))
        state["count"] += 1
        step_size = self.lr / (1 - beta1 ** state["count"])
        scale = math.sqrt(1 - beta2 ** state["count"])
        assert x.grad is not None
        tensors = (x, x.grad, state["first"], state["second"])
        for values, gradient, first, second in zip(
            *(tensor.view(-1).split(_SLAB) for tensor in tensors), strict=True
        ):
            first.lerp_(gradient, 1 - beta1)
            second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            values.addcdiv_(first, second.sqrt().div_(scale).add_(1e-8), value=-step_size)
            release_pages(first, second)

    def load(self, state: dict[str, Any]) -> None:
        """Continue from the ``state`` of another optimizer; the moments are offloaded again."""
        super().load(state)
        for name in ("first", "second"):
            if name in self.state:
                self.state[name] = self._offload.store(self.state[name])
