"""Adam, slab by slab, so that nothing is as large as the iterate but its two moments."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from convnd.optimize.gradient_descent import Descent
from convnd.optimize.offload import DiskOffload, release_pages

__all__ = ["Adam"]

_SLAB = 2**22
"""Values that are moved at once: three times 16 MiB come and go."""


class Adam(Descent):
    """Adaptive moments (Kingma and Ba, 2015).

    The same numbers, bit by bit, as ``torch.optim.Adam`` of one tensor.

    Args:
        x: the iterate, contiguous; its gradient is read from ``x.grad``.
        lr: length of a step, in each value about that much.
        betas: how slowly the two moments forget.
        offload: where the moments are; None is in memory.

    >>> x = torch.tensor([3.0, 1.0])
    >>> descend = Adam(x, 0.5)
    >>> x.grad = torch.tensor([2.0, -8.0])
    >>> descend.step()
    >>> x
    tensor([2.5000, 1.5000])
    """

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
        """Move the iterate once along its gradient as it is."""
        x, state, (slow, slower) = self.x, self.state, self._betas
        if not state:
            state.update(count=0, first=self._offload.zeros(x), second=self._offload.zeros(x))
        state["count"] += 1
        length = self.lr / (1 - slow ** state["count"])
        scale = math.sqrt(1 - slower ** state["count"])
        assert x.grad is not None
        whole = (x, x.grad, state["first"], state["second"])
        for values, gradient, first, second in zip(
            *(each.view(-1).split(_SLAB) for each in whole), strict=True
        ):
            first.lerp_(gradient, 1 - slow)
            second.mul_(slower).addcmul_(gradient, gradient, value=1 - slower)
            values.addcdiv_(first, second.sqrt().div_(scale).add_(1e-8), value=-length)
            release_pages(first, second)

    def load(self, state: dict[str, Any]) -> None:
        """See `Descent.load`; the moments go where they belong."""
        super().load(state)
        for name in ("first", "second"):
            if name in self.state:
                self.state[name] = self._offload.store(self.state[name])
