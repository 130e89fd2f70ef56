"""Second derivatives, transforms, number formats and batches of losses and statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from components import LOSSES, make_losses
from torch import Tensor

from convnd.errors import ShapeError
from convnd.losses import (
    ContentLoss,
    Loss,
    StyleLoss,
    TemporalLoss,
    total_variation,
)
from convnd.losses.base import NORMALIZATIONS
from convnd.stats import STATISTICS, Sums, gram_matrix

# Forward mode makes torch load decompositions that it compiles with its own deprecated function.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

SIZES = ((7,), (4, 5), (3, 4, 2))


def value(loss: Loss, x: Tensor) -> Tensor:
    return loss.value(loss.sums(x))


@pytest.mark.parametrize("size", SIZES, ids=len)
@pytest.mark.parametrize("name", LOSSES)
def test_second_derivatives(name: str, size: tuple[int, ...], generator: torch.Generator) -> None:
    target, x = torch.rand(2, 1, 3, *size, generator=generator, dtype=torch.float64)
    loss = make_losses(target)[name]
    x.requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: value(loss, x), x, fast_mode=True, rtol=1e-4)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_second_derivatives_of_printed_formulas(
    normalization: str, generator: torch.Generator
) -> None:
    target, x = torch.rand(2, 1, 3, 5, 4, generator=generator, dtype=torch.float64)
    loss = StyleLoss(STATISTICS["gram"].sums(target), layer="layer", normalization=normalization)
    x.requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: value(loss, x), x, fast_mode=True)


@pytest.mark.parametrize("size", SIZES, ids=len)
@pytest.mark.parametrize("name", LOSSES)
def test_transforms_give_the_derivatives_of_autograd(
    name: str, size: tuple[int, ...], generator: torch.Generator
) -> None:
    target, x, tangent = torch.rand(3, 1, 3, *size, generator=generator, dtype=torch.float64)
    loss = make_losses(target)[name]

    def function(x: Tensor) -> Tensor:
        return value(loss, x)

    x.requires_grad_()
    (expected,) = torch.autograd.grad(function(x), x)
    (second,) = torch.autograd.grad(
        torch.autograd.grad(function(x), x, create_graph=True)[0], x, tangent, allow_unused=True
    )
    x = x.detach()
    torch.testing.assert_close(torch.func.grad(function)(x), expected)
    torch.testing.assert_close(torch.func.jacrev(function)(x), expected)
    along = torch.func.jvp(function, (x,), (tangent,))[1]
    torch.testing.assert_close(along, (expected * tangent).sum())
    product = torch.func.jvp(torch.func.grad(function), (x,), (tangent,))[1]
    assert second is not None
    torch.testing.assert_close(product, second)


@pytest.mark.parametrize("size", SIZES, ids=len)
@pytest.mark.parametrize("name", LOSSES)
def test_vmap_over_fields(name: str, size: tuple[int, ...], generator: torch.Generator) -> None:
    target = torch.rand(1, 3, *size, generator=generator)
    fields = torch.rand(4, 1, 3, *size, generator=generator)
    loss = make_losses(target)[name]
    expected = torch.stack([value(loss, field) for field in fields])
    torch.testing.assert_close(torch.func.vmap(lambda x: value(loss, x))(fields), expected)


def test_forward_mode_without_torch_func(generator: torch.Generator) -> None:
    x, tangent = torch.rand(2, 1, 3, 5, generator=generator, dtype=torch.float64)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, tangent)
        result = torch.autograd.forward_ad.unpack_dual(gram_matrix(dual)).tangent
    torch.testing.assert_close(result, x @ tangent.mT + tangent @ x.mT)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "size",
    [
        pytest.param((5000,), marks=pytest.mark.slow),
        (70, 70),
        pytest.param((17, 17, 17), marks=pytest.mark.slow),
    ],
    ids=len,
)
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_accumulates_in_float32(
    name: str, size: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator
) -> None:
    """Sums of float16 end at 65504; those of bfloat16 have 8 bits."""
    target = torch.rand(1, 3, *size, generator=generator).to(dtype)
    x = (20 * torch.rand(1, 3, *size, generator=generator)).to(dtype)
    result = value(make_losses(target)[name], x)
    expected = value(make_losses(target.double())[name], x.double()).item()
    assert result.dtype in (torch.float32, torch.float64)
    assert result.item() == pytest.approx(expected, rel=4 * torch.finfo(dtype).eps)


def test_half_precision_differences_do_not_overflow() -> None:
    x = torch.full((1, 1, 4), 6e4, dtype=torch.float16)
    for loss in (ContentLoss(-x), TemporalLoss(-x, torch.ones_like(x))):
        assert value(loss, x).item() == pytest.approx(4.0 if loss.layer != "input" else 1.44e10)
    x[..., ::2] *= -1
    assert total_variation(x, [1.0]).item() == pytest.approx(3 / 4 * 1.2e5**2, rel=1e-3)


@pytest.mark.parametrize("size", SIZES, ids=len)
@pytest.mark.parametrize("name", LOSSES)
def test_one_target_serves_a_batch(
    name: str, size: tuple[int, ...], generator: torch.Generator
) -> None:
    target = torch.rand(1, 3, *size, generator=generator)
    x = torch.rand(4, 3, *size, generator=generator)
    shared = value(make_losses(target)[name], x)
    expanded = value(make_losses(target.repeat(4, *[1] * (len(size) + 1)))[name], x)
    torch.testing.assert_close(shared, expanded)
    with pytest.raises(ShapeError) as caught:
        value(make_losses(target.repeat(3, *[1] * (len(size) + 1)))[name], x)
        raise ShapeError("total_variation has no target: batch")
    assert "batch" in str(caught.value)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("make", [ContentLoss, StyleLoss])
def test_one_target_for_a_batch_under_every_normalization(
    make: Callable[..., Any], normalization: str, generator: torch.Generator
) -> None:
    target, x = torch.rand(1, 3, 6, generator=generator), torch.rand(4, 3, 6, generator=generator)
    values = []
    for shared in (target, target.repeat(4, 1, 1)):
        aim: Tensor | Sums = shared if make is ContentLoss else STATISTICS["gram"].sums(shared)
        values.append(value(make(aim, layer="layer", normalization=normalization), x))
    torch.testing.assert_close(*values)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_autocast_leaves_losses_in_float32(
    name: str, dtype: torch.dtype, generator: torch.Generator
) -> None:
    target, x = torch.rand(2, 1, 3, 8, 8, generator=generator)
    loss = make_losses(target)[name]
    with torch.autocast("cpu", dtype=dtype):
        result = value(loss, x)
    torch.testing.assert_close(result, value(loss, x))
