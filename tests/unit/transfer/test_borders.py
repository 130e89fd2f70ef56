"""Borders are stylised as the rest, and a texture starts near its style."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from convnd_tasks.modalities.images.options import ImageOptions
from convnd_tasks.modalities.images.similarity import border_change
from error_fields import raises

from convnd.backbones import VGG, load
from convnd.errors import UnknownNameError
from convnd.optimize import TiledEvaluation, Tiler, evaluate_whole
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.random_phase import random_phase_noise
from convnd.transfer.style_transfer import StyleTransfer

OPTIONS = TransferOptions(
    backbone="compact", steps=12, scales=1, precision="float32", padding="replicate"
)
SHAPES = [(40,), (17, 22), (6, 1, 9), (1, 12, 1)]


def network(name: str, spatial_dims: int) -> VGG:
    return load(name, spatial_dims=spatial_dims, in_channels=2, layers=["conv1_1", "relu2_1"])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["vgg19", "compact"])
def test_the_first_layer_reads_the_outermost_samples_again(
    name: str, shape: tuple[int, ...], generator: torch.Generator
) -> None:
    net = network(name, len(shape))
    x = torch.rand(2, 2, *shape, generator=generator)
    # An axis of one sample counts as constant already.
    padded = x
    for axis, extent in enumerate(shape, 2):
        if extent > 1:
            ends = padded.narrow(axis, 0, 1), padded.narrow(axis, extent - 1, 1)
            padded = torch.cat([ends[0], padded, ends[1]], axis)
    expected = net(padded, ["conv1_1"])["conv1_1"]
    inner = tuple(slice(1, -1) if extent > 1 else slice(None) for extent in shape)
    net.padding = "replicate"
    features = net(x, ["conv1_1"])["conv1_1"]
    scale = expected.abs().max().item()
    torch.testing.assert_close(features, expected[(..., *inner)], atol=1e-5 * scale, rtol=1e-4)


def test_a_constant_field_has_constant_features() -> None:
    net = network("compact", 2)
    x = torch.full((1, 2, 12, 12), 0.9)
    varying = net(x, ["conv1_1"])["conv1_1"]
    net.padding = "replicate"
    constant = net(x, ["conv1_1"])["conv1_1"]
    assert varying.std((2, 3)).max() > 1e-3
    assert constant.std((2, 3)).max() < 1e-5


def test_gradients_are_those_of_autograd(generator: torch.Generator) -> None:
    net = network("compact", 2)
    net.padding = "replicate"
    x = torch.rand(1, 2, 10, 12, generator=generator).requires_grad_()
    weights = torch.rand(net(x.detach(), ["relu2_1"])["relu2_1"].shape, generator=generator)

    def value(field: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = (net(field, ["relu2_1"])["relu2_1"] * weights).sum()
        return total

    (gradient,) = torch.autograd.grad(value(x), x)
    direction = torch.rand(x.shape, generator=generator) - 0.5
    step = 1e-3
    with torch.no_grad():
        slope = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=2e-2)


@pytest.mark.parametrize("shape", [(96,), (48, 56)])
def test_tiles_give_the_whole(shape: tuple[int, ...], generator: torch.Generator) -> None:
    content, style, x = torch.rand(3, 1, 3, *shape, generator=generator)
    options = dataclasses.replace(
        OPTIONS, style_layers=("relu1_1", "relu2_1"), content_layers=("relu2_2",)
    )
    transfer = StyleTransfer(options, spatial_dims=len(shape), in_channels=3)
    objective = transfer.objective(content, [style], [1.0] * len(shape))
    whole = evaluate_whole(objective, x)
    tiler = Tiler(fits=lambda crop, _: math.prod(crop) <= math.prod(shape) // 2)
    tiled = TiledEvaluation(tiler)(objective, x)
    assert tiled.loss == pytest.approx(whole.loss, rel=1e-5)
    torch.testing.assert_close(
        tiled.gradient, whole.gradient, atol=1e-5 * whole.gradient.abs().max().item(), rtol=1e-4
    )


def picture(pixels: Any) -> torch.Tensor:
    values = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
    return F.interpolate(values, size=(64, 96), mode="bilinear", antialias=True)


@pytest.mark.slow
def test_the_border_changes_as_the_rest() -> None:
    content, style = picture(skimage.data.chelsea()), picture(skimage.data.coffee())
    changes = {}
    for padding in ("zeros", "replicate"):
        options = dataclasses.replace(OPTIONS, padding=padding)
        *_, last = StyleTransfer(options, spatial_dims=2, in_channels=3).run(
            TransferProblem(content, [style])
        )
        change = border_change(content, last.values.clamp(0, 1), torch.ones(1, 1, 64, 96))
        changes[padding] = math.hypot(*change.values())
    assert changes["replicate"] < 0.6 * changes["zeros"], changes


def test_the_default_is_that_of_the_kind() -> None:
    assert (TransferOptions().padding, ImageOptions().padding) == ("zeros", "replicate")
    with raises(UnknownNameError, operation="padding", got="'mirror'"):
        TransferOptions(padding="mirror")


# Where a texture starts


@pytest.mark.parametrize("shape", [(300,), (40, 50), (12, 14, 16)])
@pytest.mark.parametrize("grow", [0.6, 1, 1.5])
def test_noise_has_the_mean_variance_and_covariance(
    shape: tuple[int, ...], grow: float, generator: torch.Generator
) -> None:
    smooth = torch.rand(1, 1, *shape, generator=generator)
    style = torch.cat([smooth, 1 - smooth, 0.2 * torch.rand(1, 1, *shape, generator=generator)], 1)
    size = tuple(round(grow * extent) for extent in shape)
    noise = random_phase_noise([style], size, generator=generator)
    assert noise.shape == (1, 3, *size)
    flat, reference = noise[0].flatten(1), style[0].flatten(1)
    torch.testing.assert_close(flat.mean(1), reference.mean(1), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        flat[0] - flat[0].mean(), flat[1].mean() - flat[1], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(flat.std(1), reference.std(1), atol=0, rtol=0.15)


def test_noise_has_the_spectrum(generator: torch.Generator) -> None:
    wave = (torch.arange(256) * 2 * math.pi / 8).sin().view(1, 1, 256)
    noise = random_phase_noise([wave], (512,), generator=generator)[0, 0]
    power = torch.fft.rfft(noise).abs().square()
    assert power[60:69].sum() > 0.9 * power.sum()  # 512 / 8 = 64


def test_styles_of_weight_0_do_not_count(generator: torch.Generator) -> None:
    one, other = torch.rand(2, 1, 1, 64, generator=generator)
    seeds = [torch.Generator().manual_seed(3) for _ in range(2)]
    both = random_phase_noise([one, other], (64,), weights=(2, 0), generator=seeds[0])
    torch.testing.assert_close(both, random_phase_noise([one], (64,), generator=seeds[1]))


@pytest.mark.parametrize(
    "ndim", [1, *(pytest.param(ndim, marks=pytest.mark.slow) for ndim in (2, 3))]
)
def test_a_texture_ends_nearer_to_its_style_than_from_uniform_noise(ndim: int) -> None:
    generator = torch.Generator().manual_seed(ndim)
    coarse = torch.rand(1, 1, *[6] * ndim, generator=generator)
    mode = ("linear", "bilinear", "trilinear")[ndim - 1]
    style = F.interpolate(coarse, scale_factor={1: 32, 2: 8, 3: 4}[ndim], mode=mode)
    losses = []
    for init in ("random", "content"):
        options = TransferOptions(backbone="compact", steps=6, scales=1, init=init)
        *_, last = StyleTransfer(options, spatial_dims=ndim, in_channels=1).run(
            TransferProblem(None, [style], size=style.shape[2:])
        )
        losses.append(last.loss)
    assert losses[1] < 0.7 * losses[0]
