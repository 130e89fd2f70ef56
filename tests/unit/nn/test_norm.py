"""Instance and batch normalisation against the formula in NumPy and torch's modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from error_fields import raises
from torch import nn

from convnd.errors import ShapeError
from convnd.nn import BatchNormNd, ConvNd, InstanceNormNd

TORCH: dict[int, Any] = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


@pytest.mark.parametrize("ndim", [1, 2, 3, 4, 5])
def test_the_formula(ndim: int, rng: np.random.Generator) -> None:
    x = rng.normal(3.0, 2.0, size=(2, 3, *[3] * ndim))
    norm = InstanceNormNd(3, spatial_dims=ndim, eps=0.1, affine=True, dtype=torch.float64)
    gamma, beta = rng.normal(size=3), rng.normal(size=3)
    norm.load_state_dict({"weight": torch.from_numpy(gamma), "bias": torch.from_numpy(beta)})
    axes = tuple(range(2, 2 + ndim))
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    shape = (-1, *[1] * ndim)
    expected = (x - mean) / np.sqrt(var + 0.1) * gamma.reshape(shape) + beta.reshape(shape)
    np.testing.assert_allclose(norm(torch.from_numpy(x)).detach(), expected, rtol=1e-10)


@pytest.mark.parametrize("options", [{}, {"affine": True}, {"track_running_stats": True}])
@pytest.mark.parametrize("ndim", TORCH)
def test_state_dict_is_torchs(ndim: int, options: dict[str, Any], rng: np.random.Generator) -> None:
    x = torch.from_numpy(rng.normal(3.0, 2.0, size=(2, 3, *[4] * ndim))).float()
    mine, yours = InstanceNormNd(3, spatial_dims=ndim, **options), TORCH[ndim](3, **options)
    torch.testing.assert_close(mine(x), yours(x))  # a training step
    later, theirs = InstanceNormNd(3, spatial_dims=ndim, **options), TORCH[ndim](3, **options)
    theirs.load_state_dict(mine.state_dict(), strict=True)
    later.load_state_dict(yours.state_dict(), strict=True)
    torch.testing.assert_close(later.eval()(x), yours.eval()(x))
    torch.testing.assert_close(theirs.eval()(x), mine.eval()(x))


def test_gradients(rng: np.random.Generator) -> None:
    x = torch.from_numpy(rng.normal(size=(1, 2, 2, 2, 2, 2))).requires_grad_()
    assert torch.autograd.gradcheck(InstanceNormNd(2, spatial_dims=4), x, fast_mode=True)


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_a_length_one_axis_changes_nothing(ndim: int, rng: np.random.Generator) -> None:
    x = torch.from_numpy(rng.normal(size=(1, 2, *[3] * ndim)))
    y = InstanceNormNd(2, spatial_dims=ndim)(x)
    z = InstanceNormNd(2, spatial_dims=ndim + 1)(x[..., None, :])
    torch.testing.assert_close(z.squeeze(-2), y)


@pytest.mark.parametrize("ndim", [1, 2, 4])
def test_bad_inputs_are_refused(ndim: int) -> None:
    norm = InstanceNormNd(2, spatial_dims=ndim)
    with raises(ShapeError, operation="InstanceNormNd", got="shape"):
        norm(torch.zeros(2, *[3] * ndim))
    with raises(ShapeError, operation="InstanceNormNd", expected="2 channels"):
        norm(torch.zeros(1, 3, *[3] * ndim))
    with raises(ShapeError, operation="InstanceNormNd", expected="more than one position"):
        norm(torch.zeros(1, 2, *[1] * ndim))
    with raises(ShapeError, operation="spatial_dims", got="0"):
        InstanceNormNd(2, spatial_dims=0)
    with raises(ShapeError, operation="num_features", got="0"):
        InstanceNormNd(0, spatial_dims=ndim)


def test_one_position_is_enough_where_nothing_is_estimated() -> None:
    norm = InstanceNormNd(2, spatial_dims=1, track_running_stats=True).eval()
    assert norm(torch.zeros(1, 2, 1)).shape == (1, 2, 1)


def test_the_module_says_what_it_is() -> None:
    text = repr(InstanceNormNd(2, spatial_dims=4, affine=True))
    assert text.startswith("InstanceNormNd(2, eps=1e-05, momentum=0.1, affine=True")
    assert text.endswith(", spatial_dims=4)")


@pytest.mark.parametrize("ndim", [4, 5])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_above_three_axes(
    ndim: int, momentum: float | None, generator: torch.Generator
) -> None:
    """The same as that of one axis on all positions in a row."""
    ours = BatchNormNd(3, momentum=momentum, spatial_dims=ndim)
    theirs = nn.BatchNorm1d(3, momentum=momentum)
    for _ in range(3):
        x = torch.rand(2, 3, *[2] * ndim, generator=generator)
        torch.testing.assert_close(ours(x).flatten(2), theirs(x.flatten(2)))
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value)
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x).flatten(2), theirs(x.flatten(2)))
    with raises(ShapeError, operation="BatchNormNd", expected="x of rank"):
        ours(x[0])
    with raises(ShapeError, operation="BatchNormNd", expected="3 channels"):
        ours(x[:, :2])
    with raises(ShapeError, operation="BatchNormNd", expected="more than one value"):
        ours.train()(x[(slice(1), slice(None), *[slice(1)] * ndim)])


def test_tools_find_our_batch_norms() -> None:
    conv: Any = ConvNd(2, 3, 3, spatial_dims=2).eval()
    norm = BatchNormNd(3, spatial_dims=2).eval()
    fused = torch.nn.utils.fuse_conv_bn_eval(conv, norm)
    x = torch.rand(1, 2, 5, 5)
    torch.testing.assert_close(fused(x), norm(conv(x)))
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)


@pytest.mark.parametrize("kind", [BatchNormNd, InstanceNormNd])
def test_a_scale_without_a_bias(kind: Any, generator: torch.Generator) -> None:
    x = torch.rand(2, 3, 5, generator=generator)
    norm = kind(3, affine=True, bias=False, spatial_dims=1)
    assert next(iter(norm.state_dict())) == "weight"
    assert norm.bias is None
    torch.testing.assert_close(norm(x), kind(3, affine=True, spatial_dims=1)(x))
