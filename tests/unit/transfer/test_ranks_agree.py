"""A length-1 axis changes nothing, through the whole path."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from error_fields import raises

from convnd.errors import ShapeError, UsageError
from convnd.optimize import evaluate_whole
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.scales import fit_size
from convnd.transfer.style_transfer import StyleTransfer

OPTIONS = TransferOptions(
    backbone="compact", steps=4, scales=2, tv_weight=0.1, precision="float32", optimizer="adam"
)
NARROW = dataclasses.replace(
    OPTIONS, style_layers=("relu1_1", "relu2_1"), content_layers=("relu2_2",)
)


def fields(ndim: int, extent: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(ndim)
    return torch.rand(2, 1, 1, *[extent] * ndim, generator=generator)


@pytest.mark.parametrize(("ndim", "extent"), [(1, 64), (2, 24), (3, 8)])
def test_loss_and_gradient(ndim: int, extent: int) -> None:
    content, style = fields(ndim, extent)
    x = fields(ndim, extent)[1] * 0.5 + 0.2
    lower = StyleTransfer(NARROW, spatial_dims=ndim, in_channels=1)
    higher = StyleTransfer(NARROW, spatial_dims=ndim + 1, in_channels=1)
    one = evaluate_whole(lower.objective(content, [style], [1.0] * ndim), x)
    thick = [values.unsqueeze(2) for values in (content, style, x)]
    other = evaluate_whole(higher.objective(thick[0], [thick[1]], [1.0] * (ndim + 1)), thick[2])
    assert other.loss == pytest.approx(one.loss, rel=1e-4)
    torch.testing.assert_close(other.gradient.squeeze(2), one.gradient, rtol=2e-3, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("ndim", "extent"), [(1, 128), (2, 128)])
def test_the_whole_transfer(ndim: int, extent: int) -> None:
    content, style = fields(ndim, extent)
    options = dataclasses.replace(OPTIONS, learning_rate=0.005)  # each step lowers the loss
    results = []
    for rank in (ndim, ndim + 1):
        shape = (1, 1, *[1] * (rank - ndim), *[extent] * ndim)
        transfer = StyleTransfer(options, spatial_dims=rank, in_channels=1)
        *_, last = transfer.run(TransferProblem(content.view(shape), [style.view(shape)]))
        assert last.phases == 2
        results.append(last.values.view(content.shape))
    # Adam divides by the gradient's own size: where that is nearly 0, the last bit of float32
    # decides the sign of a step. So single samples may differ, the field may not.
    moved = (results[0] - content).abs().mean().item()
    assert moved > 0.001
    assert (results[0] - results[1]).abs().mean().item() < 1e-2 * moved


@pytest.mark.slow
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_transfer_brings_the_style_nearer(ndim: int) -> None:
    content, style = fields(ndim, {1: 256, 2: 48, 3: 16}[ndim])
    options = dataclasses.replace(OPTIONS, optimizer="lbfgs", steps=10, scales=1)
    transfer = StyleTransfer(options, spatial_dims=ndim, in_channels=1)
    first, *_, last = transfer.run(TransferProblem(content, [style]))
    assert last.parts["style"] < first.parts["style"] / 2
    assert last.fraction_done == pytest.approx(1)
    assert first.values.equal(content)
    assert last.step == last.steps == 10


@pytest.mark.parametrize(
    ("content", "style", "expected"),
    [
        ((64, 64), (32, 32), [64, 64]),
        ((1, 64, 64), (32, 32, 32), [64, 64, 64]),
        ((64, 64, 64), (1, 32, 32), [1, 64, 64]),
        ((128, 32), (50, 50), [64, 64]),
    ],
)
def test_a_style_is_brought_to_the_size_of_the_content(
    content: tuple[int, ...], style: tuple[int, ...], expected: list[int]
) -> None:
    transfer = StyleTransfer(NARROW, spatial_dims=len(content), in_channels=1)
    assert transfer.resizer.style_size(style, content) == expected


def test_steps_are_taken_as_asked_for() -> None:
    content, style = fields(1, 256)
    for steps in (0, 1, 2, 5):
        options = dataclasses.replace(NARROW, scales=3, steps=steps)
        transfer = StyleTransfer(options, spatial_dims=1, in_channels=1)
        *_, last = transfer.run(TransferProblem(content, [style]))
        assert last.step == last.steps == steps


def test_several_fields_start_from_noise_of_their_own() -> None:
    content, style = fields(1, 64)
    leads = torch.cat([content, content * 0.5, content + 0.1])
    options = dataclasses.replace(NARROW, init="random", steps=1, scales=1)
    transfer = StyleTransfer(options, spatial_dims=1, in_channels=1)
    *_, last = transfer.run(TransferProblem(leads, [style.expand(3, -1, -1)]))
    assert last.values.shape == leads.shape
    assert not torch.equal(last.values[0], last.values[1])


def test_errors() -> None:
    transfer = StyleTransfer(OPTIONS, spatial_dims=2, in_channels=3)
    picture = torch.rand(1, 3, 32, 32)
    with raises(UsageError, operation="style transfer", got="none"):
        TransferProblem(picture, [])
    with raises(UsageError, operation="texture", got="neither size nor content"):
        TransferProblem(None, [picture])
    with raises(ShapeError, operation="VGG", expected="3, S1"):
        next(transfer.run(TransferProblem(picture, [picture[:, :1]])))
    blended = StyleTransfer(
        dataclasses.replace(OPTIONS, style_weights=(1.0,)), spatial_dims=2, in_channels=3
    )
    with raises(UsageError, operation="style_weights", expected="2 styles", got="1"):
        next(blended.run(TransferProblem(picture, [picture, picture])))
    with raises(UsageError, operation="style_layer_weights", expected="5 style", got="1"):
        TransferOptions(style_layer_weights=(1.0,))
    assert fit_size((100, 1, 50), 10) == (10, 1, 5)
