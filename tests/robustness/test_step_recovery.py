"""Losses that are not finite: smaller steps, float32, then an error and the last good result."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from command_line import Run
from convnd_tasks.inspect import network_from_module
from convnd_tasks.inspect.maximize import AscentError, maximize_activation
from error_fields import raises
from PIL import Image
from torch import Tensor, nn

import convnd.io
from convnd.backbones import VGG, Backbone, Precision, from_module
from convnd.errors import NumericalError
from convnd.losses import ContentLoss, Objective, Term
from convnd.optimize import (
    OPTIMIZERS,
    Evaluation,
    Evaluator,
    TiledEvaluation,
    Tiler,
    evaluate_whole,
    minimize,
)


class Copy(nn.Module):
    """Copies its input; returns NaN in bfloat16 once it is spoilt."""

    def __init__(self) -> None:
        super().__init__()
        self.copy = nn.Conv1d(1, 1, 1, bias=False)
        nn.init.ones_(self.copy.weight)
        self.copy.register_forward_hook(self.spoil)
        self.spoilt = False

    def forward(self, x: Tensor) -> Tensor:
        copied: Tensor = self.copy(x)
        return copied

    def spoil(self, _: object, __: object, output: Tensor) -> Tensor | None:
        return output * math.nan if self.spoilt and output.dtype == torch.bfloat16 else None


FLOOR = 0.01
"""The loss at the minimum of `fragile`. At 0, a run would end before its last step."""


def fragile(good: int, inner: Evaluator = evaluate_whole) -> tuple[Objective, Tensor, Evaluator]:
    """An objective with its minimum at the goal that fails in bfloat16 after some evaluations."""
    goal = torch.linspace(0, 1, 12).view(1, 1, 12)
    net = from_module(Copy(), layers=["copy"], spatial_dims=1, in_channels=1)
    loss = ContentLoss(goal, layer="copy", normalization="mean")
    objective = Objective(net, [Term("kept", 1.0, loss)], precision=Precision(torch.bfloat16))
    (copy,) = (module for module in objective.backbone.modules() if isinstance(module, Copy))
    left = [good]
    # Tiles of a user's module are tested once, which NaN would fail.
    inner(objective, goal)

    def evaluate(objective: Objective, x: Tensor) -> Evaluation:
        left[0] -= 1
        copy.spoilt = left[0] < 0
        evaluation = inner(objective, x)
        return replace(evaluation, loss=evaluation.loss + FLOOR)

    return objective, goal, evaluate


@pytest.mark.parametrize("tile", [None, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("good", [0, 12])
def test_float32_follows_where_bfloat16_fails(optimizer: str, tile: int | None, good: int) -> None:
    inner = evaluate_whole if tile is None else TiledEvaluation(Tiler(tile=tile))
    objective, goal, evaluate = fragile(good, inner)
    steps = list(minimize(objective, goal * 0, steps=60, optimizer=optimizer, evaluate=evaluate))
    assert [step.index for step in steps] == list(range(61))
    assert objective.precision == Precision(torch.float32)
    (note,) = (step.note for step in steps if step.note)
    assert note.startswith("loss nan at step ")
    assert note.endswith("features in plain float32")
    assert steps[-1].rejected_steps == (1 if good == 0 else 9)
    # The last values are not rounded to the 8 bits of bfloat16.
    expected = float((steps[-1].values - goal).square().mean())
    assert steps[-1].loss - FLOOR == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert steps[-1].loss < steps[0].loss / 4


def test_a_run_in_float32_resumes_in_float32() -> None:
    objective, goal, evaluate = fragile(3)
    expected = list(minimize(objective, goal * 0, steps=6, evaluate=evaluate))
    objective, _, evaluate = fragile(3)
    for step in minimize(objective, goal * 0, steps=6, evaluate=evaluate):
        if step.index == 4:
            state = step.state()
            break
    objective, _, evaluate = fragile(0)
    rest = list(minimize(objective, goal * 0, steps=6, evaluate=evaluate, resume=state))
    assert [step.loss for step in rest] == [step.loss for step in expected[4:]]
    assert rest[0].values.equal(expected[4].values)
    assert [(step.rejected_steps, step.note) for step in rest] == [(9, "")] * 3


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("wrong", [math.nan, math.inf, 1e6])
def test_one_bad_step_is_rejected_and_noted(optimizer: str, wrong: float) -> None:
    calls = []

    def evaluate(_: object, x: Tensor) -> Evaluation:
        calls.append(x.clone())
        loss = float((x - 2).square().sum())
        return Evaluation(wrong if len(calls) == 4 else loss, {}, 2 * (x - 2))

    objective, start = fragile(10**6)[0], torch.zeros(1, 1, 3)
    *before, last = minimize(
        objective, start, steps=8, optimizer=optimizer, learning_rate=0.1, evaluate=evaluate
    )
    # Only L-BFGS keeps the gradient at the best.
    assert len(calls) == (10 if optimizer == "lbfgs" else 11)
    assert last.rejected_steps == 1
    noted = [step for step in before if step.note]
    assert [step.index for step in noted] == [3]
    assert noted[0].note.startswith(
        f"loss {wrong:.4g} at step 3 was rejected; continuing from step "
    )
    assert "with 0.5 of the learning rate" in noted[0].note
    assert objective.precision.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("wrong", "bad_moves", "noted"), [(9e9, 2, 0), (9e9, 5, 1), (math.nan, 1, 1)]
)
def test_a_first_move_that_is_too_long_is_no_news(wrong: float, bad_moves: int, noted: int) -> None:
    calls: list[Tensor] = []

    def evaluate(_: object, x: Tensor) -> Evaluation:
        calls.append(x.clone())
        loss = float((x - 2).square().sum())
        return Evaluation(wrong if 1 < len(calls) < 2 + bad_moves else loss, {}, 2 * (x - 2))

    *steps, last = minimize(fragile(10**6)[0], torch.zeros(1, 1, 3), steps=8, evaluate=evaluate)
    assert last.rejected_steps == bad_moves
    assert sum(bool(step.note) for step in steps) == noted


def test_the_error_names_what_was_tried() -> None:
    def evaluate(_: object, x: Tensor) -> Evaluation:
        return Evaluation(math.nan if bool(x.any()) else 1.0, {}, torch.ones_like(x))

    objective, _, _ = fragile(0)
    words = {"operation": "minimize", "got": "nan at step 1 after 17"}
    with raises(NumericalError, **words):
        list(minimize(objective, torch.zeros(1, 1, 3), steps=8, evaluate=evaluate))


class Spoiler:
    """Makes the loss of chosen evaluations NaN."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wrong: Callable[[int], bool] = lambda _: False
        self.calls = 0
        monkeypatch.setattr(Objective, "value", self._spoilt(Objective.value))

    def _spoilt(self, value: Callable[..., tuple[Tensor, Any]]) -> Callable[..., Any]:
        def spoilt(*arguments: Any) -> tuple[Tensor, Any]:
            total, shares = value(*arguments)
            self.calls += 1
            return total * (math.nan if self.wrong(self.calls) else 1.0), shares

        return spoilt


@pytest.fixture
def spoiler(monkeypatch: pytest.MonkeyPatch) -> Spoiler:
    return Spoiler(monkeypatch)


TASKS = {
    "picture": ["stylize", "a.png", "waves", "--size", "24"],
    "signal": ["stylize", "a.csv", "b.csv", "--rate", "100"],
    "clip": ["stylize-video", "frames", "waves", "--size", "64", "--no-figures"],
    "block": ["stylize-video", "frames", "waves", "--mode", "block", "--size", "64"],
}
OUTPUTS = {"picture": "o.png", "signal": "o.csv", "clip": "o", "block": "o"}
FAST = ["--backbone", "compact", "--scales", "1"]


@pytest.fixture
def inputs(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).resize((24, 24)).save(tmp_path / "a.png")
    (tmp_path / "frames").mkdir()
    for number in range(2):
        Image.fromarray(pixels).save(tmp_path / "frames" / f"{number}.png")
    scan = rng.normal(size=(18, 17, 16)).astype(np.float32)
    nib.Nifti1Image(scan, np.eye(4)).to_filename(tmp_path / "a.nii")
    for name in ("a.csv", "b.csv"):
        rows = "\n".join(f"{value:.6g}" for value in rng.normal(size=400))
        (tmp_path / name).write_text(f"I (mV)\n{rows}\n")


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize(
    "task",
    [task if task == "picture" else pytest.param(task, marks=pytest.mark.slow) for task in TASKS],
)
def test_rejected_steps_are_noted_once_and_recorded(
    task: str, run: Run, spoiler: Spoiler, tmp_path: Path
) -> None:
    spoiler.wrong = lambda call: call in (2, 3)
    steps = ["--steps", "3", *(["--frame-steps", "3"] if task == "clip" else [])]
    code, out, err = run(*TASKS[task], *FAST, *steps, "-o", OUTPUTS[task], "-q")
    assert code == 0, err
    assert err.count("rejected") == 1, err
    assert (
        "nan at step 1 was rejected; continuing from step 0 with 0.25 of the learning rate" in err
    )
    if task not in ("clip", "block"):
        assert "3 steps (2 rejected)" in out
    record = convnd.io.read_provenance(tmp_path / OUTPUTS[task])
    assert record["convnd:rejected_steps"] == "2"


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("task", ["picture", pytest.param("signal", marks=pytest.mark.slow)])
def test_the_last_good_result_is_offered(
    task: str, run: Run, spoiler: Spoiler, tmp_path: Path
) -> None:
    spoiler.wrong = lambda call: call > 3
    output = tmp_path / OUTPUTS[task]
    good = output.with_name(f"{output.stem}-last-good{output.suffix}")
    code, _, err = run(*TASKS[task], *FAST, "--steps", "5", "-o", output, "-q")
    assert code == 5, err
    assert err.count("convnd: ") == 1
    assert err.endswith(f"; the last good result is in {good}\n")
    assert not output.exists()
    grid = convnd.io.read(good)
    assert bool(grid.values.isfinite().all())
    record = convnd.io.read_provenance(good)
    assert (record["convnd:stopped"], record["convnd:steps_taken"]) == ("NumericalError", "2")


@pytest.mark.usefixtures("inputs")
def test_frames_before_the_bad_one_are_kept(run: Run, spoiler: Spoiler, tmp_path: Path) -> None:
    spoiler.wrong = lambda call: call > 3
    arguments = (*TASKS["clip"], *FAST, "--steps", "2", "--frame-steps", "2", "-o", "o", "-q")
    code, _, err = run(*arguments)
    assert code == 5, err
    assert "1 finished frames are kept in " in err
    spoiler.wrong = lambda _: False
    code, _, err = run(*arguments, "--resume")
    assert code == 0, err
    assert "continuing after 1 frames" in err


def wobbly(wrong: Callable[[int], bool]) -> tuple[Backbone, list[Tensor]]:
    """A network with one unit whose features are NaN in chosen evaluations; and what it is given.

    Evaluations count from 1; those without a gradient, which only look, are none.
    """
    visited: list[Tensor] = []

    class Wobbly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blur = nn.Conv1d(1, 1, 3, bias=False)
            nn.init.ones_(self.blur.weight)

        def forward(self, x: Tensor) -> Tensor:
            blurred: Tensor = self.blur(x)
            if not x.requires_grad:
                return blurred
            visited.append(x.detach().clone())
            return blurred * (math.nan if wrong(len(visited)) else 1.0)

    return network_from_module(nn.Sequential(Wobbly()), ["0"]), visited


def optimal(network: Backbone, said: list[str], **more: Any) -> Tensor:
    return maximize_activation(
        network, "0", [0], size=[16], jitter=0, blur=0.0, on_message=said.append, **more
    )


def test_steps_of_optimal_inputs_are_taken_back_and_told() -> None:
    said: list[str] = []
    network, visited = wobbly(lambda call: call in (3, 4))
    result = optimal(network, said, steps=6)
    assert len(visited) == 6 + 2
    assert bool(result.isfinite().all())
    # From the second one on: a whole step, a half, a quarter; sigmoids are nearly straight here.
    moves = [(visited[index] - visited[1]).abs().mean().item() for index in (2, 3, 4)]
    assert moves[1] / moves[0] == pytest.approx(0.5, rel=0.1)
    assert moves[2] / moves[0] == pytest.approx(0.25, rel=0.1)
    assert said == [
        "optimal inputs of 0: numbers that are not finite at step 2, rejected; going on at 0.25 "
        "of the learning rate"
    ]


def test_the_last_good_optimal_input_is_offered() -> None:
    said: list[str] = []
    network, visited = wobbly(lambda call: call > 3)
    with raises(
        AscentError, operation="maximize_activation", got="others at step 3 after 8"
    ) as stopped:
        optimal(network, said, steps=6)
    assert len(visited) == 3 + 9
    assert stopped.value.inputs is not None
    torch.testing.assert_close(stopped.value.inputs, visited[2])
    network, visited = wobbly(lambda _: True)
    with raises(
        AscentError, operation="maximize_activation", got="others at step 0 after 0"
    ) as stopped:
        optimal(network, said, steps=6)
    assert len(visited) == 1
    assert stopped.value.inputs is None
    assert not said


@pytest.mark.usefixtures("inputs")
def test_patches_found_before_are_offered_with_them(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    true, calls, good = VGG.forward, [0], range(5, 6)

    def forward(net: VGG, x: Tensor, layers: Sequence[str], **more: Any) -> dict[str, Tensor]:
        calls[0] += x.requires_grad
        factor = math.nan if x.requires_grad and calls[0] in good else 1.0
        return {name: value * factor for name, value in true(net, x, layers, **more).items()}

    monkeypatch.setattr(VGG, "forward", forward)
    command = ["patches", "a.png", "--layer", "relu1_1,relu2_1", "--units", "0-1", "--optimal"]
    command += ["--steps", "3", "-q"]
    code, out, err = run(*command, "-o", "o")
    assert code == 0, err
    # The second layer's second evaluation; the first layer took three.
    assert err == (
        "optimal inputs of relu2_1: numbers that are not finite at step 1, rejected; going on at "
        "0.5 of the learning rate\n"
    )
    assert json.loads((tmp_path / "o" / "patches.json").read_text())["messages"] == [err.strip()]
    calls[0], good = 0, range(5, 99)
    code, out, err = run(*command, "-o", "p")
    assert (code, out) == (5, ""), err
    rescued = tmp_path / "p-last-good"
    assert err.endswith(f"; the last good result is in {rescued.name}\n")
    assert err.count("\n") == 1
    assert not (tmp_path / "p").exists()
    names = {path.name for path in rescued.iterdir()}
    assert names == {path.name for path in (tmp_path / "o").iterdir()}
