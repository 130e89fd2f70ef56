"""Compiled convolutions and Gram matrices, whatever the blocks, threads and layouts."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from convnd.backbones import VGG, VGGPlan
from convnd.backbones.kernels import (
    ConvOptions,
    FrozenWeights,
    NativeConv,
    frozen_conv,
    frozen_max_pool,
    native,
)
from convnd.backbones.kernels.native_gram import can_multiply, native_gram
from convnd.backbones.kernels.native_pool import can_pool
from convnd.nn.layout import channels_last
from convnd.stats import gram_matrix

needs_native = pytest.mark.skipif(
    not native.is_available(), reason="installed without the compiled module, or no AVX2"
)
POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
SIZES = [(1, 1), (1, 9), (2, 3), (4, 4), (5, 7), (8, 6), (13, 30), (33, 18), (3, 410)]
CHANNELS = [(1, 1), (3, 64), (64, 3), (8, 16), (24, 40), (48, 130), (130, 17), (300, 33)]


def rounding(channels: int, width: int) -> float:
    """The most that rounding may change, of data and taps of variance 1 that are below 6.

    Winograd's algorithm: five standard deviations, as in test_winograd.py. A 1-wide convolution:
    half of epsilon for each sum, of sums that stay below ten standard deviations.
    """
    half = torch.finfo(torch.float32).eps / 2
    if width == 1:
        return half * (channels + 1) * min(36 * channels, 10 * (math.sqrt(channels) + 1))
    return half * 5 * math.sqrt((channels + 2 * (4 + 3 + 5)) * channels * 94.33**2)


def draw(
    size: tuple[int, ...], channels: int, outputs: int, width: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(2, channels, *size, generator=generator)
    weight = torch.randn(outputs, channels, *[width] * len(size), generator=generator)
    return x, weight, torch.randn(outputs, generator=generator)


@needs_native
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", SIZES)
def test_it_is_the_convolution(
    size: tuple[int, ...], channels: tuple[int, int], width: int, generator: torch.Generator
) -> None:
    x, weight, bias = draw(size, *channels, width, generator)
    tolerance = rounding(channels[0], width)
    expected = F.conv2d(x.double(), weight.double(), bias.double(), padding=width // 2)
    conv = NativeConv(weight, bias)
    y = conv(channels_last(x))
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=tolerance)
    assert torch.equal(conv(x, relu=True), y.relu())
    gate = torch.randn(x.shape, generator=generator).relu()
    gated = NativeConv(weight)(x, gate=gate)
    expected = F.conv2d(x.double() * (gate > 0), weight.double(), padding=width // 2)
    torch.testing.assert_close(gated.double(), expected, rtol=0, atol=tolerance)
    assert torch.equal(gated, NativeConv(weight)(channels_last(x), gate=gate > 0))


FEW_SIZES = [*SIZES, (9, 94), (20, 95), (6, 189), (17, 97)]


@needs_native
@pytest.mark.parametrize("replicate", [False, True])
@pytest.mark.parametrize("channels", [(1, 1), (3, 32), (2, 5), (64, 3), (8, 2), (24, 1), (5, 3)])
@pytest.mark.parametrize("size", FEW_SIZES)
def test_few_channels_or_outputs_are_convolved_directly(
    size: tuple[int, int], channels: tuple[int, int], replicate: bool, generator: torch.Generator
) -> None:
    """In whole numbers, of which Winograd's algorithm would round the products."""
    inputs, outputs = channels
    x = torch.randint(-4, 5, (2, inputs, *size), generator=generator).float()
    weight = torch.randint(-4, 5, (outputs, inputs, 3, 3), generator=generator).float()
    bias = torch.randint(-9, 10, (outputs,), generator=generator).float()
    gate = torch.randint(0, 2, x.shape, generator=generator).float()
    conv = NativeConv(weight, bias)
    mode = "replicate" if replicate else "constant"
    for opened in (None, gate, gate > 0):
        values = x if opened is None else x * gate
        expected = F.conv2d(F.pad(values, (1, 1, 1, 1), mode=mode), weight, bias)
        assert torch.equal(conv(x, gate=opened, replicate=replicate), expected)
    assert torch.equal(conv(x, relu=True, replicate=replicate), conv(x, replicate=replicate).relu())


@needs_native
@pytest.mark.parametrize("channels", [(8, 16), (24, 40), (130, 17)])
@pytest.mark.parametrize("size", SIZES)
def test_the_outermost_samples_repeat(
    size: tuple[int, int], channels: tuple[int, int], generator: torch.Generator
) -> None:
    x, weight, bias = draw(size, *channels, 3, generator)
    padded = F.pad(x.double(), (1, 1, 1, 1), mode="replicate")
    expected = F.conv2d(padded, weight.double(), bias.double())
    y = NativeConv(weight, bias)(channels_last(x), replicate=True)
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=rounding(channels[0], 3))


@needs_native
@pytest.mark.parametrize("size", [(50,), (7, 9), (3, 4, 5), (2, 3, 2, 3)])
def test_one_wide_in_every_rank(size: tuple[int, ...], generator: torch.Generator) -> None:
    x, weight, bias = draw(size, 20, 24, 1, generator)
    expected = torch.einsum("bc...,oc->bo...", x.double(), weight.flatten(1).double())
    expected += bias.double().view(-1, *[1] * len(size))
    y = NativeConv(weight, bias)(x)
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=rounding(20, 1))


@needs_native
@pytest.mark.parametrize("width", [1, 3])
def test_the_bytes_depend_on_neither_threads_nor_blocks(
    width: int, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, weight, bias = draw((45, 62), 72, 100, width, generator)
    conv, results = NativeConv(weight, bias), []
    for threads, block in itertools.product((1, 2, 3, 40), (6, 48, 90)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        monkeypatch.setitem(native._BLOCKS, width, block)
        results.append(conv(x))
    assert all(torch.equal(result, results[0]) for result in results)
    assert torch.equal(conv(x[1:]), results[0][1:])
    # Nor on what lies around a window that starts at a whole tile.
    part = conv(x[..., 8:24, 20:40].contiguous())
    assert torch.equal(part[..., 1:-4, 1:-4], results[0][..., 9:20, 21:36])


@needs_native
@pytest.mark.parametrize("channels", [(3, 20), (20, 3)])
def test_the_bytes_of_direct_convolutions_do_not_depend_on_threads(
    channels: tuple[int, int], generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, weight, bias = draw((45, 120), *channels, 3, generator)
    conv, results = NativeConv(weight, bias), []
    for threads, lines in itertools.product((1, 2, 3, 40), (1, 8, 50)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        monkeypatch.setattr(native, "_LINES", lines)
        results.append(conv(x))
    assert all(torch.equal(result, results[0]) for result in results)


@needs_native
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("save_output", [False, True])
def test_frozen_layers_give_torchs_gradient(
    width: int, save_output: bool, generator: torch.Generator
) -> None:
    x, weight, bias = draw((9, 14), 5, 20, width, generator)
    wide = x.double().requires_grad_()
    expected = F.conv2d(wide, weight.double(), bias.double(), padding=width // 2).relu()
    seed = torch.randn(expected.shape, generator=generator)
    (slope,) = torch.autograd.grad(expected, wide, seed.double())
    options = ConvOptions(relu=True, save_output=save_output, winograd=True)
    x.requires_grad_()
    y, features = frozen_conv(x, FrozenWeights(weight, bias), options)
    (gradient,) = torch.autograd.grad(y, x, seed, retain_graph=True)
    torch.testing.assert_close(gradient.double(), slope, rtol=0, atol=rounding(20, width))
    (twice,) = torch.autograd.grad([y, features], x, [seed.clone(), seed], create_graph=True)
    torch.testing.assert_close(twice, 2 * gradient, rtol=1e-3, atol=2 * rounding(20, width))


@needs_native
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("size", "kernel"), [((9,), (4,)), ((8, 7), (2, 2)), ((5, 6), (1, 3)), ((5, 6, 4), (2, 2, 2))]
)
@pytest.mark.parametrize("mask", [False, True])
def test_pooling_is_torchs_to_the_bit(
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    mask: bool,
    dtype: torch.dtype,
    generator: torch.Generator,
) -> None:
    """Values, also where they are equal, and gradients."""
    drawn = torch.randint(-3, 4, (2, *size, 24), generator=generator).to(dtype)
    drawn[0].view(-1)[5::97] = math.nan
    x = drawn.movedim(-1, 1).requires_grad_()
    assert can_pool(x, kernel)
    y = frozen_max_pool(x, kernel, mask_grad=mask)
    plain = POOLS[len(size)](x, kernel)
    assert torch.equal(y.nan_to_num(9), plain.nan_to_num(9))
    seed = torch.randn(y.shape, generator=generator).to(dtype)
    gate = plain > 0 if mask else torch.ones_like(plain, dtype=torch.bool)
    (expected,) = torch.autograd.grad(plain, x, seed * gate)
    for graph in (False, True):
        (gradient,) = torch.autograd.grad(y, x, seed, retain_graph=True, create_graph=graph)
        assert torch.equal(gradient, expected)


@needs_native
def test_values_that_are_not_finite_stay_where_they_belong() -> None:
    x = torch.zeros(1, 8, 9, 9)
    x[0, 0, 0, 0] = math.nan
    y = NativeConv(torch.ones(16, 8, 3, 3))(x, relu=True)
    assert y[..., :2, :2].isnan().all()
    assert (y[..., 6:, 6:] == 0).all()


@needs_native
def test_weights_that_change_are_transformed_again(generator: torch.Generator) -> None:
    net = VGG(VGGPlan(widths=((16,),)), generator=generator)
    net.winograd = True
    x = torch.rand(1, 3, 8, 8, generator=generator)
    before = net(x, ["conv1_1"])["conv1_1"]
    for parameter in net.parameters():
        parameter.data.mul_(2)
        parameter.data = parameter.data.clone()
    assert torch.equal(net(x, ["conv1_1"])["conv1_1"], 2 * before)


def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch, generator: torch.Generator) -> None:
    """With the variable, or without the module, torch computes the same to rounding."""
    x, weight, bias = draw((20, 20), 128, 128, 3, generator)
    options = ConvOptions(winograd=True)
    y, _ = frozen_conv(x, FrozenWeights(weight, bias), options)
    monkeypatch.setenv("CONVND_NATIVE", "0")
    native.is_available.cache_clear()
    try:
        assert not native.is_available()
        plain, _ = frozen_conv(x, FrozenWeights(weight, bias), options)
        assert native.kernel_bytes(weight) == 0
        monkeypatch.delenv("CONVND_NATIVE")
        monkeypatch.setattr(native, "library", None)
        native.is_available.cache_clear()
        assert not native.is_available()
        assert torch.equal(frozen_conv(x, FrozenWeights(weight, bias), options)[0], plain)
    finally:
        monkeypatch.undo()
        native.is_available.cache_clear()
    torch.testing.assert_close(y, plain, rtol=0, atol=2 * rounding(128, 3))


@needs_native
@pytest.mark.parametrize("channels", [8, 16, 24, 40, 64, 200])
@pytest.mark.parametrize("count", [0, 1, 7, 128, 129, 1000])
def test_the_gram_matrix_is_the_sum_of_products(
    channels: int, count: int, generator: torch.Generator
) -> None:
    rows = torch.randn(2, count, channels, generator=generator)
    assert can_multiply(rows)
    expected = torch.einsum("bnc,bnd->bcd", rows.double(), rows.double())
    sizes = torch.einsum("bnc,bnd->bcd", rows.double().abs(), rows.double().abs())
    result = native_gram(rows)
    # Of n numbers, sums in any order have at most n - 1 roundings, and products one more.
    assert ((result - expected).abs() <= torch.finfo(torch.float32).eps / 2 * count * sizes).all()
    torch.testing.assert_close(result, result.mT, rtol=0, atol=0)


@needs_native
def test_the_gram_matrix_does_not_depend_on_threads(generator: torch.Generator) -> None:
    rows = torch.randn(1, 500, 72, generator=generator)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 16):
            torch.set_num_threads(count)
            results.append(native_gram(rows))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=0, atol=0)


@needs_native
@pytest.mark.parametrize("size", [(300,), (13, 30), (5, 6, 7)])
def test_the_gradient_of_a_gram_matrix(size: tuple[int, ...], generator: torch.Generator) -> None:
    x = channels_last(torch.randn(1, 24, *size, generator=generator)).requires_grad_()
    cotangent = torch.randn(1, 24, 24, generator=generator)
    (result,) = torch.autograd.grad(gram_matrix(x), x, cotangent)
    exact = x.detach().double().requires_grad_()
    flat = exact.flatten(2)
    (expected,) = torch.autograd.grad(flat @ flat.mT, exact, cotangent.double())
    torch.testing.assert_close(result, expected.float(), rtol=1e-5, atol=1e-5)
