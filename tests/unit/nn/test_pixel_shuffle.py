"""Pixel shuffle against its definition; torch's own, of two axes, is in test_as_torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from error_fields import raises

from convnd import nn as cn
from convnd.errors import ShapeError


@pytest.mark.parametrize("ndim", [1, 2, 3, 4, 5])
def test_every_sample_goes_where_the_formula_says(ndim: int, rng: np.random.Generator) -> None:
    factors, size = (2, 3, 1, 2, 2)[:ndim], (2, 3, 2, 1, 2)[:ndim]
    product = int(np.prod(factors))
    x = rng.normal(size=(2, 3 * product, *size))
    expected = np.empty((2, 3, *np.multiply(factors, size)))
    for place in np.ndindex(*expected.shape[2:]):
        coarse = tuple(n // r for n, r in zip(place, factors, strict=True))
        part = int(np.ravel_multi_index(np.mod(place, factors), factors))
        expected[(..., *place)] = x[(slice(None), slice(part, None, product), *coarse)]
    y = cn.pixel_shuffle_nd(torch.from_numpy(x), factors)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(cn.pixel_unshuffle_nd(y, factors), x)
    values = torch.from_numpy(x[:, :product]).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: cn.pixel_shuffle_nd(x, factors), values, fast_mode=True
    )


def test_what_is_refused() -> None:
    x = torch.zeros(1, 6, 5, 4)
    with raises(ShapeError, operation="pixel_shuffle", expected="channels that 4"):
        cn.pixel_shuffle_nd(x, 2)
    with raises(ShapeError, operation="pixel_unshuffle", expected="a size that"):
        cn.pixel_unshuffle_nd(x, 2)
    with raises(ShapeError, operation="PixelShuffleNd upscale_factor", expected="one whole"):
        cn.PixelShuffleNd((2, 3), spatial_dims=3)
    with raises(ShapeError, operation="PixelUnshuffleNd", expected="x of rank 5"):
        cn.PixelUnshuffleNd(1, spatial_dims=3)(x)
    with raises(ShapeError, operation="pixel_shuffle", expected="x of rank 3"):
        cn.pixel_shuffle_nd(x[0, 0], 1)
