"""The coordinates of L-BFGS: a symmetric filter of frequencies, and what L-BFGS does in them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from convnd.optimize import HISTORY, OPTIMIZERS, DiskOffload, Smoothing
from convnd.optimize.smoothing import CUTOFF


def cosine(extent: int, frequency: int) -> Tensor:
    """One basis function of the cosine transform."""
    return torch.cos(math.pi * frequency * (torch.arange(extent).double() + 0.5) / extent)


@pytest.mark.parametrize("size", [(9,), (8,), (2, 3), (12, 1, 7), (5, 4, 6)])
def test_each_frequency_is_scaled(size: tuple[int, ...]) -> None:
    frequencies = [extent // 2 for extent in size]
    field = torch.ones(1, 1, *size, dtype=torch.float64)
    for axis, (extent, frequency) in enumerate(zip(size, frequencies, strict=True)):
        field = field * cosine(extent, frequency).view(
            [-1 if a == axis else 1 for a in range(len(size))]
        )
    squares = sum((f / (2 * n * CUTOFF)) ** 2 for f, n in zip(frequencies, size, strict=True))
    torch.testing.assert_close(Smoothing(size)(field), field * (1 + squares) ** -0.5)


def test_the_operator_is_symmetric() -> None:
    smooth = Smoothing((11, 6))
    a, b = torch.randn(2, 1, 3, 11, 6, dtype=torch.float64)
    torch.testing.assert_close((smooth(a) * b).sum(), (a * smooth(b)).sum())


def test_fixed_axes_and_axes_of_one_sample_stay() -> None:
    field = torch.randn(1, 2, 5, 8, 1)
    smooth = Smoothing((5, 8, 1), fixed_axes=(0,))
    expected = torch.stack([Smoothing((8,))(frame[..., 0]) for frame in field.unbind(2)], 2)
    torch.testing.assert_close(smooth(field)[..., 0], expected)


def test_parts_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    field = torch.randn(1, 3, 20, 30)
    expected = Smoothing((20, 30))(field)
    monkeypatch.setattr("convnd.optimize.smoothing._CHUNK", 64)
    torch.testing.assert_close(Smoothing((20, 30))(field), expected)


def test_lbfgs_starts_from_the_preconditioner() -> None:
    """Newton's method, once its factor is known: the preconditioner is the exact inverse."""
    steep = torch.linspace(1, 30, 24).view(1, 1, 24)
    goal = torch.randn(1, 1, 24, generator=torch.Generator().manual_seed(0))
    spec, distances = OPTIMIZERS["lbfgs"], []
    for precondition in (None, lambda values: values / steep):
        x = torch.zeros(1, 1, 24)
        parts = DiskOffload.disabled(), precondition, HISTORY
        optimizer = spec.make(x, 1.0, lambda number: number, *parts)
        for _ in range(8):
            x.grad = steep * (x - goal)
            optimizer.step()
        distances.append(float((x - goal).norm() / goal.norm()))
    plain, preconditioned = distances
    assert preconditioned < 1e-5 < 1e-2 < plain


def test_the_first_steps_are_those_of_plain_lbfgs() -> None:
    steep, goal = torch.linspace(1, 30, 24), torch.randn(1, 1, 24)
    spec, iterates = OPTIMIZERS["lbfgs"], []
    for precondition in (None, Smoothing((24,))):
        x = torch.zeros(1, 1, 24)
        parts = DiskOffload.disabled(), precondition, HISTORY
        optimizer = spec.make(x, 1.0, lambda number: number, *parts)
        for _ in range(5):
            x.grad = steep * (x - goal)
            optimizer.step()
            iterates.append(x.clone())
    plain, preconditioned = iterates[:5], iterates[5:]
    assert all(a.equal(b) for a, b in zip(plain[:3], preconditioned[:3], strict=True))
    assert not plain[4].equal(preconditioned[4])
