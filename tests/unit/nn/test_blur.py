"""Gaussian blur against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from error_fields import raises
from scipy import ndimage

from convnd.errors import ShapeError, UnknownNameError, UsageError
from convnd.nn import GaussianBlurNd, gaussian_blur_nd

SCIPY = {"replicate": "nearest", "zeros": "constant", "reflect": "mirror", "circular": "wrap"}


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
@pytest.mark.parametrize("mode", SCIPY)
def test_equals_scipys_filter(ndim: int, mode: str) -> None:
    generator = torch.Generator().manual_seed(ndim)
    extents = (9, 8, 7, 10)[:ndim]
    x = torch.randn(2, 3, *extents, generator=generator, dtype=torch.float64)
    sigma = [0.4, 1.2, 0.0, 0.7][:ndim]
    expected = ndimage.gaussian_filter(x.numpy(), [0, 0, *sigma], mode=SCIPY[mode])
    np.testing.assert_allclose(
        gaussian_blur_nd(x, sigma, padding_mode=mode).numpy(), expected, atol=1e-12
    )


def test_ones_stay_and_gradients_are_right() -> None:
    ones = torch.ones(1, 2, 6, 5)
    torch.testing.assert_close(gaussian_blur_nd(ones, (1.0, 0.5)), ones)
    x = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: gaussian_blur_nd(values, (1.0, 0.5)), x)
    assert gaussian_blur_nd(x, 0) is x


def test_what_is_refused() -> None:
    x = torch.zeros(1, 1, 4, 4)
    with raises(UsageError, got="-1"):
        gaussian_blur_nd(x, -1)
    with raises(ShapeError, got="one with 2"):
        gaussian_blur_nd(x, [1.0, 1.0, 1.0])
    with pytest.raises(UnknownNameError):
        gaussian_blur_nd(x, 1.0, padding_mode="mirror")


@pytest.mark.parametrize("mode", SCIPY)
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_the_module_is_the_function_also_in_torchscript(mode: str) -> None:
    x = torch.randn(2, 3, 6, 5, 7, 6, generator=torch.Generator().manual_seed(0))
    sigma = (0.7, 0.0, 1.1, 0.4)
    module = GaussianBlurNd(sigma, padding_mode=mode, truncate=3.0, spatial_dims=4)
    expected = gaussian_blur_nd(x, sigma, padding_mode=mode, truncate=3.0)
    assert torch.equal(module(x), expected)
    torch.testing.assert_close(torch.jit.script(module)(x), expected)
    assert repr(module).startswith("GaussianBlurNd(sigma=(0.7, 0.0, 1.1, 0.4), padding_mode=")


def test_what_the_module_refuses() -> None:
    with raises(UsageError, got="nan"):
        GaussianBlurNd(float("nan"), spatial_dims=2)
    with raises(ShapeError, got="one with 3"):
        GaussianBlurNd((1.0, 1.0), spatial_dims=3)
    with raises(ShapeError, operation="GaussianBlurNd", expected="x of rank 5"):
        GaussianBlurNd(1.0, spatial_dims=3)(torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_whole_numbers_are_rounded(dtype: torch.dtype) -> None:
    codes = np.random.default_rng(0).integers(0, 255, (1, 2, 12, 13))
    blurred = gaussian_blur_nd(torch.from_numpy(codes).to(dtype), (1.5, 0.7))
    assert blurred.dtype == dtype
    for channel in range(2):
        expected = ndimage.gaussian_filter(
            codes[0, channel].astype(float), (1.5, 0.7), mode="nearest"
        )
        assert np.abs(blurred[0, channel].double().numpy() - expected).max() <= 0.5 + 1e-3
