"""Stopping and going on: the same bits as without the stop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from convnd_tasks.options import StyleOptions
from convnd_tasks.style_transfer import Progress, StyleTransfer

from convnd.errors import InputFileError, UsageError
from convnd.losses import Objective
from convnd.optimize import (
    OPTIMIZERS,
    fingerprint,
    load_checkpoint,
    minimize,
    save_checkpoint,
)

MakeObjective = Callable[[int], tuple[Objective, torch.Tensor]]


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("rate", [None, 3.0])  # the second diverges and is repaired
def test_a_walk_goes_on_bit_by_bit(
    optimizer: str, rate: float | None, make_objective: MakeObjective, tmp_path: Path
) -> None:
    objective, x = make_objective(1)
    arguments = {"steps": 9, "optimizer": optimizer, "learning_rate": rate}
    expected = list(minimize(objective, x, **arguments))  # type: ignore[arg-type]
    for stop in (0, 1, 5, 9):
        for step in minimize(objective, x, **arguments):  # type: ignore[arg-type]
            if step.index == stop:
                save_checkpoint(tmp_path / "c", step.state(), "mark")
                break
        state = load_checkpoint(tmp_path / "c", "mark")
        rest = list(minimize(objective, x, resume=state, **arguments))  # type: ignore[arg-type]
        assert [step.index for step in rest] == list(range(stop, 10))
        for found, wanted in zip(rest, expected[stop:], strict=True):
            assert found.values.equal(wanted.values)
            assert (found.loss, found.parts) == (wanted.loss, wanted.parts)


def test_a_transfer_goes_on_bit_by_bit(tmp_path: Path) -> None:
    options = StyleOptions(
        backbone="compact", precision="float32", steps=6, scales=2, size=0, start="random"
    )
    content, style = torch.rand(2, 1, 1, 300, generator=torch.Generator().manual_seed(1))
    transfer = StyleTransfer(options, spatial_dims=1, in_channels=1)
    seen: list[Progress] = []
    for number, progress in enumerate(transfer.run(content, [style])):
        seen.append(progress)
        save_checkpoint(tmp_path / str(number), progress.state(), "mark")
    assert {progress.scale for progress in seen} == {1, 2}
    for number in range(len(seen)):
        state = load_checkpoint(tmp_path / str(number), "mark")
        rest = list(transfer.run(content, [style], resume=state))
        assert [each.step for each in rest] == [each.step for each in seen[number:]]
        assert rest[-1].values.equal(seen[-1].values)
        assert rest[-1].loss == seen[-1].loss


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c"
    save_checkpoint(path, {"x": torch.arange(5.0), 0: [1, None, 0.1, float("inf")]}, "mine")
    found = load_checkpoint(path, "mine")
    assert found["x"].tolist() == [0, 1, 2, 3, 4]
    assert found[0] == [1, None, 0.1, float("inf")]
    with pytest.raises(UsageError, match="expected the checkpoint of these inputs and options"):
        load_checkpoint(path, "yours")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputFileError, match="expected a whole checkpoint"):
        load_checkpoint(path, "mine")
    with pytest.raises(InputFileError, match="expected a whole checkpoint"):
        load_checkpoint(tmp_path / "none", "mine")
    assert fingerprint([torch.ones(2)]) != fingerprint([torch.ones(1, 2)])
