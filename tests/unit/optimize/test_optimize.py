from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from error_fields import raises

from convnd.backbones import Precision
from convnd.errors import NumericalError, UnknownNameError, UsageError
from convnd.losses import Objective, Term, TotalVariationLoss
from convnd.optimize import (
    OPTIMIZERS,
    Evaluation,
    evaluate_whole,
    minimize,
    pyramid_sizes,
    refine,
    spread_steps,
)
from convnd.optimize.lbfgs import LBFGS

MakeObjective = Callable[[int], tuple[Objective, torch.Tensor]]


def quadratic(_: object, x: torch.Tensor) -> Evaluation:
    """Ellipses with axes 1 and 10 around (1, 2, 3, …)."""
    goal = torch.arange(1.0, x.numel() + 1).view(x.shape)
    scale = torch.linspace(1, 10, x.numel()).view(x.shape)
    difference = (x - goal) * scale
    loss = difference.square().sum().item()
    return Evaluation(loss, {"bowl": loss}, 2 * difference * scale)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize(
    ("optimizer", "rate", "steps"),
    [("lbfgs", None, 40), ("adam", 0.1, 800), ("gradient-descent", 0.009, 800)],
)
def test_every_optimizer_finds_the_bottom(
    ndim: int, optimizer: str, rate: float | None, steps: int, make_objective: MakeObjective
) -> None:
    start = torch.zeros(1, 1, *[2] * ndim)
    *_, last = minimize(
        make_objective(1)[0],
        start,
        steps=steps,
        optimizer=optimizer,
        learning_rate=rate,
        evaluate=quadratic,
    )
    goal = torch.arange(1.0, start.numel() + 1).view(start.shape)
    torch.testing.assert_close(last.values, goal, atol=0.02, rtol=0)
    assert not start.any()


def test_gradient_descent_is_the_notes_update(
    make_objective: MakeObjective, generator: torch.Generator
) -> None:
    """G := G - η ∂J/∂G, step by step."""
    objective, _ = make_objective(2)
    start = torch.rand(1, 1, 6, 6, generator=generator)
    x = start.clone()
    for step in minimize(
        objective,
        start,
        steps=3,
        optimizer="gradient-descent",
        learning_rate=0.05,
        evaluate=evaluate_float64,
    ):
        torch.testing.assert_close(step.values, x)
        x = x - 0.05 * evaluate_float64(objective, x).gradient


def evaluate_float64(objective: Objective, x: torch.Tensor) -> Evaluation:
    evaluation = evaluate_whole(objective, x.double())
    return Evaluation(evaluation.loss, evaluation.parts, evaluation.gradient.to(x.dtype))


def test_lbfgs_is_that_of_torch_bit_by_bit(generator: torch.Generator) -> None:
    root = torch.randn(30, 30, generator=generator)
    for history in (3, 20):
        ours = torch.randn(1, 2, 3, 5, generator=generator)
        theirs = ours.clone()
        expected = torch.optim.LBFGS(
            [theirs], lr=0.9, max_iter=1, history_size=history, tolerance_grad=0, tolerance_change=0
        )
        optimizer = LBFGS(ours, 0.9, history=history, all_reduce=lambda number: number)
        for _ in range(25):
            for x in (ours, theirs):
                flat = x.reshape(-1)
                x.grad = (root @ (root.T @ flat) / 30 + torch.tanh(flat)).view_as(x)
            expected.step(lambda: 0.0)
            optimizer.step()
            assert ours.equal(theirs)


def test_evaluation_is_the_objective_and_its_gradient(make_objective: MakeObjective) -> None:
    objective, x = make_objective(2)
    evaluation = evaluate_whole(objective, x)
    step = 1e-5
    for place in ((0, 0, 0, 0), (0, 0, 2, 3), (0, 0, 5, 5)):
        change = torch.zeros_like(x)
        change[place] = step
        above, below = (evaluate_whole(objective, x + sign * change).loss for sign in (1, -1))
        slope = (above - below) / (2 * step)
        assert evaluation.gradient[place].item() == pytest.approx(slope, rel=1e-4)
    assert set(evaluation.parts) == {"content", "style", "smooth", "temporal"}
    assert sum(evaluation.parts.values()) == pytest.approx(evaluation.loss)


def test_steps_are_counted_and_kept(make_objective: MakeObjective) -> None:
    objective, x = make_objective(1)
    steps = list(minimize(objective, x.float(), steps=5, evaluate=quadratic))
    assert [step.index for step in steps] == list(range(6))
    assert steps[0].values.equal(x.float())
    copies = [step.values.clone() for step in steps]
    assert len({tuple(copy.flatten().tolist()) for copy in copies}) == 6


def test_a_nan_is_taken_back_and_then_given_up(make_objective: MakeObjective) -> None:
    objective, x = make_objective(1)
    calls = []

    def fails_after_three(_: object, x: torch.Tensor) -> Evaluation:
        calls.append(x.clone())
        evaluation = quadratic(None, x)
        return evaluation if len(calls) <= 3 else Evaluation(math.nan, {}, evaluation.gradient)

    steps = minimize(objective, x.float(), steps=50, evaluate=fails_after_three)
    yielded = []
    with raises(NumericalError, operation="minimize", got="nan at step 3 after 8"):
        for step in steps:
            yielded.append(step)  # noqa: PERF402
    assert len(yielded) == 3
    assert all(math.isfinite(step.loss) for step in yielded)
    # Taken back several times before giving up: half the step from the best, and half again.
    distances = [(call - yielded[-1].values).norm().item() for call in calls[4:]]
    assert len(distances) >= 5
    for far, near in itertools.pairwise(distances):
        assert near == pytest.approx(far / 2, rel=0.01)
    assert distances[-1] > 0


def test_a_diverging_step_is_repaired(make_objective: MakeObjective) -> None:
    objective, _ = make_objective(1)
    *_, last = minimize(
        objective,
        torch.zeros(1, 1, 4),
        steps=300,
        optimizer="gradient-descent",
        learning_rate=0.05,  # twice over the limit of stability, 1 / 100
        evaluate=quadratic,
    )
    assert last.loss < 1e-3


@pytest.mark.parametrize("rate", [None, 1e-3])
def test_gradient_descent_starts_however_steep_the_objective_is(
    make_objective: MakeObjective, rate: float | None
) -> None:
    def steep(_: Objective, x: torch.Tensor) -> Evaluation:
        evaluation = quadratic(_, x)
        return Evaluation(evaluation.loss * 1e12, {}, evaluation.gradient * 1e12)

    objective, _ = make_objective(1)
    first, *_, last = minimize(
        objective,
        torch.zeros(1, 1, 4),
        steps=40,
        optimizer="gradient-descent",
        learning_rate=rate,
        evaluate=steep,
    )
    assert last.loss < first.loss / 2


def test_nan_at_the_start_is_an_error(make_objective: MakeObjective) -> None:
    objective = Objective(
        make_objective(1)[0].backbone,
        [Term("smooth", 1.0, TotalVariationLoss([1.0]))],
        precision=Precision(),
    )
    with raises(NumericalError, operation="minimize", got="nan at step 0"):
        next(minimize(objective, torch.full((1, 1, 4), math.nan), steps=1))


def test_usage_errors(make_objective: MakeObjective) -> None:
    objective, x = make_objective(1)
    with raises(UnknownNameError, operation="optimizer", got="'sgd'"):
        next(minimize(objective, x, steps=1, optimizer="sgd"))
    with raises(UsageError, operation="minimize", got="-1"):
        next(minimize(objective, x, steps=-1))
    for rate in (0.0, -1.0, math.nan, math.inf):
        with raises(UsageError, operation="minimize", expected="a positive finite learning"):
            next(minimize(objective, x, steps=1, learning_rate=rate))
    with raises(UsageError, operation="scales", expected="at least 1", got="0"):
        pyramid_sizes((8,), 0)
    assert set(OPTIMIZERS) == {"lbfgs", "adam", "gradient-descent"}


@pytest.mark.parametrize(
    ("size", "scales", "expected"),
    [
        ((512,), 1, [(512,)]),
        ((256, 1), 2, [(128, 1), (256, 1)]),
        ((100, 80, 60), 5, [(100, 80, 60)]),  # half of it would be below the smallest
        ((301, 201), 3, [(75, 50), (150, 100), (301, 201)]),
        ((512, 40), 4, [(256, 20), (512, 40)]),  # 10 samples would not reach the deepest layer
        ((1, 1), 3, [(1, 1)]),
    ],
)
def test_pyramid(size: tuple[int, ...], scales: int, expected: list[tuple[int, ...]]) -> None:
    assert pyramid_sizes(size, scales) == expected


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 99, 1000])
def test_steps_are_all_spent(steps: int) -> None:
    counts = spread_steps(steps, 3)
    assert len(counts) == 3
    assert sum(counts) == max(3, steps)
    assert min(counts) >= 1
    assert spread_steps(0, 1) == [0]


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_refining_the_content_gives_the_content(ndim: int, generator: torch.Generator) -> None:
    coarse = torch.rand(1, 1, *[8] * ndim, generator=generator)
    fine = torch.rand(1, 1, *[16] * ndim, generator=generator)
    torch.testing.assert_close(refine(coarse, fine.shape[2:], (coarse, fine)), fine)
    assert refine(coarse, fine.shape[2:]).shape == fine.shape


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_stiff_walk_ends_at_its_best(
    optimizer: str, make_objective: MakeObjective, generator: torch.Generator
) -> None:
    """Logarithms of powers: the weaker, the more sensitive; full steps go far uphill."""
    objective, _ = make_objective(1)
    goal = torch.logspace(0, -1.5, 12, dtype=torch.float64).view(1, 1, 12)

    def evaluate(_: object, x: torch.Tensor) -> Evaluation:
        y = x.double().requires_grad_()
        loss = (torch.log1p(y**2 * 1e8) - torch.log1p(goal**2 * 1e8)).square().sum()
        (gradient,) = torch.autograd.grad(loss, y)
        return Evaluation(loss.item(), {}, gradient.to(x.dtype))

    start = goal.float() * (1 + torch.rand(1, 1, 12, generator=generator))
    steps = list(minimize(objective, start, steps=60, optimizer=optimizer, evaluate=evaluate))
    losses = [step.loss for step in steps]
    assert losses[-1] == min(losses)
    assert evaluate(None, steps[-1].values).loss == losses[-1]
    if optimizer == "lbfgs":
        assert any(after > before for before, after in itertools.pairwise(losses))
        assert losses[-1] < 0.01 * losses[0]


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_start_at_the_minimum_is_the_result(optimizer: str, scale: float) -> None:
    goal = torch.linspace(0.1, 1, 50).view(1, 1, 50)

    def evaluate(_: object, x: torch.Tensor) -> Evaluation:
        # Features in float32 leave this much of a difference of 0; its gradient points anywhere.
        change = x - goal + 1e-7 * torch.linspace(-1, 1, 50).sign()
        return Evaluation(scale * change.square().sum().item(), {}, 2 * scale * change)

    anything: Any = None
    steps = list(minimize(anything, goal, steps=20, optimizer=optimizer, evaluate=evaluate))
    assert len(steps) == 1
    assert torch.equal(steps[-1].values, goal)
    # Further away there is something to do.
    assert len(list(minimize(anything, 1.01 * goal, steps=1, evaluate=evaluate))) == 2
