"""Resizing against the definition of each kernel, and torch's operators where it has them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from error_fields import raises

from convnd.errors import ShapeError, UnknownNameError, UsageError
from convnd.nn import RESIZE_MODES, resize_nd

TORCH_MODES = {
    (1, "linear"): "linear",
    (2, "linear"): "bilinear",
    (3, "linear"): "trilinear",
    (2, "cubic"): "bicubic",
    **{(ndim, "nearest"): "nearest-exact" for ndim in (1, 2, 3)},
    **{(ndim, "area"): "area" for ndim in (1, 2, 3)},
}


def triangle(t: float) -> float:
    return max(0.0, 1 - abs(t))


def cubic(t: float, a: float) -> float:
    t = abs(t)
    if t < 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0


def weights(old: int, new: int, mode: str, antialias: bool) -> np.ndarray:
    """Matrix from samples to samples, from the definition of each mode."""
    matrix, scale = np.zeros((new, old)), old / new
    for i in range(new):
        centre = (i + 0.5) * scale
        if mode == "nearest":
            matrix[i, math.floor(centre)] = 1
        elif mode == "area":
            matrix[i, math.floor(i * scale) : math.ceil((i + 1) * scale)] = 1
        elif antialias:
            width = max(scale, 1.0)
            kernel = triangle if mode == "linear" else lambda t: cubic(t, -0.5)
            matrix[i] = [kernel((j + 0.5 - centre) / width) for j in range(old)]
        else:  # beyond the border lies the border sample
            for j in range(-3, old + 3):
                offset = j + 0.5 - centre
                weight = triangle(offset) if mode == "linear" else cubic(offset, -0.75)
                matrix[i, min(max(j, 0), old - 1)] += weight
    normalized: np.ndarray = matrix / matrix.sum(1, keepdims=True)
    return normalized


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("mode", RESIZE_MODES)
@pytest.mark.parametrize("ndim", [1, 2, 3, 4, 5])
def test_resize_is_its_definition(
    ndim: int, mode: str, antialias: bool, rng: np.random.Generator
) -> None:
    size, target = (5, 4, 3, 6, 2)[:ndim], (3, 7, 3, 4, 4)[:ndim]
    x = rng.normal(size=(2, 3, *size))
    expected = x
    for axis, (old, new) in enumerate(zip(size, target, strict=True), start=2):
        matrix = weights(old, new, mode, antialias)
        expected = np.moveaxis(np.tensordot(matrix, expected, axes=(1, axis)), 0, axis)
    y = resize_nd(torch.from_numpy(x), target, mode=mode, antialias=antialias)
    # Torch computes the weights of its antialiased kernels in single precision.
    np.testing.assert_allclose(y, expected, atol=1e-5 if antialias else 1e-12)


@pytest.mark.parametrize(("ndim", "mode"), TORCH_MODES)
def test_resize_is_torchs(ndim: int, mode: str, generator: torch.Generator) -> None:
    x = torch.randn(2, 3, *[7, 5, 6][:ndim], generator=generator)
    name = TORCH_MODES[ndim, mode]
    for target in ([9, 10, 11][:ndim], [3, 2, 4][:ndim], [3, 10, 6][:ndim]):
        y = resize_nd(x, target, mode=mode, antialias=False)
        torch.testing.assert_close(y, F.interpolate(x, target, mode=name))
        if name in ("bilinear", "bicubic"):
            y = resize_nd(x, target, mode=mode)
            torch.testing.assert_close(y, F.interpolate(x, target, mode=name, antialias=True))


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("mode", RESIZE_MODES)
@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_a_length_one_axis_changes_nothing(
    ndim: int, mode: str, antialias: bool, generator: torch.Generator
) -> None:
    x = torch.randn(1, 2, *[4] * ndim, generator=generator)
    y = resize_nd(x, 3, mode=mode, antialias=antialias)
    for axis in range(ndim + 1):
        size = [3] * axis + [1] + [3] * (ndim - axis)
        z = resize_nd(x.unsqueeze(2 + axis), size, mode=mode, antialias=antialias)
        torch.testing.assert_close(z.squeeze(2 + axis), y)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("ndim", [1, 2, 4])
def test_gradients(ndim: int, mode: str, rng: np.random.Generator) -> None:
    x = torch.from_numpy(rng.normal(size=(1, 1, *[3] * ndim))).requires_grad_()
    for size in (2, 4):
        assert torch.autograd.gradcheck(
            lambda x, size=size: resize_nd(x, size, mode=mode), x, fast_mode=True
        )


@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_a_constant_stays_constant_and_antialiasing_removes_what_cannot_be_shown(mode: str) -> None:
    for ndim in (1, 2, 4):
        y = resize_nd(torch.full((1, 1, *[6] * ndim), 0.7), 4, mode=mode)
        torch.testing.assert_close(y, torch.full_like(y, 0.7))
    if mode in ("linear", "cubic"):
        stripes = torch.tensor([1.0, -1.0] * 32).view(1, 1, 64)
        inner = slice(4, -4)
        smooth = resize_nd(stripes, 20, mode=mode)[..., inner].abs().max()
        aliased = resize_nd(stripes, 20, mode=mode, antialias=False)[..., inner].abs().max()
        assert smooth < 0.15 < 0.3 < aliased


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_sizes_that_torch_gets_wrong(mode: str, generator: torch.Generator) -> None:
    """Its antialiased operators repeat one value where the last axis comes out 1 long."""
    x = torch.randn(1, 2, 5, 4, generator=generator, dtype=torch.float64)
    for size in ((3, 1), (7, 1), (1, 1), (1, 3)):
        first, second = (
            torch.from_numpy(weights(old, new, mode, antialias=True))
            for old, new in zip((5, 4), size, strict=True)
        )
        expected = first @ x @ second.mT
        torch.testing.assert_close(resize_nd(x, size, mode=mode), expected, atol=1e-5, rtol=0)


def test_scale_rounds_the_size() -> None:
    x = torch.zeros(1, 1, 5, 8)
    assert resize_nd(x, scale=0.5).shape[2:] == (2, 4)
    assert resize_nd(x, scale=(2, 0.01)).shape[2:] == (10, 1)


def test_nothing_to_do_costs_nothing() -> None:
    x = torch.zeros(1, 1, 5, 8)
    assert resize_nd(x, (5, 8)) is x
    assert resize_nd(x, scale=1) is x


def test_types_and_memory_formats_stay() -> None:
    x = torch.randn(1, 8, 6, 6).to(memory_format=torch.channels_last)
    for mode in RESIZE_MODES:
        assert resize_nd(x, 4, mode=mode).is_contiguous(memory_format=torch.channels_last)
    half = resize_nd(x.bfloat16(), 4)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), resize_nd(x.bfloat16().float(), 4), atol=0.02, rtol=0)


def test_bad_inputs_are_refused() -> None:
    x = torch.zeros(1, 1, 5, 8)
    with raises(UnknownNameError, operation="resize: mode", got="'bilinear'"):
        resize_nd(x, 3, mode="bilinear")
    with raises(ShapeError, operation="resize", expected="x of rank 3"):
        resize_nd(torch.zeros(5, 8), 3)
    for arguments in ({}, {"size": 3, "scale": 2.0}):
        with raises(UsageError, operation="resize", expected="either size or scale"):
            resize_nd(x, **arguments)  # type: ignore[arg-type]
    with raises(ShapeError, operation="resize: size", expected="one whole number"):
        resize_nd(x, (3, 3, 3))
    with raises(ShapeError, operation="resize", expected="one scale or 2"):
        resize_nd(x, scale=(2.0,))
    for scale in (0.0, -1.0, math.inf, math.nan):
        with raises(UsageError, operation="resize", expected="positive finite scale"):
            resize_nd(x, scale=scale)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("size", [5, 16, 21])
def test_whole_numbers_are_rounded_in_their_range(mode: str, size: int) -> None:
    """As torch does for uint8; cubic kernels overshoot beside edges."""
    x = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    x[..., 4:] = 255
    name = {"linear": "bilinear", "cubic": "bicubic"}[mode]
    expected = F.interpolate(x.float(), (size, size), mode=name, antialias=True)
    result = resize_nd(x, size, mode=mode)
    assert result.dtype == torch.uint8
    assert torch.equal(result.float(), expected.clamp(0, 255).round())
    constant = torch.full((1, 1, 8, 8), -200, dtype=torch.int32)
    assert bool((resize_nd(constant, size, mode=mode) == -200).all())
    half = torch.arange(8).expand(1, 1, 8, 8) > 3
    share = float(resize_nd(half, size, mode=mode).float().mean())
    assert abs(share - 0.5) <= 0.5 / size + 1e-6  # a sample in the middle counts
