"""L-BFGS whose vectors may lie on several processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convnd.optimize.gradient_descent import Descent

__all__ = ["LBFGS", "AllReduce"]

AllReduce = Callable[[Tensor], Tensor]
"""Adds numbers up over the processes that share a field."""


class LBFGS(Descent):
    """Limited-memory BFGS, one update a step and no line search (Nocedal, 1980).

    The same numbers, bit by bit, as ``torch.optim.LBFGS`` with ``max_iter=1`` and tolerances of 0,
    as long as there is no `restart_from`.
    That one reads its vectors whole; here they keep the shape of the iterate, which may be a part
    of something larger, and every scalar product goes through ``all_reduce``.

    Args:
        x: the iterate; its gradient is read from ``x.grad``.
        lr: length of a step relative to the one that L-BFGS proposes.
        history: pairs of steps and changes of the gradient that are remembered.
        all_reduce: makes sums over this part those over all parts.

    >>> x = torch.tensor([3.0, 1.0])
    >>> descend = LBFGS(x, 1.0, history=5, all_reduce=lambda number: number)
    >>> for _ in range(20):
    ...     x.grad = torch.stack([2 * x[0], 20 * x[1]])
    ...     descend.step()
    >>> bool(x.abs().max() < 1e-6)
    True
    """

    def __init__(self, x: Tensor, lr: float, *, history: int, all_reduce: AllReduce) -> None:
        super().__init__(x, lr)
        self._history = history
        self._all_reduce = all_reduce

    @torch.no_grad()
    def step(self) -> None:
        """Move the iterate once along its gradient as it is."""
        x, state, gradient = self.x, self.state, self.x.grad
        length: Any = self.lr
        assert gradient is not None
        absolute = self._all_reduce(gradient.abs().sum())
        if absolute == 0:
            return
        if not state:
            state.update(changes=[], moves=[], inverses=[], curvature=1)
            direction = gradient.neg()
            length = min(1.0, 1.0 / absolute) * length
        else:
            self._learn(state, gradient)
            direction = self._direction(state, gradient)
        state.update(restarts=0)
        self._move(x, state, gradient, direction, length)

    @torch.no_grad()
    def restart_from(self, values: Tensor, gradient: Tensor) -> None:
        """Instead of `step` where the last move went uphill: move from where the walk was better.

        The iterate's own gradient is not lost: it tells of the curvature that made the move too
        long. The new one is half as long, once more for every restart_from in a row.

        Args:
            values: of the iterate to go back to.
            gradient: there.
        """
        x, state = self.x, self.state
        if state:
            assert x.grad is not None
            self._learn(state, x.grad)
        x.copy_(values)
        if not state:
            x.grad = gradient
            self.step()
            return
        state["restarts"] += 1
        length = self.lr * 0.5 ** state["restarts"]
        self._move(x, state, gradient, self._direction(state, gradient), length)

    def _move(
        self, x: Tensor, state: dict[str, Any], gradient: Tensor, direction: Tensor, length: Any
    ) -> None:
        state.update(direction=direction, length=length, gradient=gradient)
        if not self._dot(gradient, direction) > 0:
            x.add_(direction, alpha=float(length))

    def _learn(self, state: dict[str, Any], gradient: Tensor) -> None:
        """Remember the last move and how it changed the gradient, where that is of use."""
        change = gradient.sub(state.pop("gradient"))
        move = state.pop("direction").mul_(state["length"])
        product = self._dot(change, move)
        if product > 1e-10:
            for name in ("changes", "moves", "inverses"):
                del state[name][: max(0, len(state[name]) + 1 - self._history)]
            state["changes"].append(change)
            state["moves"].append(move)
            state["inverses"].append(1.0 / product)
            state["curvature"] = product / self._dot(change, change)

    def _direction(self, state: dict[str, Any], gradient: Tensor) -> Tensor:
        """The inverse Hessian as far as it is known, times the gradient, downhill."""
        pairs = list(zip(state["changes"], state["moves"], state["inverses"], strict=True))
        direction = gradient.neg()
        along = []
        for change, move, inverse in reversed(pairs):
            along.append(self._dot(move, direction) * inverse)
            direction.add_(change, alpha=-float(along[-1]))
        direction.mul_(state["curvature"])
        for (change, move, inverse), here in zip(pairs, reversed(along), strict=True):
            direction.add_(move, alpha=float(here - self._dot(change, direction) * inverse))
        return direction

    def _dot(self, one: Tensor, other: Tensor) -> Tensor:
        return self._all_reduce(one.reshape(-1).dot(other.reshape(-1)))
