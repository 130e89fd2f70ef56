"""The perceptual loss of training loops, beside the losses of style transfer."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from error_fields import raises
from torch import Tensor, nn

from convnd.backbones import VGG, MultiPlanar, VGGPlan
from convnd.errors import ShapeError, UnknownNameError, UsageError
from convnd.losses import ContentLoss, PerceptualLoss, StyleLoss
from convnd.stats import STATISTICS

PLAN = VGGPlan(widths=((4,), (6,)))


def network(ndim: int, generator: torch.Generator, channels: int = 2) -> VGG:
    return VGG(PLAN, spatial_dims=ndim, in_channels=channels, generator=generator)


def batches(ndim: int, generator: torch.Generator, channels: int = 2) -> tuple[Tensor, Tensor]:
    x, y = torch.rand(2, 3, channels, *[6] * ndim, generator=generator)
    return x, y


@pytest.mark.parametrize("normalization", ["balanced", "mean"])
@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_it_is_the_sum_of_the_losses_of_style_transfer(
    ndim: int, normalization: str, generator: torch.Generator
) -> None:
    net, (x, y) = network(ndim, generator), batches(ndim, generator)
    loss = PerceptualLoss(
        spatial_dims=ndim,
        backbone=net,
        content={"relu2_1": 2.0},
        style={"relu1_1": 3.0},
        normalization=normalization,
        reduction="none",
    )
    values = loss(x.requires_grad_(), y)
    for item in range(3):
        one, other = x[item : item + 1].detach(), y[item : item + 1]
        layers = ["relu1_1", "relu2_1"]
        features, target = net(one, layers), net(other, layers)
        content = ContentLoss(target["relu2_1"], normalization=normalization)
        sums = STATISTICS["gram"].sums(target["relu1_1"])
        style = StyleLoss(sums, layer="relu1_1", normalization=normalization)
        expected = 2 * content.value(content.sums(features["relu2_1"]))
        expected = expected + 3 * style.value(style.sums(features["relu1_1"]))
        torch.testing.assert_close(values[item], expected)
    values.sum().backward()
    assert x.grad is not None
    assert bool((x.grad.flatten(1).norm(dim=1) > 0).all())
    for reduction, expected in (("mean", values.mean()), ("sum", values.sum())):
        loss.reduction = reduction
        torch.testing.assert_close(loss(x, y), expected)
    assert loss(y, y).item() == 0


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_channels_that_the_network_does_not_have_are_compared_one_by_one(
    channels: int, generator: torch.Generator
) -> None:
    net, (x, y) = network(2, generator, 3), batches(2, generator, channels)
    loss = PerceptualLoss(spatial_dims=2, backbone=net, content=["relu2_1"], normalization="mean")
    expected = loss(x, y)
    if channels < 3:
        parts = [loss(x[:, [channel] * 3], y[:, [channel] * 3]) for channel in range(channels)]
        torch.testing.assert_close(expected, torch.stack(parts).mean())


def test_slices_of_volumes(generator: torch.Generator) -> None:
    planes = MultiPlanar(network(2, generator), spatial_dims=3)
    x, y = batches(3, generator)
    options: dict[str, Any] = {"spatial_dims": 3, "backbone": planes, "reduction": "none"}
    loss = PerceptualLoss(content=["relu2_1"], **options)
    assert len(loss.content) == 3
    parts = [PerceptualLoss(content=[name], **options)(x, y) for name in loss.content]
    torch.testing.assert_close(loss(x, y), torch.stack(parts).mean(0))


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_shipped_networks_offline(ndim: int, generator: torch.Generator) -> None:
    x, y = torch.rand(2, 2, 1, *[8] * ndim, generator=generator)
    for inflation in ("mean", "multiplanar"):
        options: dict[str, Any] = {"style": ["relu2_1"], "inflation": inflation}
        loss = PerceptualLoss(spatial_dims=ndim, content=["relu2_2"], **options)
        assert isinstance(loss.network, MultiPlanar) == (ndim == 3 and inflation == "multiplanar")
        nearer = loss(0.9 * y + 0.1 * x, y)
        assert 0 < nearer < loss(x, y)


def test_a_part_of_a_training_loop(generator: torch.Generator) -> None:
    torch.manual_seed(1)
    model = nn.Conv1d(2, 2, 3, padding=1)
    loss = PerceptualLoss(
        spatial_dims=1, backbone=network(1, generator), content=["relu1_1"], style=["relu2_1"]
    )
    part = copy.deepcopy(loss)
    nn.ModuleList([model, part]).train()
    assert not any(parameter.requires_grad for parameter in part.parameters())
    assert not any(module.training for module in part.network.modules())
    x, y = batches(1, generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    history = []
    for _ in range(30):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = part(model(x), y)
        assert value.dtype == torch.float32
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        history.append(value.item())
    assert history[-1] < 0.5 * history[0]
    twin = PerceptualLoss(
        spatial_dims=1, backbone=network(1, generator), content=["relu1_1"], style=["relu2_1"]
    )
    twin.load_state_dict(loss.state_dict())
    torch.testing.assert_close(twin(x, y), loss(x, y))
    assert loss.double()(x.double(), y.double()).dtype == torch.float64


def test_the_callers_network_stays_trainable(generator: torch.Generator) -> None:
    net = network(1, generator).requires_grad_(True).train()
    loss = PerceptualLoss(spatial_dims=1, backbone=net, content=["relu1_1"])
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    pointers = [
        {parameter.data_ptr() for parameter in module.parameters()}
        for module in (net, loss.network)
    ]
    assert pointers[0] == pointers[1]


def test_errors(generator: torch.Generator) -> None:
    net, (x, y) = network(1, generator), batches(1, generator)
    with raises(UsageError, operation="PerceptualLoss", got="none"):
        PerceptualLoss(spatial_dims=1, backbone=net, content=[])
    with raises(UnknownNameError, operation="layer", got="'relu9_1'"):
        PerceptualLoss(spatial_dims=1, backbone=net, content=["relu9_1"])
    for option in ("normalization", "reduction"):
        options: dict[str, Any] = {option: "averaged"}
        with pytest.raises(UnknownNameError, match=option):
            PerceptualLoss(spatial_dims=1, backbone=net, content=["relu1_1"], **options)
    loss = PerceptualLoss(spatial_dims=1, backbone=net, content=["relu1_1"])
    for other in (y[:2], y[..., :3], y[..., None]):
        with pytest.raises(ShapeError) as caught:
            loss(x, other)
        assert caught.value.operation == "PerceptualLoss"
