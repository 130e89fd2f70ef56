"""Convolution by Fourier transforms against SciPy's direct one, and `conv_nd`'s arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from error_fields import raises
from scipy.signal import correlate

from convnd.errors import ShapeError, UnknownNameError, UsageError
from convnd.nn import conv_nd, fft_conv_nd
from convnd.nn.fft_conv import fft_length

TORCH: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_it_is_scipys_correlation(ndim: int, rng: np.random.Generator) -> None:
    size, kernel = (11, 8, 7, 6)[:ndim], (5, 4, 3, 5)[:ndim]
    x, weight, bias = rng.normal(size=(2, 3, *size)), rng.normal(size=(4, 3, *kernel)), np.ones(4)
    expected = np.array(
        [
            [
                1 + sum(correlate(one[c], filters[c], "valid", "direct") for c in range(3))
                for filters in weight
            ]
            for one in x
        ]
    )
    y = fft_conv_nd(torch.from_numpy(x), torch.from_numpy(weight), torch.from_numpy(bias))
    np.testing.assert_allclose(y, expected, atol=1e-10)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 1), (2, 3, 1), (3, 4, 2)])
def test_arguments_are_torchs(
    ndim: int, groups: int, stride: int, padding: int, dilation: int, generator: torch.Generator
) -> None:
    x = torch.rand(2, 4, *(17, 13, 9)[:ndim], generator=generator).double().requires_grad_()
    shape = (8, 4 // groups, *(5, 4, 3)[:ndim])
    weight = torch.rand(shape, generator=generator).double().requires_grad_()
    bias = torch.rand(8, generator=generator).double().requires_grad_()
    arguments = x, weight, bias
    y = fft_conv_nd(*arguments, stride, padding, dilation, groups)
    expected = TORCH[ndim](*arguments, stride, padding, dilation, groups)
    torch.testing.assert_close(y, expected)
    seed = torch.rand(y.shape, generator=generator).double()
    for gradient, other in zip(
        torch.autograd.grad(y, arguments, seed),
        torch.autograd.grad(expected, arguments, seed),
        strict=True,
    ):
        torch.testing.assert_close(gradient, other)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", ["same", "causal", ((2, 0), (1, 3), (0, 1), (2, 2))])
def test_paddings_are_those_of_conv_nd(padding: Any, mode: str, generator: torch.Generator) -> None:
    x = torch.rand(1, 2, 5, 6, 4, 5, generator=generator)
    weight = torch.rand(3, 2, 3, 4, 2, 3, generator=generator)
    if padding == "causal" and mode in ("reflect", "circular"):
        with raises(UsageError, operation="padding_mode"):
            fft_conv_nd(x, weight, padding=padding, padding_mode=mode)
        return
    y = fft_conv_nd(x, weight, padding=padding, padding_mode=mode)
    torch.testing.assert_close(y, conv_nd(x, weight, padding=padding, padding_mode=mode))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bits_are_computed_in_32(dtype: torch.dtype, generator: torch.Generator) -> None:
    x = torch.rand(1, 2, 40, generator=generator).to(dtype)
    weight = torch.rand(3, 2, 21, generator=generator).to(dtype)
    y = fft_conv_nd(x, weight)
    assert y.dtype == dtype
    torch.testing.assert_close(y, conv_nd(x.double(), weight.double()).to(dtype))


def test_what_is_refused() -> None:
    x = torch.zeros(1, 2, 5, 5)
    with raises(ShapeError, operation="fft_conv", expected="4 channels"):
        fft_conv_nd(x, torch.zeros(2, 4, 3, 3))
    with raises(ShapeError, operation="fft_conv", expected="x of rank 5"):
        fft_conv_nd(x, torch.zeros(2, 2, 3, 3, 3))
    with pytest.raises(ShapeError):
        fft_conv_nd(x, torch.zeros(2, 2, 6, 6))
    with pytest.raises(UnknownNameError):
        fft_conv_nd(x, torch.zeros(2, 2, 3, 3), padding_mode="mirror")


def test_lengths_are_products_of_small_primes() -> None:
    products = sorted(2**a * 3**b * 5**c for a in range(9) for b in range(6) for c in range(5))
    for least in range(1, 200):
        assert fft_length(least) == next(n for n in products if n >= least)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_an_empty_batch_gives_an_empty_batch(ndim: int) -> None:
    x, weight = torch.zeros(0, 3, *[9] * ndim), torch.ones(4, 3, *[5] * ndim, requires_grad=True)
    y = fft_conv_nd(x, weight, stride=2)
    assert y.shape == TORCH[ndim](x, weight, stride=2).shape
    y.sum().backward()
    assert weight.grad is not None
    assert not bool(weight.grad.any())


def test_whole_numbers_are_exact(rng: np.random.Generator) -> None:
    x, weight = (torch.from_numpy(rng.integers(-9, 255, s)) for s in ((1, 2, 9, 9), (3, 2, 3, 3)))
    assert torch.equal(fft_conv_nd(x, weight), conv_nd(x, weight))
