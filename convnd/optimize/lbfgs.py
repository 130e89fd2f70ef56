"""L-BFGS whose vectors may be spread over several processes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from convnd.optimize.base import AllReduce, Optimizer, Precondition
from convnd.stats import transport_matrix

__all__ = ["LBFGS"]

_PAIRS_BEFORE_PRECONDITIONING = 3
"""Pairs that are collected before the preconditioner is used. Its factor is the curvature along the
last move. After a smooth first move this factor would be too large, and the next steps would raise
the loss."""

_REMEMBERED = 0.9
"""Share of the second moments of channels that stays with each pair."""

_RIDGE = 0.01
"""Is added to second moments of channels, relative to their trace. Without it a direction of colour
in which nothing moves for some steps would get ever shorter moves."""

_CHUNK = 1 << 22
"""Samples whose channels are mixed at a time, which limits the memory for it."""


class LBFGS(Optimizer):
    """Limited-memory BFGS with one update per step and without line search (Nocedal, 1980).

    Without `restart_from` it computes the same numbers, to the bit, as ``torch.optim.LBFGS`` with
    ``max_iter=1`` and tolerances of 0. Torch's reads whole vectors; here vectors keep the shape of
    ``x``, which may be one process's part of a field, and every scalar product passes through
    ``all_reduce``.

    With a preconditioner :math:`P`, the inverse Hessian before any pair is known is a multiple of
    :math:`T P`, in which the matrix :math:`T` mixes channels. Moves :math:`s` and changes
    :math:`P y` of the gradient have second moments over positions; :math:`T` turns those of the
    changes into those of the moves, see `convnd.stats.transport_matrix`. So a direction of colour
    with a large curvature moves less. One channel has no such matrix.

    Args:
        x: the tensor to optimize. `step` reads its gradient from ``x.grad``.
        lr: length of a step relative to the one that L-BFGS proposes.
        history: number of pairs (step, change of the gradient) that are remembered.
        all_reduce: adds up numbers over all parts of the field.
        precondition: :math:`P`, which returns a new tensor; the identity in the first three steps,
            and if it is None.

    >>> x = torch.tensor([3.0, 1.0])
    >>> optimizer = LBFGS(x, 1.0, history=5, all_reduce=lambda number: number)
    >>> for _ in range(20):
    ...     x.grad = torch.stack([2 * x[0], 20 * x[1]])
    ...     optimizer.step()
    >>> bool(x.abs().max() < 1e-6)
    True
    """

    state_kinds: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("changes", "moves"), "fields"),
        "inverses": "numbers",
        **dict.fromkeys(("curvature", "length", "reach"), "number"),
        **dict.fromkeys(("direction", "gradient"), "field"),
        **dict.fromkeys(("move_moments", "change_moments"), "matrix"),
        "restarts": "count",
    }
    restarts_from_best = True

    def __init__(
        self,
        x: Tensor,
        lr: float,
        *,
        history: int,
        all_reduce: AllReduce,
        precondition: Precondition | None = None,
    ) -> None:
        super().__init__(x, lr)
        self._precondition = precondition
        self._history = history
        self._channels = x.shape[1] if x.ndim > 2 else 1
        self._all_reduce = all_reduce

    @torch.no_grad()
    def step(self) -> None:
        """Move ``x`` once along its gradient, which stays unchanged."""
        x, state = self.x, self.state
        length: Any = self.lr
        assert x.grad is not None
        gradient = x.grad
        absolute_sum = self._all_reduce(gradient.abs().sum())
        if absolute_sum == 0:
            return
        if not state:
            state.update(changes=[], moves=[], inverses=[], curvature=1, reach=0.0)
            nothing = torch.zeros((self._channels,) * 2, dtype=torch.float64, device=x.device)
            state.update(move_moments=nothing, change_moments=nothing)
            direction = gradient.neg()
            length = min(1.0, 1.0 / absolute_sum) * length
        else:
            self._update_history(state, gradient)
            direction = self._direction(state, gradient)
            if state["reach"] and not state["changes"]:
                norm = math.sqrt(self._dot(direction, direction))
                length *= min(1.0, state["reach"] / norm)
        state.update(restarts=0)
        self._move(x, state, gradient, direction, length)

    @torch.no_grad()
    def restart_from(self, values: Tensor, gradient: Tensor) -> None:
        """Replace `step` after a move that raised the loss: move from an earlier, better point.

        The gradient at the rejected point still enters the history: it tells the curvature that
        made the move too long. The new move is half as long, and is halved again for every restart
        in a row.

        Args:
            values: the earlier point.
            gradient: the gradient there.
        """
        x, state = self.x, self.state
        if state:
            assert x.grad is not None
            self._update_history(state, x.grad)
        x.copy_(values)
        if not state:
            x.grad = gradient
            self.step()
            return
        state["restarts"] += 1
        length = self.lr * 0.5 ** state["restarts"]
        self._move(x, state, gradient, self._direction(state, gradient), length)

    def inherit(self, state: dict[str, Any], ratio: float) -> None:
        """See `Optimizer.inherit`. No pair spans both objectives.

        At another size only the curvature is known, and how long the longest move was, for each
        sample: the first move there is no longer. Without the curvature it hardly moves ``x``.
        """
        if not state.get("changes"):
            return
        if ratio != 1:
            change, inverse = state["changes"][-1], state["inverses"][-1]
            longest = max(self._dot(move, move) for move in state["moves"])
            state = {
                "changes": [],
                "moves": [],
                "inverses": [],
                # The first pairs are not preconditioned, and neither is this curvature.
                "curvature": ratio / (inverse * self._dot(change, change)),
                "reach": math.sqrt(longest * ratio),
                "move_moments": state["move_moments"],
                "change_moments": state["change_moments"],
            }
        nothing = torch.zeros_like(self.x)  # a move by 0, which teaches no curvature
        last = {"direction": nothing, "gradient": nothing, "length": 0.0, "restarts": 0}
        self.load({**state, **last})

    def load(self, state: dict[str, Any]) -> None:
        """See `Optimizer.load`."""
        super().load(state)
        if len({len(state[name]) for name in ("changes", "moves", "inverses") if state}) > 1:
            raise ValueError("a history of pairs of which some lack a part")

    def _move(
        self, x: Tensor, state: dict[str, Any], gradient: Tensor, direction: Tensor, length: Any
    ) -> None:
        state.update(direction=direction, length=length, gradient=gradient)
        if not self._dot(gradient, direction) > 0:
            x.add_(direction, alpha=float(length))

    def _update_history(self, state: dict[str, Any], gradient: Tensor) -> None:
        """Store the last move and the change of the gradient, if the curvature is positive."""
        change = gradient.sub(state.pop("gradient"))
        move = state.pop("direction").mul_(state["length"])
        product = self._dot(change, move)
        if product > 1e-10:
            for name in ("changes", "moves", "inverses"):
                del state[name][: max(0, len(state[name]) + 1 - self._history)]
            state["changes"].append(change)
            state["moves"].append(move)
            state["inverses"].append(1.0 / product)
            smooth_change = self._smooth(state, change)
            if smooth_change is not None:
                self._learn_scales(state, move, smooth_change, product)
                change = self._mix_channels(state, smooth_change)
            state["curvature"] = product / self._dot(state["changes"][-1], change)

    def _smooth(self, state: dict[str, Any], values: Tensor) -> Tensor | None:
        """Apply the preconditioner, or return None if there is none or it is too early."""
        early = len(state["changes"]) < _PAIRS_BEFORE_PRECONDITIONING
        return None if self._precondition is None or early else self._precondition(values)

    def _learn_scales(
        self, state: dict[str, Any], move: Tensor, change: Tensor, product: Tensor
    ) -> None:
        """Add a pair to the second moments of channels."""
        if self._channels == 1:
            return
        for name, values in (("move_moments", move), ("change_moments", change)):
            moments = torch.einsum("bc...,bd...->cd", values, values).double()
            share = self._all_reduce(moments) / product.double()
            state[name] = _REMEMBERED * state[name] + share

    def _mix_channels(self, state: dict[str, Any], values: Tensor) -> Tensor:
        """Multiply channels, in place, by the matrix that the pairs have taught."""
        moments = state["change_moments"], state["move_moments"]
        if not all(float(part.trace()) > 0 for part in moments):
            return values
        ridge = _RIDGE * torch.eye(self._channels).to(moments[0])
        matrix = transport_matrix(*(part / part.trace() + ridge for part in moments)).to(values)
        count = max(1, _CHUNK * values.shape[2] // values.numel())
        for part in values.split(count, 2):
            part.copy_(torch.einsum("cd,bd...->bc...", matrix, part))
        return values

    def _direction(self, state: dict[str, Any], gradient: Tensor) -> Tensor:
        """Multiply the gradient by the approximate inverse Hessian (two-loop recursion)."""
        pairs = list(zip(state["changes"], state["moves"], state["inverses"], strict=True))
        direction = gradient.neg()
        weights = []
        for change, move, inverse in reversed(pairs):
            weights.append(self._dot(move, direction) * inverse)
            direction.add_(change, alpha=-float(weights[-1]))
        smooth = self._smooth(state, direction)
        if smooth is not None:
            direction = self._mix_channels(state, smooth)
        direction.mul_(state["curvature"])
        for (change, move, inverse), weight in zip(pairs, reversed(weights), strict=True):
            direction.add_(move, alpha=float(weight - self._dot(change, direction) * inverse))
        return direction

    def _dot(self, a: Tensor, b: Tensor) -> Tensor:
        return self._all_reduce(a.reshape(-1).dot(b.reshape(-1)))
