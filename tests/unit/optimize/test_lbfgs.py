"""What L-BFGS keeps when a transfer goes on at another size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convnd.optimize.base import Precondition
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


def distance_after(steps: int, channels: int, *, precondition: Precondition | None) -> float:
    """The distance to a minimum whose curvature along directions of channels is 1, 10, 100 …"""
    generator = torch.Generator().manual_seed(3)
    basis, _ = torch.linalg.qr(torch.randn(channels, channels, generator=generator))
    hessian = basis @ torch.diag(10.0 ** torch.arange(channels)) @ basis.T
    goal = torch.randn(1, channels, 200, generator=generator)
    x = torch.zeros_like(goal)
    optimizer = LBFGS(
        x, 1.0, history=2, all_reduce=lambda number: number, precondition=precondition
    )
    for _ in range(steps):
        x.grad = torch.einsum("cd,bdn->bcn", hessian, x - goal)
        optimizer.step()
    return float((x - goal).norm() / goal.norm())


def test_the_curvature_of_channels_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convnd.optimize.lbfgs._PAIRS_BEFORE_PRECONDITIONING", 1)
    learnt = distance_after(20, 3, precondition=torch.clone)
    monkeypatch.setattr(LBFGS, "_mix_channels", lambda _, __, values: values)
    assert learnt < 1e-2 * distance_after(20, 3, precondition=torch.clone)


def test_one_channel_has_no_curvature_to_learn() -> None:
    optimizer = coarse_steps(0.5)
    assert not optimizer.state["move_moments"].any()


def test_moments_of_channels_stay_at_another_size() -> None:
    x = torch.randn(1, 3, 32)
    optimizer = lbfgs(x, 1.0)
    for _ in range(6):
        x.grad = torch.tensor([1.0, 5.0, 25.0]).view(1, 3, 1) * x
        optimizer.step()
    fine = lbfgs(torch.randn(1, 3, 64), 1.0)
    fine.inherit(optimizer.state, 2.0)
    assert fine.state["move_moments"].equal(optimizer.state["move_moments"])
    assert float(fine.state["move_moments"].trace()) > 0


@pytest.mark.parametrize("matrix", [torch.zeros(2, 2).double(), torch.eye(3), None])
def test_moments_of_other_channels_are_refused(matrix: Tensor | None) -> None:
    optimizer = lbfgs(torch.randn(1, 3, 8), 1.0)
    optimizer.x.grad = torch.ones(1, 3, 8)
    optimizer.step()
    with pytest.raises(ValueError, match="move_moments"):
        optimizer.load({**optimizer.state, "move_moments": matrix})
