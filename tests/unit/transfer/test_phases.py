"""Networks in turn: the plan, what each of them sees, and stopping when nothing is gained."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from error_fields import raises

from convnd.errors import UnknownNameError, UsageError
from convnd.optimize import evaluate_whole, load_checkpoint, save_checkpoint
from convnd.transfer.network import check_names
from convnd.transfer.objective_options import MOST_NETWORKS
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.scales import plan_phases
from convnd.transfer.style_transfer import StyleTransfer

OPTIONS = TransferOptions(
    backbone="compact+vgg19",
    precision="float32",
    style_layers=("relu1_1", "relu2_1"),
    content_layers=("relu2_2",),
    steps=8,
    scales=2,
    size=0,
)


def fields(*extents: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(extents))
    return torch.rand(2, 1, 1, *extents, generator=generator)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 10, 100, 101])
@pytest.mark.parametrize("costs", [(1.0,), (0.3, 1.0), (0.2, 0.5, 1.0)])
@pytest.mark.parametrize("scales", [1, 3])
def test_phases_take_all_steps_and_end_with_the_last_network_at_full_size(
    steps: int, costs: tuple[float, ...], scales: int
) -> None:
    phases = plan_phases((256, 512), scales=scales, steps=steps, costs=costs)
    assert sum(phase.steps for phase in phases) == steps
    assert (phases[-1].size, phases[-1].network) == ((256, 512), len(costs) - 1)
    assert phases[-1].steps > 0 or steps == 0
    for before, after in itertools.pairwise(phases):
        assert after.steps_before == before.steps_before + before.steps
        assert after.work_before == before.work_before + before.work
        assert after.network >= before.network
        assert after.size >= before.size


def test_the_coarsest_of_the_sizes_is_the_same_for_large_pictures() -> None:
    coarsest = []
    for longest in (512, 700, 1024, 2048, 4096, 8192):
        phases = plan_phases((longest // 2, longest), scales=0, steps=85, costs=(0.3, 1.0))
        coarsest.append(max(phases[0].size))
        assert phases[-1].size == (longest // 2, longest)
    assert coarsest == [128, 175, 128, 128, 128, 128]
    # Up to 1023 pixels there are three sizes, as before.
    for longest in (100, 256, 512, 1023):
        size = (longest, longest)
        assert plan_phases(size, scales=0, steps=85) == plan_phases(size, scales=3, steps=85)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 12, 85, 300])
@pytest.mark.parametrize("costs", [(1.0,), (0.3, 1.0)])
def test_large_results_are_finished_at_a_smaller_size_and_enlarged(
    steps: int, costs: tuple[float, ...]
) -> None:
    for longest in (2048, 4096, 8192):
        phases = plan_phases((longest // 2, longest), scales=0, steps=steps, costs=costs)
        assert sum(phase.steps for phase in phases) == steps
        assert max(phases[-1].size) == longest
        assert all(phase.steps for phase in phases) or not steps
        for before, after in itertools.pairwise(phases):
            assert after.work_before == before.work_before + before.work
            assert after.size >= before.size
        if steps >= 12:
            enlarging = [phase for phase in phases if max(phase.size) > 1024]
            assert {phase.network for phase in enlarging} == {0}
            assert len(enlarging) == {2048: 1, 4096: 2, 8192: 3}[longest]
            finished = phases[-1 - len(enlarging)]
            assert (max(finished.size), finished.network) == (1024, len(costs) - 1)
            counts = [phase.steps for phase in enlarging]
            assert counts == sorted(counts, reverse=True)


def test_small_patterns_are_made_at_a_fine_size() -> None:
    size = (8192, 8192)
    half = plan_phases(size, scales=0, steps=85, costs=(0.3, 1.0), pattern_scale=0.5)
    assert [max(phase.size) for phase in half if phase.network == 1] == [2048]
    fine = plan_phases(size, scales=0, steps=85, costs=(0.3, 1.0), pattern_scale=0.06)
    assert fine == plan_phases(size, scales=7, steps=85, costs=(0.3, 1.0))
    assert fine == plan_phases(size, scales=0, steps=85, costs=(0.3, 1.0), pattern_scale=0.0)


@pytest.mark.parametrize("extents", [(200,), (40, 48), (8, 10, 6)])
def test_each_network_continues_what_the_one_before_has_made(extents: tuple[int, ...]) -> None:
    content, style = fields(*extents)
    transfer = StyleTransfer(OPTIONS, spatial_dims=len(extents), in_channels=1)
    steps = list(transfer.run(TransferProblem(content, [style])))
    assert [step.fraction_done for step in steps] == sorted(step.fraction_done for step in steps)
    assert steps[-1].fraction_done == pytest.approx(1)
    assert steps[-1].step == steps[-1].steps == OPTIONS.steps
    first = next(step for step in steps if step.phase == step.phases)
    draft = [step for step in steps if step.phase == step.phases - 1][-1]
    assert first.values.equal(draft.values)
    assert steps[-1].loss < first.loss
    # The loss is that of the network whose turn it is.
    for name, progress in (("compact", draft), ("vgg19", first)):
        alone = StyleTransfer(
            dataclasses.replace(OPTIONS, backbone=name),
            spatial_dims=len(extents),
            in_channels=1,
        )
        objective = alone.objective(content, [style], [1.0] * len(extents))
        expected = evaluate_whole(objective, progress.values).loss
        assert progress.loss == pytest.approx(expected, rel=1e-5)


def test_every_phase_continues_from_its_checkpoint_bit_by_bit(tmp_path: Path) -> None:
    content, style = fields(200)
    transfer = StyleTransfer(OPTIONS, spatial_dims=1, in_channels=1)
    steps = []
    for number, progress in enumerate(transfer.run(TransferProblem(content, [style]))):
        steps.append(progress)
        save_checkpoint(tmp_path / str(number), progress.state(), "mark")
    assert {step.phase for step in steps} == {1, 2, 3}
    for number in range(len(steps)):
        state = load_checkpoint(tmp_path / str(number), "mark")
        rest = list(transfer.run(TransferProblem(content, [style]), resume=state))
        assert [step.step for step in rest] == [step.step for step in steps[number:]]
        assert rest[-1].values.equal(steps[-1].values)


def test_it_ends_when_nothing_is_gained(tmp_path: Path) -> None:
    content, style = fields(200)
    options = dataclasses.replace(OPTIONS, backbone="compact", scales=1, steps=60, tolerance=0.2)
    transfer = StyleTransfer(options, spatial_dims=1, in_channels=1)
    messages: list[str] = []
    steps = []
    problem = TransferProblem(content, [style])
    for progress in transfer.run(problem, on_message=messages.append):
        steps.append(progress)
        save_checkpoint(tmp_path / str(progress.step), progress.state(), "mark")
    last = steps[-1].step
    assert 10 <= last < 60
    losses = [step.loss for step in steps]
    assert losses[-11] - min(losses[-10:]) < 0.2 * losses[-11]
    assert losses[-12] - min(losses[-11:-1]) >= 0.2 * losses[-12]
    assert len(messages) == 1
    assert f"{last} of" in messages[0]
    # The losses before an interruption count.
    state = load_checkpoint(tmp_path / str(last - 3), "mark")
    *_, end = transfer.run(problem, resume=state)
    assert end.step == last
    everything = dataclasses.replace(options, tolerance=0.0)
    *_, end = StyleTransfer(everything, spatial_dims=1, in_channels=1).run(problem)
    assert end.step == 60


@pytest.mark.parametrize("name", ["", "compact+", "+", "+".join(["compact"] * (MOST_NETWORKS + 1))])
def test_names_that_are_no_networks_in_turn(name: str) -> None:
    with raises(
        UsageError, operation="backbone", expected="4 names", remedy="for example compact+vgg19"
    ):
        TransferOptions(backbone=name)


def test_each_name_is_checked() -> None:
    with raises(UnknownNameError, operation="backbone", got="'compcat'"):
        check_names(TransferOptions(backbone="vgg19+compcat"))


def test_values_are_compared_as_they_are_cut() -> None:
    content, style = fields(40, 48)
    style = (style > 0.5).float()
    options = dataclasses.replace(OPTIONS, backbone="compact", scales=1, steps=20)
    transfer = StyleTransfer(options, spatial_dims=2, in_channels=1)
    objective = transfer.objective(content, [style], [1.0, 1.0])
    losses = {}
    for bounds in (None, (0.0, 1.0)):
        *_, last = transfer.run(TransferProblem(content, [style], bounds=bounds))
        assert last.values.min() < 0  # otherwise nothing is tested here
        losses[bounds] = evaluate_whole(objective, last.values.clamp(0, 1)).loss
    assert last.loss == pytest.approx(losses[0.0, 1.0], rel=1e-5)
    assert losses[0.0, 1.0] < losses[None]
