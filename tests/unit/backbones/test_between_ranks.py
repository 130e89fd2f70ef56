"""Weights of one rank as weights of another: what stays the same, and what exactly does not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from error_fields import raises
from rounding import network_rounding
from scipy import ndimage

from convnd.backbones import (
    INFLATIONS,
    VGG,
    VGG16,
    VGG19,
    VGGPlan,
    change_in_channels,
    change_rank,
    load,
)
from convnd.errors import UsageError
from convnd.nn import conv_nd

PAIRS = [(1, 2), (1, 3), (2, 3), (2, 4), (3, 4)]
# Which axes the kernels of 7 output channels lie in, written out.
PLANES: dict[tuple[int, int], Sequence[tuple[int, ...]]] = {
    (1, 2): [(0,)] * 4 + [(1,)] * 3,
    (1, 3): [(0,)] * 3 + [(1,)] * 2 + [(2,)] * 2,
    (2, 3): [(0, 1)] * 3 + [(0, 2)] * 2 + [(1, 2)] * 2,
    (2, 4): [(0, 1), (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)],
    (3, 4): [(0, 1, 2)] * 2 + [(0, 1, 3)] * 2 + [(0, 2, 3)] * 2 + [(1, 2, 3)],
}
NARROW = VGGPlan(widths=((7, 6), (8,)), projections={"relu1_2": 4})


def inflated(net: VGG, spatial_dims: int, how: str) -> VGG:
    """The network at another rank, each weight by `change_rank`."""
    other = VGG(net.plan, spatial_dims=spatial_dims, in_channels=net.in_channels)
    state = {
        key: change_rank(value, spatial_dims, how) if key.endswith("weight") else value
        for key, value in net.state_dict().items()
    }
    other.load_state_dict(state)
    return other.double()


@pytest.fixture
def net(generator: torch.Generator) -> VGG:
    net = VGG(NARROW, spatial_dims=2, in_channels=2, generator=generator).double()
    for name, value in net.state_dict().items():
        if name.endswith("bias"):
            value.copy_(torch.rand(value.shape, generator=generator))
    return net


@pytest.mark.parametrize(("low", "high"), PAIRS)
def test_acs_is_a_thin_kernel_in_one_plane_per_channel(
    low: int, high: int, rng: np.random.Generator
) -> None:
    x = rng.normal(size=(2, *range(5, 5 + high)))
    weight = rng.normal(size=(7, 2, *[3] * low))
    thick = change_rank(torch.from_numpy(weight), high, "acs")
    result = conv_nd(torch.from_numpy(x)[None], thick, padding=1)[0].numpy()
    for channel, plane in enumerate(PLANES[low, high]):
        thin = [3 if axis in plane else 1 for axis in range(high)]
        expected = sum(
            ndimage.correlate(x[c], weight[channel, c].reshape(thin), mode="constant")
            for c in range(2)
        )
        np.testing.assert_allclose(result[channel], expected, atol=1e-12)


@pytest.mark.parametrize("how", ["mean", "centre"])
@pytest.mark.parametrize(("low", "high"), PAIRS)
def test_a_field_constant_along_new_axes_gives_the_lower_ranks_answer(
    low: int, high: int, how: str, rng: np.random.Generator
) -> None:
    x = torch.from_numpy(rng.normal(size=(1, 2, *range(5, 5 + low))))
    weight = torch.from_numpy(rng.normal(size=(7, 2, *[3] * low)))
    new = high - low
    field = x.view(1, 2, *[1] * new, *x.shape[2:]).expand(-1, -1, *[5] * new, *x.shape[2:])
    answer = conv_nd(field, change_rank(weight, high, how), padding=1)
    place: Any = (slice(None), slice(None), *[2] * new)
    middle = answer[place]
    torch.testing.assert_close(middle, conv_nd(x, weight, padding=1))


@pytest.mark.parametrize(("low", "high"), PAIRS)
def test_acs_on_a_field_constant_along_any_axis(
    low: int, high: int, rng: np.random.Generator
) -> None:
    """Channels whose plane leaves the axis out see their own kernel; the others its sum."""
    weight = rng.normal(size=(7, 1, *[3] * low))
    thick = change_rank(torch.from_numpy(weight), high, "acs")
    for axis in range(high):
        flat = rng.normal(size=[5] * (high - 1))
        field = np.repeat(np.expand_dims(flat, axis), 5, axis)
        answer = conv_nd(torch.from_numpy(field)[None, None], thick, padding=1)[0].numpy()
        left = [other_axis for other_axis in range(high) if other_axis != axis]
        for channel, plane in enumerate(PLANES[low, high]):
            kernel = weight[channel, 0]
            if axis in plane:
                kernel = kernel.sum(plane.index(axis))
            thin = [3 if other_axis in plane else 1 for other_axis in left]
            expected = ndimage.correlate(flat, kernel.reshape(thin), mode="constant")
            middle = np.take(answer[channel], 2, axis)
            np.testing.assert_allclose(middle, expected, atol=1e-12)


@pytest.mark.parametrize("how", INFLATIONS)
@pytest.mark.parametrize(("rank", "axis"), [(2, 0), (3, 0), (3, 2), (4, 1)])
def test_a_network_on_a_constant_field_is_the_one_summed_along_it(
    net: VGG, how: str, rank: int, axis: int, generator: torch.Generator
) -> None:
    layers = ["relu1_2", "relu2_1"]
    thick = inflated(net, rank, how)
    summed = VGG(net.plan, spatial_dims=rank - 1, in_channels=2).double()
    summed.load_state_dict(
        {
            key: value.sum(axis + 2) if key.startswith("conv") and value.ndim > 1 else value
            for key, value in thick.state_dict().items()
            if not key.startswith("projections")
        },
        strict=False,
    )
    for name, tap in net.state_dict().items():  # one wide: nothing to sum
        if name.startswith("projections"):
            summed.state_dict()[name].copy_(tap.view(*tap.shape[:2], *[1] * (rank - 1)))
    x = torch.rand(1, 2, *[4] * (rank - 1), generator=generator).double()
    field = x.unsqueeze(axis + 2).expand(*x.shape[: axis + 2], 12, *x.shape[axis + 2 :])
    thick_features, expected = thick(field, layers), summed(x, layers)
    for name in layers:
        middle = thick_features[name].select(axis + 2, thick_features[name].shape[axis + 2] // 2)
        torch.testing.assert_close(middle, expected[name])
    if axis == 0 and how != "acs" and rank == 3:
        for name, features in net(x, layers).items():
            # Kernels are inflated, thus rounded, in float32.
            atol = network_rounding(net) * features.abs().max().item()
            torch.testing.assert_close(expected[name], features, rtol=0, atol=atol)


def test_taps_are_the_same_matrix_at_every_rank(net: VGG) -> None:
    tap = net.state_dict()["projections.relu1_2.weight"]
    for rank in (1, 2, 3, 4):
        for how in INFLATIONS:
            assert change_rank(tap, rank, how).flatten().tolist() == tap.flatten().tolist()


@pytest.mark.parametrize("how", INFLATIONS)
def test_down_again_is_where_it_came_from(how: str, rng: np.random.Generator) -> None:
    weight = torch.from_numpy(rng.normal(size=(6, 2, 3, 3)))
    if how != "acs":
        torch.testing.assert_close(change_rank(change_rank(weight, 4, how), 2), weight)
    # The sum over all taps is what a constant field gives, whatever the rank.
    sums = weight.flatten(2).sum(2)
    for rank in (1, 3, 4):
        torch.testing.assert_close(change_rank(weight, rank, how).flatten(2).sum(2), sums)


@pytest.mark.parametrize("plan", [VGG16, VGG19], ids=["vgg16", "vgg19"])
@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_tables_of_parameters(plan: VGGPlan, rank: int) -> None:
    with torch.device("meta"):
        net = VGG(plan, spatial_dims=rank, in_channels=1)
    inputs = [1, *[width for block in plan.widths for width in block]]
    expected = [a * b * 3**rank + b for a, b in itertools.pairwise(inputs)]
    assert list(plan.parameters(rank, 1).values()) == expected
    assert sum(parameter.numel() for parameter in net.parameters()) == sum(expected)


@pytest.mark.parametrize("how", INFLATIONS)
@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_tables_of_fields(how: str, rank: int, generator: torch.Generator) -> None:
    plan = VGGPlan(widths=((6,), (6,)))
    plane = VGG(plan, in_channels=1, generator=generator)
    for value in plane.state_dict().values():
        value.abs_()
    other = VGG(plan, spatial_dims=rank, in_channels=1, pooling="avg")
    other.load_state_dict(
        {
            key: change_rank(value, rank, how) if key.endswith("weight") else value
            for key, value in plane.state_dict().items()
        }
    )
    x = torch.rand(1, 1, *[14] * rank, generator=generator).requires_grad_()
    position = (3,) * rank
    features = other(x, ["relu2_1"])["relu2_1"]
    # With acs no single channel looks along every axis; all of them together do.
    (gradient,) = torch.autograd.grad(features[(0, slice(None), *position)].sum(), x)
    live = gradient[0, 0].nonzero()
    # Two taps of 3 around a pooling over 2: 8 samples wide, from 2 k - 3.

    for axis in range(rank):
        low, high = int(live[:, axis].min()), int(live[:, axis].max())
        new = how == "centre" and axis < rank - 2
        assert (low, high) == ((6, 7) if new else (3, 10)), axis
        window = other.receptive_fields["relu2_1"].region(position, x.shape[2:])[axis]
        assert window.start <= low
        assert window.stop > high
        if not new:
            assert (window.start, window.stop) == (low, high + 1)


@pytest.mark.parametrize("how", INFLATIONS)
def test_pretrained_features_in_four_axes(how: str) -> None:
    net = load("vgg19", spatial_dims=4, in_channels=1, layers=["relu2_1"], inflation=how)
    features = net(torch.rand(1, 1, 4, 4, 6, 4), ["relu2_1"])["relu2_1"]
    assert features.shape == (1, 128, 2, 2, 3, 2)
    assert bool(torch.isfinite(features).all())
    assert features.max() > 0


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
@pytest.mark.parametrize("how", INFLATIONS)
def test_grey_weights_at_every_rank(rank: int, how: str, rng: np.random.Generator) -> None:
    """One channel through the converted weights is three alike through the original's."""
    weight = change_rank(torch.from_numpy(rng.normal(size=(5, 3, 3, 3))), rank, how)
    state = {
        "mean": torch.from_numpy(rng.normal(size=3)),
        "c.weight": weight,
        "c.bias": torch.from_numpy(rng.normal(size=5)),
    }
    grey = change_in_channels(state, "c", 1)
    x = torch.from_numpy(rng.normal(size=(1, 1, *[5] * rank)))

    def answer(weights: dict[str, torch.Tensor], values: torch.Tensor) -> torch.Tensor:
        centred = values - weights["mean"].view(-1, *[1] * rank)
        return conv_nd(centred, weights["c.weight"], weights["c.bias"])

    three = x.expand(-1, 3, *x.shape[2:])
    torch.testing.assert_close(answer(grey, x), answer(state, three))
    assert math.prod(grey["c.weight"].shape) * 3 == math.prod(weight.shape)


def test_errors() -> None:
    with raises(UsageError, operation="inflation", got="'no'"):
        change_rank(torch.rand(1, 1, 3), 2, "no")
    with raises(UsageError, operation="change_rank", got="3x5"):
        change_rank(torch.rand(1, 1, 3, 5), 3, "acs")
