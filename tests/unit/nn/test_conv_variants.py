"""Causal padding, depthwise-separable convolutions, and channels known by the first input."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from error_fields import raises
from scipy.ndimage import correlate
from torch import nn

from convnd import nn as cn
from convnd.errors import ShapeError, UnknownNameError, UsageError
from convnd.shapes import pad_pairs, parse_layer

RANKS = (1, 2, 3, 4)


@pytest.mark.parametrize("ndim", RANKS)
@pytest.mark.parametrize("mode", ["zeros", "replicate"])
def test_causal_outputs_read_no_later_sample(
    ndim: int, mode: str, generator: torch.Generator
) -> None:
    options: dict[str, Any] = {"padding_mode": mode, "spatial_dims": ndim, "generator": generator}
    layer = cn.ConvNd(2, 3, 3, 1, "causal", 2, **options)
    x = torch.rand(1, 2, *[7] * ndim, generator=generator)
    y = layer(x)
    assert y.shape[2:] == x.shape[2:]
    for now in range(7):
        changed = x.clone()
        changed[:, :, now + 1 :] = 9.0
        torch.testing.assert_close(layer(changed)[:, :, : now + 1], y[:, :, : now + 1])
        changed[:, :, now] += 1.0
        assert not torch.allclose(layer(changed)[:, :, now], y[:, :, now])


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_causal_padding_is_torchs_convolution_of_a_signal_padded_before(
    stride: int, generator: torch.Generator
) -> None:
    layer = cn.ConvNd(2, 3, 4, stride, "causal", 2, spatial_dims=1, generator=generator)
    x = torch.rand(2, 2, 11, generator=generator)
    expected = F.conv1d(F.pad(x, (6, 0)), layer.weight, layer.bias, stride, 0, 2)
    assert torch.equal(layer(x), expected)
    assert expected.shape[-1] == -(-11 // stride)


def test_causal_padding_in_other_places() -> None:
    assert parse_layer("conv:3:4,padding=causal", 2).padding == ((2, 0), (1, 1))
    x = torch.arange(5.0).view(1, 1, 5)
    pool = cn.MaxPoolNd(3, 1, "causal", spatial_dims=1)
    assert torch.equal(pool(-x).flatten(), torch.tensor([-0.0, 0.0, 0.0, -1.0, -2.0]))
    for mode in ("reflect", "circular"):
        with raises(UsageError, operation="padding_mode", expected="zeros or replicate", got=mode):
            cn.ConvNd(1, 1, 3, padding="causal", padding_mode=mode, spatial_dims=1)
    with raises(UnknownNameError, operation="padding", got="'causal'"):
        pad_pairs("causal", 2)


@pytest.mark.parametrize("ndim", RANKS)
def test_separable_is_scipys_correlation_and_a_product(
    ndim: int, generator: torch.Generator
) -> None:
    layer = cn.DepthwiseSeparableConvNd(
        3, 5, 3, padding=1, depth_multiplier=2, spatial_dims=ndim, generator=generator
    ).double()
    x = torch.rand(1, 3, *[4] * ndim, generator=generator, dtype=torch.float64)
    filters = layer.depthwise.weight.detach().numpy()
    filtered = [
        correlate(x[0, row // 2].numpy(), filters[row, 0], mode="constant") for row in range(6)
    ]
    mix = layer.pointwise.weight.detach().numpy().reshape(5, 6)
    assert layer.depthwise.bias is None
    assert layer.pointwise.bias is not None
    offsets = layer.pointwise.bias.detach().numpy().reshape(5, *[1] * ndim)
    np.testing.assert_allclose(
        layer(x)[0].detach().numpy(), np.tensordot(mix, np.stack(filtered), 1) + offsets
    )
    assert torch.autograd.gradcheck(layer, x.requires_grad_(), fast_mode=True)


def test_separable_is_torchs_two_convolutions(generator: torch.Generator) -> None:
    layer = cn.DepthwiseSeparableConvNd(4, 6, 3, 2, 2, 2, bias=False, spatial_dims=2)
    depthwise = nn.Conv2d(4, 4, 3, 2, 2, 2, groups=4, bias=False)
    pointwise = nn.Conv2d(4, 6, 1, bias=False)
    depthwise.load_state_dict(layer.depthwise.state_dict())
    pointwise.load_state_dict(layer.pointwise.state_dict())
    x = torch.rand(2, 4, 9, 8, generator=generator)
    assert torch.equal(layer(x), pointwise(depthwise(x)))
    with raises(ShapeError, operation="depth_multiplier", got="0"):
        cn.DepthwiseSeparableConvNd(4, 6, 3, depth_multiplier=0, spatial_dims=2)


@pytest.mark.parametrize("ndim", RANKS)
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_lazy_layers_become_those_with_channels(
    kind: str, ndim: int, generator: torch.Generator
) -> None:
    eager, lazy_class = getattr(cn, f"{kind}Nd"), getattr(cn, f"Lazy{kind}Nd")
    x = torch.rand(2, 4, *[5] * ndim, generator=generator)
    before = torch.get_rng_state()
    lazy = lazy_class(6, 3, 2, groups=2, spatial_dims=ndim)
    assert torch.equal(torch.get_rng_state(), before)
    twin = copy.deepcopy(lazy)
    torch.manual_seed(3)
    y = lazy(x)
    torch.manual_seed(3)
    expected = eager(4, 6, 3, 2, groups=2, spatial_dims=ndim)
    assert type(lazy) is eager
    assert repr(lazy) == repr(expected)
    assert torch.equal(y, expected(x))
    twin.load_state_dict(expected.state_dict())  # before its first input
    assert torch.equal(twin(x), y)
    assert type(twin) is eager
    assert twin.in_channels == 4
    if ndim < 4:
        theirs = getattr(nn, f"Lazy{kind}{ndim}d")(6, 3, 2, groups=2)
        torch.manual_seed(3)
        torch.testing.assert_close(theirs(x), y)


def test_what_lazy_layers_refuse(generator: torch.Generator) -> None:
    lazy = cn.LazyConvNd(6, 3, groups=3, bias=False, dtype=torch.float64, spatial_dims=2)
    with raises(ShapeError, operation="LazyConvNd", expected="x of rank 4"):
        lazy(torch.zeros(1, 3, 5))
    with raises(ShapeError, expected="input channels that 3 groups divide", got="4"):
        lazy(torch.zeros(1, 4, 5, 5))
    y = lazy(torch.rand(1, 3, 5, 5, generator=generator, dtype=torch.float64))
    assert y.dtype == torch.float64
    assert lazy.bias is None
