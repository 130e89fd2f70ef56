"""A transfer that runs takes other weights, strengths and styles, and goes on from its values."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from error_fields import raises

from convnd.errors import UsageError
from convnd.losses import Objective
from convnd.optimize import evaluate_whole, load_checkpoint, save_checkpoint
from convnd.transfer.adjustment import Adjustment
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.progress import Progress
from convnd.transfer.style_transfer import StyleTransfer
from convnd.transfer.targets import Targets

OPTIONS = TransferOptions(
    backbone="compact",
    precision="float32",
    style_layers=("relu1_1", "relu2_1"),
    content_layers=("relu2_2",),
    steps=6,
    scales=2,
    size=0,
    tolerance=0.0,
)


def fields(extents: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(len(extents))
    return list(torch.rand(3, 1, 1, *extents, generator=generator))


def observe(transfer: StyleTransfer) -> list[Objective]:
    """Collect the objectives of all phases."""
    objectives: list[Objective] = []
    make = transfer.optimize

    def optimize(objective: Objective, *more: Any, **named: Any) -> Any:
        objectives.append(objective)
        return make(objective, *more, **named)

    transfer.optimize = optimize  # type: ignore[method-assign]
    return objectives


CHANGES: dict[str, dict[str, Any]] = {
    "style weight": {"style_weight": 90.0},
    "content weight": {"content_weight": 0.25},
    "total variation": {"tv_weight": 2.0},
    "blend": {"style_weights": (3.0, 1.0)},
    "style size": {"style_scale": 0.5},
    "strength": {"strength": 0.25},
    "other styles": {"power": 2.0},
}


@pytest.mark.parametrize("extents", [(200,), (64, 128), (8, 10, 9)], ids=["1-D", "2-D", "3-D"])
@pytest.mark.parametrize("name", CHANGES)
def test_the_objective_after_a_change_is_that_of_a_new_transfer(
    extents: tuple[int, ...], name: str
) -> None:
    """Value and gradient at the same place equal those of a transfer that begins so."""
    content, *styles = fields(extents)
    change = dict(CHANGES[name])
    strength, power = change.pop("strength", 1.0), change.pop("power", 1.0)
    problem = TransferProblem(content, styles)
    changed_styles = [style**power for style in styles]
    after = Adjustment(
        dataclasses.replace(problem, strength=strength, styles=changed_styles),
        dataclasses.replace(OPTIONS, **change),
    )
    transfer = StyleTransfer(OPTIONS, spatial_dims=len(extents), in_channels=1)
    objectives = observe(transfer)
    steps = list(transfer.run(problem, adjust=lambda step: after if step == 1 else None))
    anew = StyleTransfer(after.options, spatial_dims=len(extents), in_channels=1)
    expected = observe(anew)
    list(anew.run(after.problem))
    first, *changed = objectives
    ends = [step.values for step in steps[2:] if step.step == step.steps or step.phase == 1]
    assert len(changed) == len(expected) == steps[-1].phases
    for one, other, at in zip(changed, expected, (ends[0], steps[-1].values), strict=False):
        mine, its = (evaluate_whole(objective, at) for objective in (one, other))
        assert mine.loss == pytest.approx(its.loss, rel=1e-6)
        assert torch.allclose(mine.gradient, its.gradient, rtol=1e-4, atol=1e-9)
    assert evaluate_whole(first, ends[0]).loss != evaluate_whole(changed[0], ends[0]).loss


def test_a_change_goes_on_from_the_values_and_takes_the_steps_of_the_scale_again() -> None:
    content, *styles = fields((64, 128))
    problem = TransferProblem(content, styles)
    after = Adjustment(problem, dataclasses.replace(OPTIONS, style_weight=90.0))
    transfer = StyleTransfer(OPTIONS, spatial_dims=2, in_channels=1)
    steps = list(transfer.run(problem, adjust=lambda step: after if step == 2 else None))
    before, again = steps[2], steps[3]
    assert (before.step, again.step) == (2, 2)
    assert torch.equal(before.values, again.values)
    coarse = [step.step for step in steps if step.phase == 1]
    assert coarse == [0, 1, 2, *range(2, coarse[-1] + 1)]
    assert steps[-1].step == steps[-1].steps == 2 + OPTIONS.steps


@pytest.mark.parametrize("name", ["style weight", "content weight", "total variation", "blend"])
def test_other_weights_cost_no_pass_of_the_network(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, *styles = fields((64, 128))
    problem = TransferProblem(content, styles)
    after = Adjustment(problem, dataclasses.replace(OPTIONS, **CHANGES[name]))
    calls: list[str] = []
    for method in ("content", "style"):
        original = getattr(Targets, method)

        def count(self: Any, *values: Any, _of: Any = original, **named: Any) -> Any:
            calls.append(_of.__name__)
            return _of(self, *values, **named)

        monkeypatch.setattr(Targets, method, count)
    transfer = StyleTransfer(OPTIONS, spatial_dims=2, in_channels=1)
    *_, last = transfer.run(problem, adjust=lambda step: after if step == 1 else None)
    assert calls == ["content", "style", "style"] * last.phases  # once at each size


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam", "gradient-descent"])
def test_after_a_change_the_new_loss_falls(optimizer: str) -> None:
    content, *styles = fields((64, 128))
    options = dataclasses.replace(OPTIONS, optimizer=optimizer, scales=1, steps=20)
    problem = TransferProblem(content, styles)
    after = Adjustment(problem, dataclasses.replace(options, content_weight=20.0))
    transfer = StyleTransfer(options, spatial_dims=2, in_channels=1)
    steps = list(transfer.run(problem, adjust=lambda step: after if step == 10 else None))
    changed = steps[11:]
    assert changed[0].loss > steps[10].loss  # the content counts twenty times
    assert changed[-1].loss < changed[0].loss


def test_an_interrupted_transfer_with_a_change_continues_to_the_bit(tmp_path: Any) -> None:
    content, *styles = fields((64, 128))
    problem = TransferProblem(content, styles)
    after = Adjustment(problem, dataclasses.replace(OPTIONS, style_weight=90.0))

    def begin() -> StyleTransfer:
        return StyleTransfer(OPTIONS, spatial_dims=2, in_channels=1)

    whole: list[Progress] = []
    for progress in begin().run(problem, adjust=lambda step: after if step == 2 else None):
        whole.append(progress)
        if len(whole) == 5:  # the first step after the change
            save_checkpoint(tmp_path / "state", progress.state(), "mark")
    state = load_checkpoint(tmp_path / "state", "mark")
    rest = list(begin().run(problem, resume=state, options=after.options))
    assert [step.step for step in rest] == [step.step for step in whole[4:]]
    assert torch.equal(rest[-1].values, whole[-1].values)


def test_another_content_or_number_of_styles_is_refused() -> None:
    content, *styles = fields((64, 128))
    problem = TransferProblem(content, styles)
    transfer = StyleTransfer(OPTIONS, spatial_dims=2, in_channels=1)
    for changed in (TransferProblem(content + 1, styles), TransferProblem(content, styles[:1])):
        after = Adjustment(changed, OPTIONS)
        with raises(UsageError, operation="adjustment"):
            list(transfer.run(problem, adjust={0: after}.get))


def test_a_change_leaves_the_next_transfer_alone() -> None:
    content, *styles = fields((64, 128))
    problem = TransferProblem(content, styles)
    after = Adjustment(problem, dataclasses.replace(OPTIONS, style_weight=90.0, style_scale=0.5))
    transfer = StyleTransfer(OPTIONS, spatial_dims=2, in_channels=1)
    *_, first = transfer.run(problem)
    list(transfer.run(problem, adjust=lambda step: after if step == 1 else None))
    *_, second = transfer.run(problem)
    assert torch.equal(first.values, second.values)
