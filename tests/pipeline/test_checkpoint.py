"""Stopping and going on: the same bits as without the stop."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from error_fields import check_error, raises

from convnd.errors import InputFileError, UsageError
from convnd.losses import Objective
from convnd.optimize import (
    OPTIMIZERS,
    fingerprint,
    load_checkpoint,
    minimize,
    save_checkpoint,
)
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.progress import Progress
from convnd.transfer.style_transfer import StyleTransfer

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
        for resumed, original in zip(rest, expected[stop:], strict=True):
            assert resumed.values.equal(original.values)
            assert (resumed.loss, resumed.parts) == (original.loss, original.parts)


def test_a_transfer_goes_on_bit_by_bit(tmp_path: Path) -> None:
    options = TransferOptions(
        backbone="compact", precision="float32", steps=4, scales=2, size=0, init="random"
    )
    content, style = torch.rand(2, 1, 1, 300, generator=torch.Generator().manual_seed(1))
    transfer = StyleTransfer(options, spatial_dims=1, in_channels=1)
    steps: list[Progress] = []
    for number, progress in enumerate(transfer.run(TransferProblem(content, [style]))):
        steps.append(progress)
        save_checkpoint(tmp_path / str(number), progress.state(), "mark")
    assert {progress.phase for progress in steps} == {1, 2}
    for number in range(len(steps)):
        state = load_checkpoint(tmp_path / str(number), "mark")
        rest = list(transfer.run(TransferProblem(content, [style]), resume=state))
        assert [step.step for step in rest] == [step.step for step in steps[number:]]
        assert rest[-1].values.equal(steps[-1].values)
        assert rest[-1].loss == steps[-1].loss


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c"
    save_checkpoint(path, {"x": torch.arange(5.0), 0: [1, None, 0.1, float("inf")]}, "mine")
    state = load_checkpoint(path, "mine")
    assert state["x"].tolist() == [0, 1, 2, 3, 4]
    assert state[0] == [1, None, 0.1, float("inf")]
    with raises(UsageError, operation="resume", expected="the checkpoint of these"):
        load_checkpoint(path, "yours")
    path.write_bytes(path.read_bytes()[:-3])
    with raises(InputFileError, operation="resume", expected="a complete checkpoint"):
        load_checkpoint(path, "mine")
    with raises(InputFileError, operation="none", got="none"):
        load_checkpoint(tmp_path / "none", "mine")
    assert fingerprint([torch.ones(2)]) != fingerprint([torch.ones(1, 2)])


COMMAND = (
    sys.executable, "-m", "convnd", "stylize", "--dim", "1", "a.npy", "b.npy", "--size", "0",
    "--backbone", "compact", "--precision", "float32", "--scales", "2", "--steps", "30",
)  # fmt: skip


def command(folder: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *more], cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", rng.normal(size=2000).astype(np.float32))
    return tmp_path


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(folder: Path) -> None:
    whole = command(folder, "-o", "whole.npy")
    whole.communicate()
    assert whole.returncode == 0
    chance = random.Random(5)
    checkpoint = folder / "out.npy.checkpoint"
    again = ("-o", "out.npy", "--checkpoint-every", "1", "--resume")
    kills = 0
    while kills < 2:
        work = command(folder, *again)
        began = time.monotonic()
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while work.poll() is None and time.monotonic() - began < 60:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
                break
            time.sleep(0.01)
        time.sleep(chance.random() * 0.2)
        work.kill()
        work.communicate()
        if (folder / "out.npy").exists():
            break  # done before it was killed
        kills += 1
    if not (folder / "out.npy").exists() or checkpoint.exists():
        more = ("--overwrite",) if (folder / "out.npy").exists() else ()
        last = command(folder, *again, *more)
        _, errors = last.communicate()
        assert last.returncode == 0, errors
    assert (folder / "out.npy").read_bytes() == (folder / "whole.npy").read_bytes()
    assert not checkpoint.exists()


@pytest.mark.slow
def test_a_signal_keeps_a_checkpoint_that_others_may_not_use(folder: Path) -> None:
    work = command(folder, "-o", "out.npy", "--checkpoint-every", "2", "--steps", "100000")
    checkpoint = folder / "out.npy.checkpoint"
    began = time.monotonic()
    while not checkpoint.exists() and time.monotonic() - began < 60:
        time.sleep(0.02)
    work.send_signal(signal.SIGTERM)
    _, errors = work.communicate()
    assert work.returncode == 143, errors
    assert checkpoint.exists()
    assert (folder / "out.npy").exists()
    other = command(folder, "-o", "out.npy", "--resume", "--steps", "7")
    _, errors = other.communicate()
    assert other.returncode == 2
    check_error(errors, operation="resume", expected="the checkpoint of these inputs and options")
    assert checkpoint.exists()
