"""Plain gradient descent."""

from __future__ import annotations

import torch

from convnd.optimize.base import Optimizer

__all__ = ["GradientDescent"]


class GradientDescent(Optimizer):
    r"""Gradient descent, as the lecture on style transfer writes it.

    .. math:: G := G - \eta \, \frac{\partial J}{\partial G}

    >>> x = torch.tensor([3.0])
    >>> x.grad = torch.tensor([2.0])
    >>> GradientDescent(x, 0.5).step()
    >>> x
    tensor([2.])
    """

    follows_gradient_scale = True

    @torch.no_grad()
    def step(self) -> None:
        """Move ``x`` once along its gradient, which stays unchanged."""
        assert self.x.grad is not None
        self.x.add_(self.x.grad, alpha=-self.lr)
