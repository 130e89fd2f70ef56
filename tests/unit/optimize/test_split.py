"""A network split in two, each part in its own tiles, against evaluation in one piece."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from rounding import network_rounding
from tiles import LAYERS, assert_equal, objective_for

from convnd.backbones import VGG, VGG19, load
from convnd.optimize import Tiler


def network(ndim: int, generator: torch.Generator, pooling: str = "max") -> VGG:
    plan = VGG19.truncate(LAYERS)
    narrow = dataclasses.replace(plan, widths=tuple((4,) * len(block) for block in plan.widths))
    return VGG(narrow, spatial_dims=ndim, in_channels=2, pooling=pooling, generator=generator)


@pytest.mark.parametrize(
    ("size", "tile", "deep", "pooling"),
    [
        ((131,), 4, None, "max"),
        pytest.param((130,), 32, 6, "avg", marks=pytest.mark.slow),
        ((37, 45), 16, None, "max"),
        pytest.param((37, 45), 8, 4, "avg", marks=pytest.mark.slow),
        ((64, 1), 20, 8, "max"),
        ((21, 18, 17), 8, 4, "max"),
        ((20, 1, 17), 8, 2, "avg"),
        pytest.param((9, 10, 8, 11), 4, None, "max", marks=pytest.mark.slow),
        ((9, 10, 2, 11), 4, 4, "max"),
    ],
)
def test_split(
    size: tuple[int, ...], tile: int, deep: int | None, pooling: str, generator: torch.Generator
) -> None:
    layers = LAYERS if 2 not in size else LAYERS[:2]
    net = network(len(size), generator, pooling)
    assert net.split_at(LAYERS, size) is not None
    objective, x = objective_for(net, layers, size, generator)
    assert_equal(objective, x, Tiler(tile=tile, deep_tiler=Tiler(tile=deep)), 1e-10)


@pytest.mark.parametrize("size", [(1000,), (90, 75), (20, 22, 19)])
def test_float32(size: tuple[int, ...], generator: torch.Generator) -> None:
    net = network(len(size), generator)
    objective, x = objective_for(net, LAYERS, size, generator, torch.float32)
    # A Gram matrix is of degree two in features, and a style loss in differences of them.
    assert_equal(objective, x, Tiler(tile=16, deep_tiler=Tiler()), 4 * network_rounding(net))


@pytest.mark.slow
def test_the_shipped_network(generator: torch.Generator) -> None:
    """With projections, and with a layer that is computed at the cut itself."""
    layers = ("relu1_1", "relu3_1", "pool3", "relu4_1", "relu5_1")
    net = load("compact", in_channels=2, layers=layers)
    cut = net.split_at(layers, (170, 90))
    assert cut is not None
    assert cut[0] == "pool3"
    objective, x = objective_for(net, layers, (170, 90), generator)
    assert_equal(objective, x, Tiler(tile=48, deep_tiler=Tiler(tile=8)), 1e-10)


def test_features_behind_the_cut_are_those_of_the_network(generator: torch.Generator) -> None:
    net = network(2, generator)
    x = torch.rand(1, 2, 30, 50, generator=generator)
    cut = net.split_at(LAYERS, (30, 50))
    assert cut is not None
    name, rest = cut
    behind = [layer for layer in LAYERS if layer in rest.layers]
    assert behind == ["relu2_1", "relu3_1"]
    features = rest(net(x, [name])[name], behind)
    for layer, expected in net(x, behind).items():
        assert features[layer].equal(expected)
    assert net.split_at(["relu1_1"], (30, 50)) is None
