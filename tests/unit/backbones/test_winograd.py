"""The fast convolution is the convolution; layers that are not trained give torch's gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from error_fields import raises
from scipy.ndimage import correlate
from torch import Tensor, nn

from convnd.backbones import VGG, VGG19, Precision, VGGPlan
from convnd.backbones.kernels import (
    ConvOptions,
    FrozenWeights,
    frozen_conv,
    frozen_max_pool,
    winograd_conv_nd,
    winograd_is_faster,
)
from convnd.errors import ShapeError

SIZES = [(1,), (4,), (13,), (1500,), (1, 9), (8, 8), (9, 14), (70, 33), (4, 5, 3), (1, 8, 6)]
CONVS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def by_hand(x: Tensor, weight: Tensor) -> np.ndarray:
    """SciPy, one pair of channels at a time, in double precision."""
    planes = [
        [
            sum(
                correlate(plane, taps, mode="constant")
                for plane, taps in zip(item, kernel, strict=True)
            )
            for kernel in weight.double().numpy()
        ]
        for item in x.double().numpy()
    ]
    return np.array(planes)


def rounding(size: tuple[int, ...], channels: int) -> float:
    """Five standard deviations of the rounding of an output, of data and taps of variance 1.

    Every number on the way is rounded by up to half of epsilon: along an axis in sums of 4 data, 3
    taps and 5 outputs, and over channels. The signs are random, so the errors add up as a root.
    """
    axes = min(len(size), 2)
    # The matrices of F(4, 3) by Lavin and Gray: the largest row of A²ᵀ(G²1 ⊙ B²ᵀ1) is the variance
    # of the products that an output is the sum of; what is left in it is far smaller.
    variance = channels * 94.33**axes * 3 ** (len(size) - axes)
    roundings = axes * (4 + 3 + 5) + channels
    return 5 * torch.finfo(torch.float32).eps / 2 * math.sqrt(roundings * variance)


@pytest.mark.parametrize("size", SIZES)
def test_it_is_the_convolution(size: tuple[int, ...], generator: torch.Generator) -> None:
    x = torch.randn(2, 5, *size, generator=generator)
    weight = torch.randn(7, 5, *[3] * len(size), generator=generator)
    bias = torch.randn(7, generator=generator)
    expected = by_hand(x, weight) + bias.view(-1, *[1] * len(size)).numpy()
    y = winograd_conv_nd(x, weight, bias)
    tolerance = rounding(size, 5)
    np.testing.assert_allclose(y.numpy(), expected, rtol=0, atol=tolerance)
    rectified = winograd_conv_nd(x, weight, bias, relu=True)
    np.testing.assert_allclose(rectified.numpy(), expected.clip(0), rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", SIZES)
def test_its_adjoint_is_the_gradient(size: tuple[int, ...], generator: torch.Generator) -> None:
    """Torch's own gradient, in double precision."""
    x = torch.randn(1, 6, *size, generator=generator).double().requires_grad_()
    weight = torch.randn(4, 6, *[3] * len(size), generator=generator)
    y = CONVS[len(size)](x, weight.double(), padding=1)
    gradient = torch.randn(y.shape, generator=generator)
    gate = torch.rand(y.shape, generator=generator) > 0.5
    (expected,) = torch.autograd.grad(y, x, gradient.double() * gate)
    result = winograd_conv_nd(gradient, weight, adjoint=True, mask=gate)
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=rounding(size, 4))


def test_more_than_one_block_of_tiles(generator: torch.Generator) -> None:
    x = torch.randn(1, 128, 41, 130, generator=generator)
    weight = torch.randn(200, 128, 3, 3, generator=generator)
    expected = F.conv2d(x.double(), weight.double(), padding=1)
    error = winograd_conv_nd(x, weight).double() - expected
    assert error.norm() < 3e-6 * expected.norm()


@pytest.mark.parametrize(
    ("x", "weight"), [((1, 2, 9), (3, 2, 5)), ((1, 4, 9), (3, 2, 3)), ((1, 2, 4, 4), (3, 2, 3))]
)
def test_what_it_cannot_do_is_refused(x: tuple[int, ...], weight: tuple[int, ...]) -> None:
    with raises(
        ShapeError,
        operation="winograd_conv_nd",
        expected="1 to 3",
        got="weight",
        remedy="use conv_nd",
    ):
        winograd_conv_nd(torch.zeros(x), torch.zeros(weight))
    assert not winograd_is_faster((8, 8, 8, 8), 512, 512)


@pytest.mark.parametrize("size", [(9,), (8, 6), (4, 6, 5)])
@pytest.mark.parametrize("keep", [False, True])
def test_frozen_layers_give_torchs_gradient(
    size: tuple[int, ...], keep: bool, generator: torch.Generator
) -> None:
    ndim = len(size)
    weight = torch.randn(3, 2, *[3] * ndim, generator=generator).double()
    bias = torch.randn(3, generator=generator).double()
    x = torch.randn(2, 2, *size, generator=generator).double().requires_grad_()
    plain = POOLS[ndim](F.relu(CONVS[ndim](x, weight, bias, padding=1)), 2)
    seed = torch.randn(plain.shape, generator=generator).double()
    (expected,) = torch.autograd.grad(plain, x, seed)
    for by_pool in (False, True):
        h, _ = frozen_conv(
            x,
            FrozenWeights(weight, bias),
            ConvOptions(relu=True, save_output=keep, mask_grad=not by_pool, inplace_grad=True),
        )
        y = frozen_max_pool(h, [2] * ndim, mask_grad=by_pool)
        torch.testing.assert_close(y, plain)
        (result,) = torch.autograd.grad(y, x, seed)
        torch.testing.assert_close(result, expected)


WIDE = VGGPlan(widths=((8, 8), (64,), (256, 192, 192), (192,)))
ASKED = ["relu1_1", "conv3_2", "relu3_1", "pool3", "relu4_1"]


@pytest.mark.parametrize(("ndim", "extent"), [(1, 200), (2, 48), (3, 14)])
def test_a_fast_backbone_has_the_features_and_gradients_of_plain_torch(
    ndim: int, extent: int, generator: torch.Generator
) -> None:
    net = VGG(WIDE, spatial_dims=ndim, in_channels=2, generator=generator)
    layers: list[nn.Module] = []
    kinds = {1: (nn.Conv1d, nn.MaxPool1d), 2: (nn.Conv2d, nn.MaxPool2d)}
    kinds[3] = (nn.Conv3d, nn.MaxPool3d)
    conv, pool = kinds[ndim]
    for name in WIDE.layers:
        if name.startswith("conv"):
            weight = net.convolutions[name].weight.detach().double()  # type: ignore[operator]
            layer = conv(weight.shape[1], weight.shape[0], 3, padding=1, bias=False)
            layer.weight.data = weight
            layers.append(layer)
        else:
            layers.append(nn.ReLU() if name.startswith("relu") else pool(2))
    x = torch.rand(1, 2, *[extent] * ndim, generator=generator)
    wide = x.double().requires_grad_()
    h, expected = wide, {}
    for name, layer in zip(WIDE.layers[:-1], layers, strict=False):  # type: ignore[assignment]  # all but the last pooling
        h = layer(h)
        expected[name] = h
    loss = sum((expected[name].square().sum() * 1e-3 for name in ASKED), torch.tensor(0.0))
    (slope,) = torch.autograd.grad(loss, wide)

    fast = Precision(torch.float32, winograd=True).apply(net)
    x.requires_grad_()
    features = fast(x, ASKED)
    for name in ASKED:
        error = (features[name].double() - expected[name]).norm() / expected[name].norm()
        assert error < 1e-5, name
    loss = sum((features[name].square().sum() * 1e-3 for name in ASKED), torch.tensor(0.0))
    (gradient,) = torch.autograd.grad(loss, x)
    # A sign or a maximum that hangs on the last bit turns a single path on or off.
    assert (gradient.double() - slope).norm() < 1e-4 * slope.norm()


def test_gradients_are_added_without_copies(generator: torch.Generator) -> None:
    """What a frozen layer hands back is no view, so that autograd may add into it."""
    weight = torch.randn(128, 128, 3, 3, generator=generator)
    x = torch.randn(1, 128, 16, 16, generator=generator).requires_grad_()
    h = x * 1
    total = sum(
        frozen_conv(h, FrozenWeights(weight), ConvOptions(winograd=True))[0].sum() for _ in range(2)
    )
    with torch.profiler.profile() as profile:
        torch.autograd.grad(total, x)  # type: ignore[arg-type]
    adds = [
        event.key for event in profile.key_averages() if event.key in ("aten::add", "aten::add_")
    ]
    assert adds == ["aten::add_"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layers", [["relu1_1", "relu1_2"], ["conv1_1", "relu1_1", "pool1"]])
def test_gradients_of_features_are_left_as_they_were(
    layers: list[str], dtype: torch.dtype, generator: torch.Generator
) -> None:
    """Gradients are added up in place, but in no memory that is somebody else's."""
    plan = VGGPlan(widths=((16, 16), (16,)), ranks={"conv1_2": (8, 8)})
    net = Precision(dtype, channels_last=True).apply(VGG(plan, generator=generator))
    x = torch.rand(1, 3, 8, 8, generator=generator).requires_grad_()
    features = net(x, layers)
    seeds = [
        torch.randn(feature.shape, generator=generator).to(dtype).to(memory_format=layout)
        for feature, layout in zip(
            features.values(), [torch.contiguous_format, torch.channels_last] * 2, strict=False
        )
    ]
    copies = [seed.clone() for seed in seeds]
    gradients = [
        torch.autograd.grad(list(features.values()), x, seeds, retain_graph=True)[0]
        for _ in range(2)
    ]
    assert torch.equal(*gradients)
    assert all(map(torch.equal, seeds, copies))
    parts = [
        torch.autograd.grad(feature, x, seed, retain_graph=True)[0]
        for feature, seed in zip(features.values(), seeds, strict=True)
    ]
    near = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.05}
    torch.testing.assert_close(gradients[0], torch.stack(parts).sum(0), **near)  # type: ignore[arg-type]


def test_weights_that_are_trained_get_gradients(generator: torch.Generator) -> None:
    net = VGG(VGG19.truncate(["relu1_2"]), generator=generator)
    for parameter in net.parameters():
        parameter.requires_grad_()
    net(torch.rand(1, 3, 8, 8, generator=generator), ["relu1_2"])["relu1_2"].sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
