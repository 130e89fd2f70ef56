"""What is alive while a transfer evaluates, against what is planned: tensors, not pages."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from convnd_tasks.modalities.signals.beats import BeatTemplate
from living import Living

from convnd.optimize import HISTORY, OPTIMIZERS, DiskOffload, Evaluation, Smoothing, minimize
from convnd.transfer import phases, tiling_plan
from convnd.transfer.memory_model import MemoryModel
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.style_transfer import StyleTransfer

STEPS = 50  # more than L-BFGS remembers


class Bowl:
    """Stands for an evaluation without a network; notes what is alive when the gradient is there.

    Every third loss is a little higher, so that the best is not always the last.
    """

    def __init__(self, *_: object) -> None:
        self.calls = 0
        self.most = 0

    def __call__(self, _: object, x: torch.Tensor) -> Evaluation:
        self.calls += 1
        steep = torch.linspace(0.001, 0.3, x.numel()).view(x.shape)
        gradient = steep.mul_(x).sub_(1)
        self.most = max(self.most, living().now)
        loss = 1 + 1 / self.calls + 0.5 * (self.calls % 3 == 2)
        return Evaluation(loss, {}, gradient)


COUNT: list[Living] = []


def living() -> Living:
    return COUNT[-1]


@pytest.fixture(autouse=True)
def counted() -> Iterator[None]:
    """No collector of cycles helps."""
    gc.disable()
    with Living() as count:
        COUNT.append(count)
        yield
        COUNT.pop()
    gc.enable()


@pytest.mark.parametrize(
    ("optimizer", "history"), [*((name, HISTORY) for name in OPTIMIZERS), ("lbfgs", 5)]
)
def test_a_walk_holds_what_its_optimizer_says(optimizer: str, history: int) -> None:
    start = torch.zeros(1, 1, 2**16)
    before, field = living().now, 4 * start.numel()
    bowl: Any = Bowl()
    for _ in minimize(
        bowl,
        start,
        steps=STEPS,
        optimizer=optimizer,
        evaluate=bowl,
        precondition=Smoothing(start.shape[2:]),
        history=history,
    ):
        pass
    assert bowl.calls == STEPS + 1
    copies = OPTIMIZERS[optimizer].copies(history)
    assert (bowl.most - before) / field == pytest.approx(copies, abs=0.1)
    del _
    assert living().now - before < field


@pytest.mark.parametrize("optimizer", ["adam", "gradient-descent"])
def test_what_is_spilled_is_not_alive(optimizer: str) -> None:
    start = torch.zeros(1, 1, 2**16)
    before, field = living().now, 4 * start.numel()
    bowl: Any = Bowl()
    for _ in minimize(
        bowl, start, steps=5, optimizer=optimizer, evaluate=bowl, offload=DiskOffload()
    ):
        pass
    assert (bowl.most - before) / field == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("scales", [pytest.param(1, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("size", [(2**15,), pytest.param((32, 32, 32), marks=pytest.mark.slow)])
def test_a_transfer_holds_what_is_planned(
    size: tuple[int, ...], optimizer: str, scales: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bowl = Bowl()
    monkeypatch.setattr(phases, "TiledEvaluation", lambda _: bowl)
    options = TransferOptions(
        backbone="compact",
        inflation="mean",
        optimizer=optimizer,
        content_weight=0.0,
        style_layers=("relu1_1",),
        style_layer_weights=(),
        value_statistics=(),
        steps=STEPS * scales,
        scales=scales,
        size=0,
    )
    transfer = StyleTransfer(options, spatial_dims=len(size), in_channels=1)
    content, style = torch.rand(1, 1, *size), torch.rand(1, 1, *[32] * len(size))
    cpu = torch.device("cpu")
    model = MemoryModel(options, transfer.backbone, cpu, content_location=(cpu, size))
    before = living().now
    for _ in transfer.run(TransferProblem(content, [style])):
        pass
    assert bowl.most - before == pytest.approx(model.state_bytes(size, offload=False), rel=0.1)
    del _
    assert living().now - before < content.nbytes


def test_a_start_with_beats_is_given_up_where_iterates_are_in_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bowl = Bowl()
    monkeypatch.setattr(phases, "TiledEvaluation", lambda _: bowl)
    monkeypatch.setattr(tiling_plan, "_use_disk", lambda *_: True)
    options = TransferOptions(
        backbone="compact",
        optimizer="adam",
        content_weight=0.0,
        style_layers=("relu1_1",),
        style_layer_weights=(),
        value_statistics=(),
        steps=1,
        scales=1,
        size=0,
    )
    transfer = StyleTransfer(options, spatial_dims=1, in_channels=1)
    content, style = torch.rand(1, 1, 2**16), torch.rand(1, 1, 256)
    peaks = torch.arange(100, 2**16, 500)
    beats = BeatTemplate(peaks, 2**16, torch.rand(1, 1, 100), 50, [style], 3.0)
    before = living().now
    for _ in transfer.run(
        TransferProblem(
            content,
            [style],
            feature_styles=beats.styles,
            initial=beats.insert,
            extra_terms=lambda size: [beats.term(size[0])],
        )
    ):
        pass
    assert bowl.most - before < 2.1 * content.nbytes  # iterate and gradient
