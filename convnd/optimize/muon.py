"""Muon for the matrices among the weights of a network, and Adam for its other weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from convnd.optimize.adam import Adam

__all__ = ["Muon", "orthogonalize"]

_MOMENTUM = 0.95
_RATIO = 5.0
"""Relative length of a step of a matrix, divided by the learning rate of Adam."""

_COEFFICIENTS, _ITERATIONS = (3.4445, -4.7750, 2.0315), 5
"""Polynomial of the Newton-Schulz iteration, and how often it is applied (Jordan et al., 2024)."""


class Muon(Adam):
    r"""Muon (Jordan et al., 2024) for matrices, and Adam for all other values of a vector.

    A matrix :math:`W` moves along its momentum :math:`M = U \Sigma V^T`, whose singular values are
    all replaced by about 1, so that directions of small gradients learn as fast as others:

    .. math:: W \leftarrow W - 5\,\eta\,\lVert W_0 \rVert_2\, U V^T

    It differs from the source in the length of a step, which is relative to the largest singular
    value of the first :math:`W_0`.

    Args:
        x: the weights of a network ``(N,)``, one after the other. `step` reads the gradient from
            ``x.grad``.
        lr: learning rate :math:`\eta`, that of Adam.
        matrices: start and shape of each matrix in ``x``.

    >>> x = torch.tensor([1.0, 0.0, 0.0, 2.0, 5.0])
    >>> optimizer = Muon(x, 0.01, matrices=[(0, (2, 2))])
    >>> x.grad = torch.tensor([1.0, 0.0, 0.0, 1e-2, 1.0])
    >>> optimizer.step()
    >>> (x * 100).round().tolist()
    [93.0, 0.0, 0.0, 193.0, 499.0]
    """

    state_kinds: ClassVar[Mapping[str, str]] = {
        **Adam.state_kinds,
        "momentum": "field",
        "norms": "numbers",
    }

    def __init__(
        self, x: Tensor, lr: float, *, matrices: Sequence[tuple[int, tuple[int, int]]]
    ) -> None:
        super().__init__(x, lr)
        self._matrices = matrices

    @torch.no_grad()
    def step(self) -> None:
        """Move ``x`` once along its gradient, which stays unchanged."""
        x, gradient = self.x, self.x.grad
        assert gradient is not None
        before = [part.clone() for part in self._parts(x)]
        momentum = self.state.pop("momentum", None)
        norms = self.state.pop("norms", None)
        if momentum is None:
            momentum = torch.zeros_like(x)
            norms = [float(torch.linalg.matrix_norm(part, 2)) for part in before]
        super().step()
        momentum.lerp_(gradient, 1 - _MOMENTUM)
        ahead = gradient.lerp(momentum, _MOMENTUM)
        for part, old, direction, norm in zip(
            self._parts(x), before, self._parts(ahead), norms, strict=True
        ):
            part.copy_(old.add_(orthogonalize(direction), alpha=-_RATIO * self.lr * norm))
        self.state.update(momentum=momentum, norms=norms)

    def load(self, state: dict[str, Any]) -> None:
        """See `Optimizer.load`."""
        super().load(state)
        if self.state and len(self.state["norms"]) != len(self._matrices):
            raise ValueError("the state of an optimizer of other matrices")

    def _parts(self, vector: Tensor) -> list[Tensor]:
        return [
            vector[start : start + math.prod(shape)].view(shape) for start, shape in self._matrices
        ]


def orthogonalize(matrix: Tensor) -> Tensor:
    r"""Replace the singular values of a matrix by values of about 1, from 0.7 to 1.2.

    Args:
        matrix: :math:`U \Sigma V^T`, ``(R, C)``.

    Returns:
        About :math:`U V^T`, ``(R, C)``, by a Newton-Schulz iteration (Jordan et al., 2024).
        Singular values below 1e-3 of the norm of the matrix stay smaller.
    """
    linear, cubic, quintic = _COEFFICIENTS
    wide = matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
    x: Tensor = wide / wide.norm().clamp_min(torch.finfo(wide.dtype).tiny)
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = linear * x + (cubic * square + quintic * square @ square) @ x
    return x.mT if wide is not matrix else x
