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

__all__ = ["HISTORY", "OPTIMIZERS", "OptimizerSpec"]

HISTORY = 20
"""Pairs of gradient and step that L-BFGS remembers; 100 cost 600 MiB at 512²."""


@dataclass(frozen=True)
class OptimizerSpec:
    """An entry of `OPTIMIZERS`.

    Attributes:
        make: builds the optimizer from a tensor, a learning rate, `AllReduce`, `DiskOffload` and
            `Precondition`, which only L-BFGS uses.
        learning_rate: default learning rate.
        copies: number of tensors of the size of the optimized one, itself included, that
            `convnd.optimize.minimize` holds while the objective is evaluated.
    """

    make: Callable[[Tensor, float, AllReduce, DiskOffload, Precondition | None], Optimizer]
    learning_rate: float
    copies: int


def _lbfgs(
    x: Tensor, lr: float, all_reduce: AllReduce, _: DiskOffload, precondition: Precondition | None
) -> Optimizer:
    return LBFGS(x, lr, history=HISTORY, all_reduce=all_reduce, precondition=precondition)


def _adam(x: Tensor, lr: float, _: AllReduce, offload: DiskOffload, *_unused: object) -> Optimizer:
    return Adam(x, lr, offload=offload)


def _gradient_descent(x: Tensor, lr: float, *_unused: object) -> Optimizer:
    return GradientDescent(x, lr)


OPTIMIZERS: Registry[OptimizerSpec] = Registry("optimizer")
# Four tensors are x, the last step, the best step and the gradient. L-BFGS adds the last gradient,
# a direction and its pairs; Adam adds two moments.
OPTIMIZERS.add("lbfgs", OptimizerSpec(_lbfgs, 1.0, 6 + 2 * HISTORY))
OPTIMIZERS.add("adam", OptimizerSpec(_adam, 0.02, 6))  # for values that span about 1
OPTIMIZERS.add("gradient-descent", OptimizerSpec(_gradient_descent, 1.0, 4))
