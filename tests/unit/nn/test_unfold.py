"""Windows as columns against NumPy, and their sum as the transpose; torch has two axes alone."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from error_fields import raises
from torch import Tensor

from convnd import nn as cn
from convnd.errors import ShapeError

RANKS = (1, 2, 3, 4, 5)


def numpys_columns(
    x: np.ndarray, kernel: tuple[int, ...], dilation: tuple[int, ...], stride: tuple[int, ...]
) -> np.ndarray:
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    starts = [range(0, n - r, s) for n, r, s in zip(x.shape[2:], reach, stride, strict=True)]
    columns = []
    for place in itertools.product(*starts):
        steps = zip(place, reach, dilation, strict=True)
        window: Any = (..., *(slice(n, n + r + 1, d) for n, r, d in steps))
        columns.append(x[window].reshape(len(x), -1))
    return np.stack(columns, -1)


@pytest.mark.parametrize("ndim", RANKS)
def test_columns_are_numpys(ndim: int, rng: np.random.Generator) -> None:
    size, kernel = (7, 5, 4, 6, 3)[:ndim], (3, 2, 1, 2, 2)[:ndim]
    dilation, stride = (2, 1, 1, 3, 1)[:ndim], (1, 2, 3, 1, 1)[:ndim]
    pairs = ((1, 0), (0, 2), (1, 1), (0, 0), (1, 0))[:ndim]
    x = rng.normal(size=(2, 3, *size))
    expected = numpys_columns(np.pad(x, ((0, 0), (0, 0), *pairs)), kernel, dilation, stride)
    y = cn.unfold_nd(torch.from_numpy(x), kernel, dilation, pairs, stride)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("ndim", RANKS)
def test_fold_is_the_transpose_of_unfold(ndim: int, generator: torch.Generator) -> None:
    size, kernel = (6, 5, 4, 4, 3)[:ndim], (3, 2, 1, 2, 2)[:ndim]
    geometry = (1, 2, 1, 1, 1)[:ndim], ((1, 0), (0, 2), (1, 1), (0, 0), (1, 0))[:ndim], 2
    x = torch.rand(2, 3, *size, generator=generator, dtype=torch.float64)
    columns = cn.unfold_nd(x, kernel, *geometry)
    other = torch.rand(columns.shape, generator=generator, dtype=torch.float64)
    y = cn.fold_nd(other, size, kernel, *geometry)
    assert y.shape == x.shape
    torch.testing.assert_close((columns * other).sum(), (x * y).sum())
    part = other[:1].requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: cn.fold_nd(x, size, kernel, *geometry), part, fast_mode=True
    )


@pytest.mark.parametrize("ndim", RANKS)
def test_every_overlap_is_added(ndim: int, generator: torch.Generator) -> None:
    """One tap at a time, in NumPy."""
    counts, kernel, stride, dilation = (2, 3, 2, 2, 1)[:ndim], (2, 3, 1, 2, 2)[:ndim], 2, 2
    size = tuple(2 * (n - 1) + 2 * (k - 1) + 1 for n, k in zip(counts, kernel, strict=True))
    x = torch.rand(1, 2 * int(np.prod(kernel)), int(np.prod(counts)), generator=generator)
    blocks = x.numpy().reshape(1, 2, *kernel, *counts)
    expected = np.zeros((1, 2, *size), np.float32)
    for tap in np.ndindex(*kernel):
        steps = zip(tap, counts, strict=True)
        place: Any = (..., *(slice(2 * t, 2 * t + 2 * n - 1, 2) for t, n in steps))
        expected[place] += blocks[(slice(None), slice(None), *tap)]
    y = cn.fold_nd(x, size, kernel, dilation, 0, stride)
    torch.testing.assert_close(y, torch.from_numpy(expected))


def test_a_convolution_is_a_product_with_columns(generator: torch.Generator) -> None:
    x = torch.rand(2, 3, 4, 5, 3, 4, generator=generator, dtype=torch.float64)
    weight = torch.rand(5, 3, 2, 2, 2, 2, generator=generator, dtype=torch.float64)
    y: Tensor = weight.flatten(1) @ cn.unfold_nd(x, 2)
    torch.testing.assert_close(y.view(2, 5, 3, 4, 2, 3), cn.conv_nd(x, weight))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_two_axes_are_torchs_and_scripts_follow_pairs(generator: torch.Generator) -> None:
    x = torch.rand(2, 3, 7, 6, generator=generator)
    options = (2, 3), (2, 1), (1, 2), (1, 2)
    columns = cn.unfold_nd(x, *options)
    assert torch.equal(columns, F.unfold(x, *options))
    assert torch.equal(cn.fold_nd(columns, (7, 6), *options), F.fold(columns, (7, 6), *options))
    assert torch.equal(cn.fold_nd(F.unfold(x, 2), (7, 6), 2), F.fold(F.unfold(x, 2), (7, 6), 2))
    pairs = (2, (1, 2, 1), ((0, 1), (2, 0), 1), (1, 2, 1))
    volume = torch.rand(2, 3, 5, 4, 3, generator=generator)
    unfold = cn.UnfoldNd(*pairs, spatial_dims=3)
    fold = cn.FoldNd((5, 4, 3), *pairs, spatial_dims=3)
    columns = unfold(volume)
    torch.testing.assert_close(torch.jit.script(unfold)(volume), columns)
    torch.testing.assert_close(torch.jit.script(fold)(columns), fold(columns))


def test_what_is_refused() -> None:
    x = torch.zeros(1, 4, 5, 5)
    with raises(ShapeError, operation="unfold", expected="x of rank 3"):
        cn.unfold_nd(x[0, 0], 2)
    with raises(ShapeError, operation="UnfoldNd", expected="x of rank 5"):
        cn.UnfoldNd(2, spatial_dims=3)(x)
    with pytest.raises(ShapeError):
        cn.unfold_nd(x, 6)
    with raises(ShapeError, operation="fold", expected="a multiple of 8 taps, 8 windows"):
        cn.fold_nd(torch.zeros(1, 8, 9), (3, 3, 3), 2)
    with raises(ShapeError, operation="FoldNd output_size", expected="or 2 of them"):
        cn.FoldNd((3, 3, 3), 2, spatial_dims=2)
    with pytest.raises(ShapeError):
        cn.FoldNd(1, 2, spatial_dims=2)
