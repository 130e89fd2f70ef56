"""The table of optimizers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from convnd.optimize.adam import Adam
from convnd.optimize.base import AllReduce, Optimizer, Precondition
from convnd.optimize.gradient_descent import GradientDescent
from convnd.optimize.lbfgs import LBFGS
from convnd.optimize.offload import DiskOffload
from convnd.registry import Registry

__all__ = ["HISTORY", "LEAST_HISTORY", "OPTIMIZERS", "OptimizerSpec"]

HISTORY = 20
"""Pairs of gradient and step that L-BFGS remembers; 100 cost 600 MiB at 512²."""

LEAST_HISTORY = 5
"""Least number of such pairs, where memory is short: the preconditioner needs three."""


@dataclass(frozen=True)
class OptimizerSpec:
    """An entry of `OPTIMIZERS`.

    Attributes:
        make: builds the optimizer from a tensor, a learning rate, `AllReduce`, `DiskOffload`, and
            `Precondition` and a number of pairs, which only L-BFGS uses.
        learning_rate: default learning rate.
        base_copies: number of tensors of the size of the optimized one, itself included, that
            `convnd.optimize.minimize` holds while the objective is evaluated, without pairs.
        pairs: whether it remembers pairs of gradient and step.
    """

    make: Callable[[Tensor, float, AllReduce, DiskOffload, Precondition | None, int], Optimizer]
    learning_rate: float
    base_copies: int
    pairs: bool = False

    def copies(self, history: int = HISTORY) -> int:
        """Return the number of tensors of the size of the optimized one.

        Args:
            history: number of pairs that are remembered.

        >>> OPTIMIZERS["lbfgs"].copies(), OPTIMIZERS["lbfgs"].copies(5), OPTIMIZERS["adam"].copies()
        (46, 16, 6)
        """
        return self.base_copies + 2 * history * self.pairs


def _lbfgs(
    x: Tensor,
    lr: float,
    all_reduce: AllReduce,
    _: DiskOffload,
    precondition: Precondition | None,
    history: int,
) -> Optimizer:
    return LBFGS(x, lr, history=history, all_reduce=all_reduce, precondition=precondition)


def _adam(x: Tensor, lr: float, _: AllReduce, offload: DiskOffload, *_unused: object) -> Optimizer:
    return Adam(x, lr, offload=offload)


def _gradient_descent(x: Tensor, lr: float, *_unused: object) -> Optimizer:
    return GradientDescent(x, lr)


OPTIMIZERS: Registry[OptimizerSpec] = Registry("optimizer")
# Four tensors are x, the last step, the best step and the gradient. L-BFGS adds the last gradient,
# a direction and its pairs; Adam adds two moments.
OPTIMIZERS.add("lbfgs", OptimizerSpec(_lbfgs, 1.0, 6, pairs=True))
OPTIMIZERS.add("adam", OptimizerSpec(_adam, 0.02, 6))  # for values that span about 1
OPTIMIZERS.add("gradient-descent", OptimizerSpec(_gradient_descent, 1.0, 4))
