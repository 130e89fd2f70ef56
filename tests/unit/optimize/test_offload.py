"""Adam, and steps and moments stored in files: the same bits as in memory."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from error_fields import raises

from convnd.errors import ResourceError
from convnd.losses import Objective
from convnd.optimize import DiskOffload, Evaluation, load_checkpoint, minimize, save_checkpoint
from convnd.optimize.adam import _SLAB, Adam
from convnd.optimize.offload import release_pages
from convnd.transfer import tiling_plan
from convnd.transfer.memory_model import MemoryModel
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.style_transfer import StyleTransfer
from convnd.transfer.tiling_plan import choose_tiling


@pytest.mark.parametrize("offloaded", [False, True])
def test_adam_is_torchs_to_the_last_bit(offloaded: bool, generator: torch.Generator) -> None:
    x = torch.randn(_SLAB + 3, generator=generator)
    y = x.clone()
    ours = Adam(x, 0.02, offload=DiskOffload() if offloaded else None)
    theirs = torch.optim.Adam([y], lr=0.02, betas=(0.9, 0.99), foreach=False)
    for _ in range(3):
        x.grad = torch.randn(x.shape, generator=generator)
        y.grad = x.grad
        ours.step()
        theirs.step()
    assert x.equal(y)


def rough(_: object, x: torch.Tensor) -> Evaluation:
    """A bowl whose loss rises now and then."""
    steepness = torch.linspace(1, 40, x.numel()).view(x.shape)
    return Evaluation(float((steepness * (x - 1).square()).sum()), {}, 2 * steepness * (x - 1))


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam", "gradient-descent"])
def test_an_offloaded_run_gives_the_same_steps(
    optimizer: str, tmp_path: Path, make_objective: Callable[[int], tuple[Objective, torch.Tensor]]
) -> None:
    objective, start = make_objective(1)[0], torch.zeros(1, 1, 50)
    options: dict[str, Any] = {
        "steps": 30,
        "optimizer": optimizer,
        "learning_rate": 0.02,
        "evaluate": rough,
    }
    expected = [step.values for step in minimize(objective, start, **options)]
    steps = list(minimize(objective, start, offload=DiskOffload(tmp_path), **options))
    assert all(step.values.equal(values) for step, values in zip(steps, expected, strict=True))
    assert not start.any()
    assert not list(tmp_path.iterdir())  # files without a name
    for step in minimize(objective, start, offload=DiskOffload(), **options):
        if step.index == 11:
            save_checkpoint(tmp_path / "c", step.state(), "mark")
            break
    for offload in (None, DiskOffload()):
        state = load_checkpoint(tmp_path / "c", "mark")
        rest = list(minimize(objective, start, resume=state, offload=offload, **options))
        assert [step.index for step in rest] == list(range(11, 31))
        assert all(
            step.values.equal(values) for step, values in zip(rest, expected[11:], strict=True)
        )


def test_only_files_lose_their_pages() -> None:
    offload = DiskOffload()
    memory, file = torch.ones(2**20), offload.store(torch.ones(2**22))
    file.sum()
    before = psutil.Process().memory_info().rss
    release_pages(memory, file)
    assert before - psutil.Process().memory_info().rss > 0.9 * file.nbytes
    assert bool((memory == 1).all())
    assert bool((file == 1).all())


def test_a_full_disk_is_an_error_before_it_is_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with raises(
        ResourceError, operation="memory", got="No space left on device", remedy="set TMPDIR"
    ):
        DiskOffload().zeros(torch.zeros(4))


@pytest.mark.slow
def test_the_free_memory_decides_on_files(rng: np.random.Generator) -> None:
    options = TransferOptions(backbone="compact", optimizer="adam", size=0, scales=1, steps=3)
    content, style = torch.from_numpy(rng.random((2, 1, 1, 3000), np.float32))
    messages: list[str] = []
    results = []
    for share in (1, 20):
        transfer = StyleTransfer(options, spatial_dims=1, in_channels=1)
        model = MemoryModel(options, transfer.backbone, torch.device("cpu"))
        free = 6 * 4 * 3000 * share
        assert bool(choose_tiling(model, (3000,), free).offload()) == (share == 1)
        lbfgs = dataclasses.replace(options, optimizer="lbfgs")
        model = dataclasses.replace(model, options=lbfgs)
        assert not choose_tiling(model, (3000,), free).offload()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tiling_plan, "_use_disk", lambda *_, share=share: share == 1)
            *_, last = transfer.run(TransferProblem(content, [style]), on_message=messages.append)
        results.append(last.values)
    assert results[0].equal(results[1])
    assert messages == ["the optimizer's state is stored in files, in TMPDIR or /var/tmp"]
