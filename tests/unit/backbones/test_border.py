"""A convolution of a field that continues beyond its border, and its gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convnd.backbones.kernels import ConvOptions, FrozenWeights, frozen_conv
from convnd.backbones.kernels.border import Border
from convnd.nn import conv_nd

CASES = [
    ((9,), (3,), (0,)),
    ((1,), (5,), (0,)),
    ((3,), (5,), (0,)),
    ((7, 8), (3, 3), (0, 1)),
    ((2, 1), (3, 3), (0, 1)),
    ((40, 33), (3, 3), (0, 1)),
    ((7, 8), (3, 5), (1,)),
    ((1, 9), (1, 3), (1,)),
    ((4, 5, 6), (3, 3, 3), (0, 1, 2)),
    ((4, 5, 6), (3, 1, 3), (0, 1, 2)),
    ((4, 3, 2, 3), (3, 3, 3, 3), (0, 1, 2, 3)),
]


def reference(x: Tensor, weight: Tensor, axes: tuple[int, ...], *, circular: bool) -> Tensor:
    """The convolution of the extended field, in torch's own operators."""
    kernel = weight.shape[2:]
    margins = {axis + 2: kernel[axis] // 2 for axis in axes if kernel[axis] > 1}
    padded = Border(margins, circular).extend(x)
    padding = [0 if axis in axes else width // 2 for axis, width in enumerate(kernel)]
    return conv_nd(padded, weight, padding=padding).relu()


@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("shape", "kernel", "axes"), CASES)
def test_result_and_gradient_are_those_of_the_extended_field(
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    axes: tuple[int, ...],
    dtype: torch.dtype,
    circular: bool,
    generator: torch.Generator,
) -> None:
    x = torch.randn(2, 3, *shape, generator=generator, dtype=torch.float64).to(dtype)
    weight = torch.randn(16, 3, *kernel, generator=generator, dtype=torch.float64).to(dtype)
    options = ConvOptions(relu=True, winograd=True, padded_axes=axes, circular=circular)
    x = x.requires_grad_()
    expected = reference(x, weight, axes, circular=circular)
    y, features = frozen_conv(x, FrozenWeights(weight), options)
    cotangent = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(dtype)
    (expected_gradient,) = torch.autograd.grad(expected, x, cotangent)
    # The gradients of both results are added up.
    (gradient,) = torch.autograd.grad((y, features), x, (0.25 * cotangent, 0.75 * cotangent))
    tolerance = 1e-10 if dtype == torch.float64 else 2e-5
    for values, target in ((y, expected), (gradient, expected_gradient)):
        scale = target.abs().max().item()
        torch.testing.assert_close(values, target, atol=tolerance * scale, rtol=0)


@pytest.mark.parametrize("circular", [False, True])
def test_second_derivatives_pass_through_the_border(
    circular: bool, generator: torch.Generator
) -> None:
    x = torch.randn(1, 2, 5, 4, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.randn(3, 2, 3, 3, generator=generator, dtype=torch.float64)
    options = ConvOptions(relu=True, padded_axes=(0, 1), circular=circular)
    results = []
    expected = reference(x, weight, (0, 1), circular=circular)
    for y in (frozen_conv(x, FrozenWeights(weight), options)[0], expected):
        (first,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        results.append(torch.autograd.grad(first.square().sum(), x)[0])
    torch.testing.assert_close(*results)
