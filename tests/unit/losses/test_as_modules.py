"""Losses and statistics as modules of torch: calls, buffers, moves, state and copies."""

from __future__ import annotations

import copy
import io
from typing import Any, cast

import pytest
import torch
from components import LOSSES, make_losses
from error_fields import raises
from torch import nn

from convnd.backbones import VGG, VGGPlan
from convnd.errors import ShapeError
from convnd.losses import ContentLoss, LossModule, PerceptualLoss, StyleLoss
from convnd.stats import STATISTICS, GuidedStatistic, ProjectedStatistic, StatisticModule

SIZES = ((7,), (4, 5), (3, 4, 2), (2, 3, 2, 3))


@pytest.mark.parametrize("size", SIZES, ids=len)
@pytest.mark.parametrize("name", LOSSES)
def test_a_call_is_the_value_of_the_sums(
    name: str, size: tuple[int, ...], generator: torch.Generator
) -> None:
    target, x = torch.rand(2, 1, 3, *size, generator=generator)
    loss = make_losses(target)[name]
    assert isinstance(loss, LossModule)
    value = loss(x.requires_grad_())
    torch.testing.assert_close(value, loss.value(loss.sums(x)))
    value.backward()
    assert x.grad is not None
    assert value.ndim == 0


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "total_variation"])
def test_a_loaded_state_replaces_the_target(name: str, generator: torch.Generator) -> None:
    first, second, x = torch.rand(3, 1, 3, 5, 6, generator=generator)
    one, other = make_losses(first)[name], make_losses(3 * second)[name]
    assert isinstance(one, LossModule)
    assert isinstance(other, LossModule)
    assert not torch.allclose(one(x), other(x))
    file = io.BytesIO()
    torch.save(nn.ModuleList([other]).state_dict(), file)
    file.seek(0)
    nn.ModuleList([one]).load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(one(x), other(x))
    twin = copy.deepcopy(one)
    twin.load_state_dict(make_losses(first)[name].state_dict())  # type: ignore[attr-defined]
    torch.testing.assert_close(one(x), other(x))


@pytest.mark.parametrize("name", LOSSES)
def test_targets_move_with_the_module(name: str, generator: torch.Generator) -> None:
    target, x = torch.rand(2, 1, 3, 5, 6, generator=generator)
    loss = make_losses(target)[name]
    assert isinstance(loss, LossModule)
    expected = loss(x)
    double = copy.deepcopy(loss).double()
    assert all(b.dtype == torch.float64 for b in double.buffers() if b.is_floating_point())
    torch.testing.assert_close(double(x.double()), expected.double(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss(x), expected)
    moved = copy.deepcopy(loss).to("meta")
    assert all(buffer.is_meta for buffer in moved.buffers())
    assert not list(loss.parameters())


@pytest.mark.parametrize("name", STATISTICS)
def test_a_statistic_is_called(name: str, generator: torch.Generator) -> None:
    x = torch.rand(2, 3, 5, 6, generator=generator)
    statistic = STATISTICS[name]
    assert isinstance(statistic, StatisticModule)
    torch.testing.assert_close(statistic(x), statistic.summary(statistic.sums(x)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(statistic(x), statistic.summary(statistic.sums(x)), rtol=0.02,
                                   atol=0.02)  # fmt: skip


def test_guides_and_projections_are_buffers(generator: torch.Generator) -> None:
    matrix, guide = torch.rand(2, 3, generator=generator), torch.ones(1, 1, 5)
    statistic = GuidedStatistic(ProjectedStatistic(STATISTICS["gram"], matrix), guide)
    assert set(statistic.state_dict()) == {"present", "guide", "_statistic.matrix"}
    x = torch.rand(1, 3, 5, generator=generator)
    torch.testing.assert_close(statistic(x), matrix @ (x @ x.mT) @ matrix.T / 5)
    assert statistic.double()(x.double()).dtype == torch.float64


def test_the_loss_of_a_region_leaves_the_whole_ones_statistic(generator: torch.Generator) -> None:
    x = torch.rand(1, 3, 6, generator=generator)
    loss = StyleLoss(STATISTICS["gram"].sums(x), layer="layer")
    part = loss.in_region(torch.tensor([[[1.0, 1, 0, 0, 0, 0]]]))
    assert loss(x) == 0 < part(x)
    assert loss.statistic is STATISTICS["gram"]


def test_a_source_of_features_is_no_buffer() -> None:
    class Source:
        channels, energy = 1, 25.0

        def features(self, _window: Any) -> torch.Tensor:
            return torch.tensor([[[3.0, 4.0]]])

    loss = ContentLoss(Source())
    assert not loss.state_dict()
    assert loss(torch.zeros(1, 1, 2)).item() == 1


def perceptual(generator: torch.Generator, **options: Any) -> PerceptualLoss:
    net = VGG(VGGPlan(widths=((4,), (6,))), spatial_dims=2, in_channels=3, generator=generator)
    return PerceptualLoss(
        spatial_dims=2, backbone=net, style=["relu1_1"], reduction="none", **options
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_one_target_and_one_style_serve_a_batch(channels: int, generator: torch.Generator) -> None:
    loss = perceptual(generator, content=["relu2_1"])
    x = torch.rand(4, channels, 8, 8, generator=generator)
    target = torch.rand(1, channels, 8, 8, generator=generator)
    style = torch.rand(1, channels, 9, 12, generator=generator)
    values = loss(x, target, style)
    torch.testing.assert_close(values, loss(x, target.expand(4, -1, -1, -1), style))
    each = [loss(item[None], target, style) for item in x]
    torch.testing.assert_close(values, torch.cat(each))
    torch.testing.assert_close(loss.fix_style(style)(x, target), values)
    styles = torch.rand(4, channels, 7, 7, generator=generator)
    several = loss.fix_style(styles)(x, target)
    each = [loss(*pair, one) for *pair, one in zip(x[:, None], target.expand(4, 1, -1, -1, -1),
                                                     styles[:, None], strict=True)]  # fmt: skip
    torch.testing.assert_close(several, torch.cat(each))
    torch.testing.assert_close(loss.fix_style(None)(x, target, styles), several)


def test_a_fixed_style_is_part_of_the_state(generator: torch.Generator) -> None:
    loss, twin = perceptual(generator, content=["relu2_1"]), perceptual(generator, content=())
    x, style = torch.rand(2, 3, 8, 8), torch.rand(1, 3, 8, 8)
    twin = copy.deepcopy(loss)
    loss.fix_style(style)
    assert not torch.allclose(twin(x, x), loss(x, x))
    twin.load_state_dict(loss.state_dict())
    torch.testing.assert_close(twin(x, x), loss(x, x))
    target = cast("Any", loss.to(torch.float64).style_targets).get("relu1_1")
    assert target.dtype == torch.float64


def test_without_content_a_target_has_any_size(generator: torch.Generator) -> None:
    loss = perceptual(generator, content=())
    x = torch.rand(2, 3, 8, 8, generator=generator)
    assert loss(x, torch.rand(1, 3, 5, 9, generator=generator)).shape == (2,)


def test_shapes_that_are_refused(generator: torch.Generator) -> None:
    loss = perceptual(generator, content=["relu2_1"])
    x = torch.rand(2, 3, 8, 8)
    for style in (torch.rand(3, 3, 8, 8), torch.rand(1, 1, 8, 8), torch.rand(1, 3, 8)):
        with raises(ShapeError, operation="PerceptualLoss", got="style"):
            loss(x, x, style)
    with raises(ShapeError, operation="PerceptualLoss", got="style (8,)"):
        loss.fix_style(torch.rand(8))
    loss.fix_style(torch.rand(3, 3, 8, 8))
    with raises(ShapeError, operation="PerceptualLoss", expected="3 items", got="2 of 3"):
        loss(x, x)
    loss.fix_style(torch.rand(1, 2, 8, 8))
    with raises(ShapeError, operation="PerceptualLoss", got="2 of 3"):
        loss(x, x)
