"""The local affine loss against an explicit matting Laplacian, and in tiles."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from error_fields import raises
from tiles import assert_equal
from torch import Tensor

from convnd.backbones import VGG, VGG19, Precision
from convnd.errors import ShapeError, UsageError
from convnd.losses import (
    LocalAffineLoss,
    Objective,
    StyleLoss,
    Term,
    TotalVariationLoss,
    default_radius,
)
from convnd.optimize import Tiler
from convnd.stats import STATISTICS

SIZES = [(11,), (5, 6), (3, 4, 5), (3, 3, 3, 4), (1, 9), (4, 1, 5)]


def matting_laplacian(guide: np.ndarray, radius: int, ridge: float) -> np.ndarray:
    """Levin et al. (2008), eq. 12: one dense matrix, one window after the other."""
    channels, *size = guide.shape
    widths = [min(2 * radius + 1, extent) for extent in size]
    numbers = np.arange(np.prod(size)).reshape(size)
    laplacian = np.zeros((numbers.size, numbers.size))
    for start in itertools.product(
        *(range(n - width + 1) for n, width in zip(size, widths, strict=True))
    ):
        window = tuple(slice(a, a + width) for a, width in zip(start, widths, strict=True))
        index = numbers[window].ravel()
        values = guide[(slice(None), *window)].reshape(channels, -1)
        n = len(index)
        centred = values - values.mean(1, keepdims=True)
        sigma = centred @ centred.T / n + ridge / n * np.eye(channels)
        affinity = (1 + centred.T @ np.linalg.solve(sigma, centred)) / n
        laplacian[np.ix_(index, index)] += np.eye(n) - affinity
    return laplacian


def value(loss: LocalAffineLoss, x: Tensor) -> Tensor:
    return loss.value(loss.sums(x))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("radius", [1, 2])
def test_energy_and_gradient_are_those_of_the_matrix(
    size: tuple[int, ...], channels: int, radius: int, generator: torch.Generator
) -> None:
    guide, x = torch.rand(2, 1, channels, *size, generator=generator, dtype=torch.float64)
    loss = LocalAffineLoss(guide, radius=radius, ridge=1e-3)
    groups = [[*range(channels)]] if loss.joint else [[channel] for channel in range(channels)]
    matrices = [
        matting_laplacian(guide[0, group].numpy(), radius, 1e-3) for group in groups for _ in group
    ]
    flat = x[0].flatten(1).numpy()
    # The content's own variance is the energy of a fit without slope.
    constant = matting_laplacian(np.zeros((1, *size)), radius, 1.0)
    own = sum(row @ constant @ row for row in guide[0].flatten(1).numpy())
    energy = sum(row @ matrix @ row for row, matrix in zip(flat, matrices, strict=True)) / own
    gradient = [2 * matrix @ row / own for row, matrix in zip(flat, matrices, strict=True)]
    x.requires_grad_()
    result = value(loss, x)
    result.backward()
    assert result.item() == pytest.approx(energy, rel=1e-9)
    assert x.grad is not None
    np.testing.assert_allclose(x.grad[0].flatten(1).numpy(), np.array(gradient), atol=1e-10)


def test_affine_maps_of_the_content_cost_nothing(generator: torch.Generator) -> None:
    content = torch.rand(1, 3, 16, 12, generator=generator, dtype=torch.float64)
    mixed = torch.einsum("ij,bjhw->bihw", torch.rand(3, 3, generator=generator).double(), content)
    loss = LocalAffineLoss(content)
    assert value(loss, mixed + 0.3).item() < 1e-5
    other = torch.rand(1, 3, 16, 12, generator=generator, dtype=torch.float64)
    assert value(loss, other).item() > 0.3


def test_a_map_that_changes_slowly_costs_less_than_one_that_changes_quickly(
    generator: torch.Generator,
) -> None:
    content = torch.rand(1, 1, 200, generator=generator, dtype=torch.float64)
    position = torch.arange(200, dtype=torch.float64)
    slow, quick = (content * (1.5 + torch.sin(position / period)) for period in (40, 4))
    loss = LocalAffineLoss(content)
    assert 0 < 10 * value(loss, slow).item() < value(loss, quick).item()


@pytest.mark.parametrize("size", [(30,), (7, 8), (4, 5, 6)], ids=len)
def test_an_axis_of_one_sample_changes_nothing(
    size: tuple[int, ...], generator: torch.Generator
) -> None:
    guide, x = torch.rand(2, 1, 3, *size, generator=generator, dtype=torch.float64)
    expected = value(LocalAffineLoss(guide), x)
    for axis in range(2, guide.ndim + 1):
        longer = value(LocalAffineLoss(guide.unsqueeze(axis)), x.unsqueeze(axis))
        torch.testing.assert_close(longer, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("size", "tile", "pieces"),
    [
        ((131,), 4, 33),
        ((37, 45), 16, 9),
        ((33, 34), 16, 9),
        ((17, 18, 11), 8, 18),
        ((64, 1), 20, 4),
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_add_up(
    size: tuple[int, ...], tile: int, pieces: int, channels: int, generator: torch.Generator
) -> None:
    """Also where the last tile is shorter than a window."""
    net = VGG(
        VGG19.truncate(["relu2_1"]), spatial_dims=len(size), in_channels=channels,
        generator=generator,
    )  # fmt: skip
    objective, x = photo_objective(net, size, generator)
    assert_equal(objective, x, Tiler(tile=tile), 1e-10, pieces)


def photo_objective(
    net: VGG, size: Sequence[int], generator: torch.Generator
) -> tuple[Objective, Tensor]:
    """The local affine loss beside terms with a smaller overlap and with a network's halo."""
    shape = (1, net.in_channels, *size)
    x, content, style = torch.rand((3, *shape), generator=generator, dtype=torch.float64)
    precision = Precision(torch.float64)
    precision.apply(net)
    with torch.no_grad():
        target = STATISTICS["gram"].sums(net(style, ["relu2_1"])["relu2_1"])
    terms = [
        Term("local_affine", 2.0, LocalAffineLoss(content)),
        Term("smooth", 0.5, TotalVariationLoss([1.0] * len(size))),
        Term("style", 1.0, StyleLoss(target, layer="relu2_1")),
    ]
    return Objective(net, terms, precision=precision), x


def test_a_flat_content_and_wrong_arguments() -> None:
    flat = LocalAffineLoss(torch.full((1, 1, 12), 0.5))
    assert value(flat, torch.arange(12.0).view(1, 1, 12)).item() > 1
    assert value(flat, torch.full((1, 1, 12), 0.2)).item() == pytest.approx(0, abs=1e-12)
    with raises(ShapeError, operation="LocalAffineLoss", got="(1, 1, 11)"):
        flat.sums(torch.zeros(1, 1, 11))
    for arguments in ({"radius": 0}, {"ridge": 0.0}):
        with raises(UsageError, operation="LocalAffineLoss", got="radius"):
            LocalAffineLoss(torch.zeros(1, 1, 12), **arguments)


@pytest.mark.parametrize(("axes", "radius"), [(1, 4), (2, 1), (3, 1), (5, 1)])
def test_default_radius(axes: int, radius: int) -> None:
    assert default_radius((20,) * axes) == default_radius((20,) * axes + (1,)) == radius
