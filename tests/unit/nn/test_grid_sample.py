"""Sampling against torch for two and three axes, and SciPy for any number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from error_fields import raises
from scipy.ndimage import map_coordinates
from torch import Tensor

from convnd.errors import ShapeError, UnknownNameError
from convnd.nn import SAMPLE_MODES, SAMPLE_PADDING_MODES, grid_sample_nd
from convnd.nn.grid_sample import _sample

SIZES = (5, 4, 6, 3)
TORCH = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}
SCIPY = {
    ("zeros", True): "grid-constant",
    ("zeros", False): "grid-constant",
    ("border", True): "nearest",
    ("border", False): "nearest",
    ("reflection", True): "mirror",
    ("reflection", False): "reflect",
}


def example(ndim: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """An input and positions, some of them far outside."""
    x = torch.rand(2, 3, *SIZES[:ndim], generator=generator, dtype=torch.float64)
    shape = (2, *(2, 3, 2, 4)[:ndim], ndim)
    return x, 5 * torch.rand(shape, generator=generator, dtype=torch.float64) - 2.5


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("padding", SAMPLE_PADDING_MODES)
@pytest.mark.parametrize(
    ("ndim", "mode"), [(2, "nearest"), (2, "linear"), (2, "cubic"), (3, "nearest"), (3, "linear")]
)
def test_two_and_three_axes_are_torchs(
    ndim: int, mode: str, padding: str, corners: bool, generator: torch.Generator
) -> None:
    x, grid = example(ndim, generator)
    x.requires_grad_(), grid.requires_grad_()
    expected = F.grid_sample(x, grid, TORCH[mode], padding, corners)
    assert torch.equal(grid_sample_nd(x, grid, TORCH[mode], padding, corners), expected)
    own = _sample(x, grid, mode, padding, align_corners=corners)
    torch.testing.assert_close(own, expected)
    seed = torch.rand(own.shape, generator=generator, dtype=own.dtype)
    inputs = [x, grid][: 1 if mode == "nearest" else 2]
    for gradient, other in zip(
        torch.autograd.grad(own, inputs, seed),
        torch.autograd.grad(expected, inputs, seed),
        strict=True,
    ):
        torch.testing.assert_close(gradient, other)


@pytest.mark.parametrize(("padding", "corners"), SCIPY)
@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_linear_is_scipys(
    ndim: int, padding: str, corners: bool, generator: torch.Generator
) -> None:
    x, grid = example(ndim, generator)
    y = grid_sample_nd(x, grid, "linear", padding, corners)
    size = np.array(x.shape[2:])
    g = grid.numpy()[..., ::-1]
    places = (g + 1) / 2 * (size - 1) if corners else ((g + 1) * size - 1) / 2
    for b in range(2):
        for c in range(3):
            expected = map_coordinates(
                x[b, c].numpy(),
                np.moveaxis(places[b], -1, 0),
                order=1,
                mode=SCIPY[padding, corners],
            )
            np.testing.assert_allclose(y[b, c], expected, atol=1e-12)


@pytest.mark.parametrize("mode", SAMPLE_MODES)
@pytest.mark.parametrize("ndim", [1, 4])
def test_other_axes_are_lines_of_two(ndim: int, mode: str, generator: torch.Generator) -> None:
    """Positions that leave the other axes as they are: torch's sampling of each line."""
    x, _ = example(ndim, generator)
    line = 3 * torch.rand(2, 7, generator=generator, dtype=torch.float64) - 1.5
    axes = [torch.linspace(-1, 1, n, dtype=torch.float64) for n in x.shape[2:]]
    positions = torch.meshgrid(*axes[:-1], torch.zeros(7, dtype=torch.float64), indexing="ij")
    grid = torch.stack(positions[::-1], -1).repeat(2, *[1] * (ndim + 1))
    grid[..., 0] = line.view(2, *[1] * (ndim - 1), 7)
    y = grid_sample_nd(x, grid, mode, "border", align_corners=True)
    rows = x.flatten(1, -2).unsqueeze(2)
    plane = torch.stack([line, torch.zeros_like(line)], -1).unsqueeze(1)
    expected = F.grid_sample(rows, plane, TORCH[mode], "border", align_corners=True)
    torch.testing.assert_close(y, expected.reshape(y.shape))


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("ndim", [1, 4])
def test_gradients(ndim: int, mode: str, generator: torch.Generator) -> None:
    x, grid = example(ndim, generator)
    x, grid = x[:1, :1].requires_grad_(), grid[:1].requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, grid: grid_sample_nd(x, grid, mode, "reflection"), (x, grid), fast_mode=True
    )
    if ndim == 4:
        assert torch.autograd.gradgradcheck(
            lambda x, grid: grid_sample_nd(x, grid, mode), (x, grid), fast_mode=True
        )


@pytest.mark.parametrize("padding", SAMPLE_PADDING_MODES)
def test_positions_that_are_no_numbers_and_axes_of_one_sample(padding: str) -> None:
    x = torch.rand(1, 1, 1, 3, 2, 2)
    grid = torch.zeros(1, 1, 1, 1, 2, 4)
    grid[..., 0, :], grid[..., 1, 0] = -1.0, torch.inf
    nan = grid.clone()
    nan[..., 0, :] = torch.nan
    for corners in (False, True):
        y = grid_sample_nd(x, grid, padding_mode=padding, align_corners=corners)
        assert torch.isfinite(y).all()
        other = grid_sample_nd(x, nan, padding_mode=padding, align_corners=corners)
        assert torch.equal(other, y)


def test_what_is_refused() -> None:
    x = torch.zeros(2, 1, 4, 4)
    with raises(ShapeError, operation="grid_sample", expected="a grid (2, *S', 2) of rank 4"):
        grid_sample_nd(x, torch.zeros(2, 4, 4, 3))
    with raises(ShapeError, operation="grid_sample", expected="x of rank 3"):
        grid_sample_nd(x[0, 0], torch.zeros(2, 4, 4, 2))
    with raises(UnknownNameError, operation="grid_sample: mode", got="'linaer'"):
        grid_sample_nd(x, torch.zeros(2, 4, 4, 2), "linaer")
    with raises(UnknownNameError, operation="grid_sample: padding_mode", got="'reflect'"):
        grid_sample_nd(x, torch.zeros(2, 4, 4, 2), padding_mode="reflect")
