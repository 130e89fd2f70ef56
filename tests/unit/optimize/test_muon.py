"""Muon: directions of equal length for matrices, Adam for the rest, and a state that resumes."""

from __future__ import annotations

import math

import pytest
import torch

from convnd.optimize.adam import Adam
from convnd.optimize.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5)])
def test_singular_values_become_about_one(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(shape, generator=generator)
    u, values, v = torch.linalg.svd(orthogonalize(matrix))
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3
    # The singular vectors stay those of the matrix: U^T M V is diagonal.
    rotated = u.mT @ matrix @ v.mT
    size = min(shape)
    diagonal = rotated[:size, :size].diagonal()
    assert float(diagonal.min()) > 0
    assert float(rotated.square().sum() - diagonal.square().sum()) < 1e-3 * float(
        diagonal.square().sum()
    )


def test_zeros_stay_zeros() -> None:
    assert torch.equal(orthogonalize(torch.zeros(2, 3)), torch.zeros(2, 3))


def quadratic(x: torch.Tensor, target: torch.Tensor) -> float:
    """Set the gradient of a quadratic whose directions are steep or flat, and return its value."""
    steepness = torch.logspace(0, -3, x.numel())
    x.grad = steepness * (x - target)
    return float((steepness * (x - target).square()).sum() / 2)


def test_values_outside_of_matrices_follow_adam() -> None:
    target = torch.randn(14, generator=torch.Generator().manual_seed(1))
    x, y = torch.zeros(14), torch.zeros(14)
    x[:12] = y[:12] = 0.1
    muon, adam = Muon(x, 0.01, matrices=[(0, (3, 4))]), Adam(y, 0.01)
    for _ in range(3):
        quadratic(x, target)
        quadratic(y, target)
        muon.step()
        adam.step()
    assert torch.equal(x[12:], y[12:])
    assert not torch.equal(x[:12], y[:12])


def test_a_step_is_relative_to_the_first_matrix() -> None:
    steps = []
    for scale in (1.0, 10.0):
        x = torch.eye(4).flatten() * scale
        optimizer = Muon(x, 0.01, matrices=[(0, (4, 4))])
        before = x.clone()
        x.grad = torch.randn(16, generator=torch.Generator().manual_seed(2))
        optimizer.step()
        steps.append((x - before).norm())
    assert math.isclose(float(steps[1] / steps[0]), 10.0, rel_tol=1e-4)


def test_a_resumed_run_takes_the_same_steps() -> None:
    target = torch.randn(14, generator=torch.Generator().manual_seed(3))
    x = torch.ones(14)
    optimizer = Muon(x, 0.01, matrices=[(1, (3, 4))])
    for _ in range(4):
        quadratic(x, target)
        optimizer.step()
    y = x.clone()
    resumed = Muon(y, 0.01, matrices=[(1, (3, 4))])
    resumed.load(dict(optimizer.state))
    resumed.state = {
        name: value.clone() if isinstance(value, torch.Tensor) else value
        for name, value in resumed.state.items()
    }
    for weights, muon in ((x, optimizer), (y, resumed)):
        for _ in range(3):
            quadratic(weights, target)
            muon.step()
    assert torch.equal(x, y)
    with pytest.raises(ValueError, match="other matrices"):
        Muon(torch.ones(14), 0.01, matrices=[]).load(optimizer.state)
