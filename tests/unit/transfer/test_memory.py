"""Tiles and memory on the command line and in `StyleTransfer`."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
import torch
from error_fields import raises

from convnd.errors import ResourceError, UsageError
from convnd.stats import STATISTICS
from convnd.transfer.byte_size import parse_memory
from convnd.transfer.memory import MemoryBudget, check_budgets
from convnd.transfer.memory_model import MemoryModel
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.style_transfer import StyleTransfer
from convnd.transfer.tiling_plan import choose_tiling

QUICK = TransferOptions(
    backbone="compact", precision="float32", steps=3, scales=2, size=0, tv_weight=0.1
)


def transferred(options: TransferOptions, size: tuple[int, ...], said: list[str]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    content, style = torch.rand(2, 1, 1, *size, generator=generator)
    transfer = StyleTransfer(options, spatial_dims=len(size), in_channels=1)
    *_, last = transfer.run(TransferProblem(content, [style]), on_message=said.append)
    return last.values


def replaced(**changes: Any) -> TransferOptions:
    return dataclasses.replace(QUICK, optimizer="gradient-descent", **changes)


@pytest.mark.parametrize("size", [pytest.param((150,), marks=pytest.mark.slow), (40, 48)])
def test_tiles_change_nothing(size: tuple[int, ...]) -> None:
    said: list[str] = []
    whole = transferred(replaced(tile="off"), size, said)
    assert all("was rejected" in message for message in said)
    tiled = transferred(replaced(tile="32"), size, said)
    assert any("tiles of 32" in message for message in said)
    torch.testing.assert_close(tiled, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [pytest.param((200,), marks=pytest.mark.slow), (72, 66)])
def test_statistics_that_look_further_work_in_tiles(
    size: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("lags", "overlap"):
        monkeypatch.setattr(STATISTICS["autocorrelation"], name, 3)
    # One step: on the second a ReLU lies so near its kink that rounding decides (seen in float64).
    statistics = {
        "style_loss": "autocorrelation",
        "value_statistics": ("autocorrelation",),
        "scales": 1,
        "steps": 1,
    }
    said: list[str] = []
    tiled = transferred(replaced(tile="64", **statistics), size, said)
    assert "tiles of 64" in said[0]
    whole = transferred(replaced(tile="off", **statistics), size, said)
    torch.testing.assert_close(tiled, whole, rtol=1e-4, atol=1e-5)


def test_lbfgs_remembers_fewer_pairs_where_memory_is_short() -> None:
    transfer = StyleTransfer(QUICK, spatial_dims=2, in_channels=3)
    size = (2048, 2048)
    model = MemoryModel(QUICK, transfer.backbone, torch.device("cpu"))
    field = 4 * 3 * 2048 * 2048
    assert choose_tiling(model, size, 80 * field).history == 20
    plan = choose_tiling(model, size, 40 * field)
    assert plan.history == 7  # 6 fields and 7 pairs are half of what is free
    assert plan.estimate().total <= 40 * field
    assert choose_tiling(model, size, 22 * field).history == 5
    adam = dataclasses.replace(QUICK, optimizer="adam")
    model = MemoryModel(adam, transfer.backbone, torch.device("cpu"))
    assert choose_tiling(model, size, 22 * field).history == 20


def test_a_job_with_fewer_pairs_says_so() -> None:
    transfer = StyleTransfer(QUICK, spatial_dims=2, in_channels=3)
    said: list[str] = []
    budgets = []
    for free in (46, 22):
        model = MemoryModel(QUICK, transfer.backbone, torch.device("cpu"))
        budgets.append(MemoryBudget(model, said.append))
        budgets[-1].free = free * 4 * 3 * 2048 * 2048
    check_budgets(budgets, (2048, 2048), [])
    assert said[-1].startswith("L-BFGS remembers 5 pairs of steps instead of 20")


def test_statistics_say_what_they_take() -> None:
    transfer = StyleTransfer(QUICK, spatial_dims=2, in_channels=3)
    free = {}
    for name in ("gram", "spectrum"):
        options = replaced(style_loss=name, tile="off")
        budget = MemoryBudget(MemoryModel(options, transfer.backbone, torch.device("cpu")))
        budget.free = 2**28
        with raises(ResourceError, operation="style transfer", got="a job of about") as caught:
            budget.check((1024, 1024), [])
        free[name] = float(re.findall(r"about ([\d.]+) GiB", str(caught.value))[0])
    # Measured: transforms in float64 take about 40 bytes a value, twice in two axes.
    assert free["spectrum"] > 3 * free["gram"]


@pytest.mark.slow
def test_content_that_is_made_again_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = transferred(replaced(tile="off"), (600,), [])
    # More than half of what is free: the features of the content are not kept.
    monkeypatch.setattr(MemoryModel, "content_bytes", lambda *_: 2**60)
    result = transferred(replaced(tile="64"), (600,), [])
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_memory_decides_on_tiles() -> None:
    transfer = StyleTransfer(QUICK, spatial_dims=2, in_channels=3)
    device = torch.device("cpu")
    layers = QUICK.layers
    whole = transfer.backbone.peak_bytes((2048, 2048), layers)
    said: list[str] = []
    size = (2048, 2048)
    model = MemoryModel(QUICK, transfer.backbone, device)
    budget = MemoryBudget(model, said.append)
    state = model.state_bytes(size, offload=False)
    budget.free = model.crop_bytes(size, layers) + state + model.content_bytes(size)
    budget.check((2048, 2048), [])
    assert not said
    budget.free -= 1  # only deep layers by themselves
    budget.check((2048, 2048), [])
    assert budget.plan(size).estimate().tiles == "one piece up to pool3, 1 behind it"
    assert not said  # it costs nothing
    budget.free -= whole // 2
    budget.check((2048, 2048), [])
    assert "tiles of" in said[0]
    assert "GiB" in said[0]
    plan = choose_tiling(model, size, budget.free)
    tiler, cut = plan.tiler, plan.cut
    assert tiler is not None
    assert cut is not None
    assert plan.estimate().table().endswith("in all")
    tiling = tiler.make_tiling(transfer.backbone, cut.layers, (2048, 2048))
    assert 1 < len(tiling) <= 4
    assert transfer.backbone.peak_bytes(tiling.largest_crop, layers) < whole
    budget.free = state + 1  # enough for fewer pairs of steps
    budget.check((2048, 2048), [])
    budget.free = model.state_bytes(size, offload=False, history=5) + 1
    with raises(
        ResourceError, operation="style transfer", got="a job of about 0.8 GiB", remedy="--size"
    ):
        budget.check((2048, 2048), [])


def test_usage() -> None:
    for text in ("", "4", "GiB", "-1GiB", "0GiB", "4 GiBs", "nan GiB"):
        with raises(
            UsageError, operation="memory", expected="auto, or a size", remedy="for example 4GiB"
        ):
            parse_memory(text)
    for text in ("", "0", "-3", "yes", "1.5"):
        with raises(UsageError, operation="tile", expected="auto, off or a"):
            TransferOptions(tile=text)
    with raises(ResourceError, operation="memory", expected="more than"):
        transferred(replaced(memory="1MiB"), (64,), [])
