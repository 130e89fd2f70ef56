"""What L-BFGS keeps when a transfer goes on at another size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convnd.optimize.lbfgs import LBFGS


def lbfgs(x: Tensor, smoothing: float) -> LBFGS:
    return LBFGS(
        x,
        1.0,
        history=20,
        all_reduce=lambda number: number,
        precondition=lambda values: values * smoothing,
    )


def coarse_steps(smoothing: float, scale: float = 1.0) -> LBFGS:
    """Five steps on ``sum(h x²) / 2`` over 32 samples, with curvatures ``h`` of 3 to 5."""
    x = scale * torch.linspace(-1, 1, 32).view(1, 1, 32)
    optimizer = lbfgs(x, smoothing)
    for _ in range(5):
        x.grad = torch.linspace(3, 5, 32) * x
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("smoothing", [1.0, 0.02])
def test_the_first_step_at_twice_the_size_reaches_the_minimum(smoothing: float) -> None:
    fine = torch.linspace(-1, 1, 64).view(1, 1, 64)
    optimizer = lbfgs(fine, smoothing)
    optimizer.inherit(coarse_steps(smoothing).state, 2.0)
    fine.grad = 2.0 * fine  # of a mean over twice as many samples
    before = float(fine.norm())
    optimizer.step()
    assert float(fine.norm()) < 0.4 * before


def test_the_first_step_at_another_size_is_no_longer_than_those_before() -> None:
    coarse = coarse_steps(0.02, scale=0.01)
    longest = max(float(move.norm()) for move in coarse.state["moves"])
    fine = torch.linspace(-1, 1, 64).view(1, 1, 64)
    start = fine.clone()
    optimizer = lbfgs(fine, 0.02)
    optimizer.inherit(coarse.state, 2.0)
    fine.grad = 2.0 * fine
    optimizer.step()
    assert float((fine - start).norm()) == pytest.approx(longest * 2**0.5, rel=1e-4)
