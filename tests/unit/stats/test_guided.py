"""Statistics of a part of the positions, and guides of layers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from error_fields import raises

from convnd.errors import ShapeError
from convnd.losses import StyleLoss
from convnd.shapes import ReceptiveField
from convnd.stats import (
    STATISTICS,
    AutocorrelationStatistic,
    GuidedStatistic,
    Sums,
    gram_matrix,
    layer_guide,
)

SIZES = [(23,), (9, 7), (5, 4, 6), (3, 2, 4, 3), (9, 1, 7)]
POINTWISE = ("gram", "moments", "covariance", "distribution")


def fields(size: tuple[int, ...], rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Features ``(2, 3, *size)`` and weights ``(1, 1, *size)``, some of them 0."""
    weight = rng.random((1, 1, *size)) * (rng.random((1, 1, *size)) > 0.4)
    return torch.from_numpy(rng.standard_normal((2, 3, *size))), torch.from_numpy(weight)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("innermost", [False, True])
def test_a_gram_matrix_weighs_positions(
    size: tuple[int, ...], innermost: bool, rng: np.random.Generator
) -> None:
    features, weight = fields(size, rng)
    if innermost:
        features = features.movedim(1, -1).contiguous().movedim(-1, 1)
    features.requires_grad_()
    flat, shares = features.detach().numpy().reshape(2, 3, -1), weight.numpy().reshape(-1)
    expected = np.einsum("bip,bjp,p->bij", flat, flat, shares)
    result = gram_matrix(features, weight)
    np.testing.assert_allclose(result.detach().numpy(), expected, rtol=1e-12, atol=1e-12)
    direction = rng.standard_normal((2, 3, 3))
    (gradient,) = torch.autograd.grad((result * torch.from_numpy(direction)).sum(), features)
    by_hand = np.einsum("bij,bjp,p->bip", direction + direction.swapaxes(1, 2), flat, shares)
    np.testing.assert_allclose(gradient.numpy().reshape(2, 3, -1), by_hand, rtol=1e-12, atol=1e-12)


def test_products_in_bfloat16_are_summed_in_float32(rng: np.random.Generator) -> None:
    features, weight = fields((90, 80), rng)
    narrow = features.to(torch.bfloat16)
    exact = gram_matrix(narrow.double(), weight)
    result = gram_matrix(narrow, weight.float())
    assert result.dtype == torch.float32
    # Each factor is rounded once more by the root of its weight, to 8 bits.
    scale = gram_matrix(narrow.double().abs(), weight)
    assert ((result - exact).abs() <= scale * 2**-7).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", POINTWISE)
def test_regions_add_up_to_the_whole(
    name: str, size: tuple[int, ...], rng: np.random.Generator
) -> None:
    features, weight = fields(size, rng)
    statistic = STATISTICS[name]
    parts = [GuidedStatistic(statistic, share).sums(features) for share in (weight, 1 - weight)]
    whole = statistic.sums(features)
    total = parts[0] + parts[1]
    torch.testing.assert_close(total.total, whole.total, rtol=1e-11, atol=1e-11)
    assert total.count == pytest.approx(whole.count, rel=1e-12)


@pytest.mark.parametrize("name", POINTWISE)
def test_a_region_of_whole_positions_is_those_positions(
    name: str, rng: np.random.Generator
) -> None:
    features, _ = fields((40,), rng)
    inside = torch.from_numpy(rng.random(40) > 0.5)
    guided = GuidedStatistic(STATISTICS[name], inside.double()[None, None])
    alone = STATISTICS[name].sums(features[..., inside])
    sums = guided.sums(features)
    torch.testing.assert_close(sums.total, alone.total, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        guided.summary(sums), STATISTICS[name].summary(alone), rtol=1e-11, atol=1e-11
    )


def test_autocovariances_are_those_of_pairs_inside(rng: np.random.Generator) -> None:
    values, weight = rng.standard_normal((1, 1, 60)), (rng.random((1, 1, 60)) > 0.3) * 1.0
    statistic = AutocorrelationStatistic(lags=20)  # more than direct products serve
    guided = GuidedStatistic(statistic, torch.from_numpy(weight))
    summary = guided.summary(guided.sums(torch.from_numpy(values))).flatten().numpy()
    line, inside = values.ravel(), weight.ravel()
    mean = line[inside > 0].mean()
    for lag in range(21):
        pairs = [
            line[p] * line[p + lag] for p in range(60 - lag) if inside[p] * inside[p + lag] > 0
        ]
        assert summary[lag] == pytest.approx(np.mean(pairs) - mean**2, rel=1e-9, abs=1e-9)


def test_lags_without_a_pair_inside_are_0() -> None:
    weight = torch.zeros(1, 1, 500)
    weight[..., 100:150] = 1
    statistic = AutocorrelationStatistic(lags=100)
    guided = GuidedStatistic(statistic, weight)
    values = torch.randn(1, 1, 500, generator=torch.Generator().manual_seed(1))
    assert not guided.summary(guided.sums(values)).flatten()[50:].any()


@pytest.mark.parametrize("name", STATISTICS)
def test_each_item_has_a_region_of_its_own(name: str, rng: np.random.Generator) -> None:
    features, _ = fields((30,), rng)
    guides = torch.zeros(2, 1, 30, dtype=torch.float64)
    guides[0, :, :12], guides[1, :, 5:] = 1, 1
    guided = GuidedStatistic(STATISTICS[name], guides)
    summary = guided.summary(guided.sums(features))
    for item in range(2):
        alone = GuidedStatistic(STATISTICS[name], guides[item : item + 1])
        expected = alone.summary(alone.sums(features[item : item + 1]))[0]
        torch.testing.assert_close(summary[item], expected, rtol=1e-8, atol=1e-8)


def test_an_item_outside_of_the_region_has_no_loss(rng: np.random.Generator) -> None:
    features, _ = fields((30,), rng)
    features.requires_grad_()
    guides = torch.zeros(2, 1, 30, dtype=torch.float64)
    guides[0, :, :12] = 1
    target = STATISTICS["gram"].sums(torch.ones(1, 3, 4, dtype=torch.float64))
    loss = StyleLoss(target, layer="relu1_1", guide=guides)
    value = loss.value(loss.sums(features))
    (gradient,) = torch.autograd.grad(value, features)
    assert gradient[0, :, :12].abs().min() > 0
    assert not gradient[1].any()
    assert not gradient[0, :, 12:].any()
    alone = StyleLoss(target, layer="relu1_1", guide=guides[:1])
    # The balanced loss is a mean over the items that have the region.
    assert value.item() == pytest.approx(alone.value(alone.sums(features[:1])).item())


def brute_force(share: np.ndarray, field: ReceptiveField) -> np.ndarray:
    """The share of each position in a region, sample by sample."""
    counts = [math.ceil(n / int(step)) for n, step in zip(share.shape, field.stride, strict=True)]
    result = np.zeros(counts)
    for position in itertools.product(*map(range, counts)):
        inside = total = 0.0
        for sample in itertools.product(*map(range, share.shape)):
            weight = 1.0
            for axis, (k, p) in enumerate(zip(position, sample, strict=True)):
                size = int(field.size[axis])
                place = p - (int(field.offset[axis]) + k * int(field.stride[axis]))
                weight *= min(place + 1, size - place) if 0 <= place < size else 0
            inside += weight * share[sample]
            total += weight
        result[position] = inside / total
    return result


@pytest.mark.parametrize("size", [(17,), (9, 11), (6, 1, 5)])
@pytest.mark.parametrize(("extent", "stride", "offset"), [(1, 1, 0), (5, 2, -1), (8, 4, -2)])
def test_a_guide_is_the_share_of_each_receptive_field(
    size: tuple[int, ...], extent: int, stride: int, offset: int, rng: np.random.Generator
) -> None:
    ndim = len(size)
    field = ReceptiveField((extent,) * ndim, (stride,) * ndim, (offset,) * ndim)
    share = (rng.random(size) > 0.5) * 1.0
    guide = layer_guide(torch.from_numpy(share)[None, None], field, erode=False)
    expected = brute_force(share, field)
    np.testing.assert_allclose(guide[0, 0].numpy(), expected, atol=1e-6)
    eroded = layer_guide(torch.from_numpy(share)[None, None], field)
    remaining = np.maximum(2 * expected - 1, 0)
    whole_windows = tuple(slice(max(1, n // stride)) for n in size)
    remains = remaining[whole_windows].any()
    np.testing.assert_allclose(eroded[0, 0].numpy(), remaining if remains else expected, atol=2e-6)


def test_a_region_smaller_than_the_receptive_field_is_not_eroded_away() -> None:
    share = torch.zeros(2, 1, 40)
    share[0, :, 20], share[1, :, 5:35] = 1, 1
    guide = layer_guide(share, ReceptiveField((11,), (1,), (-5,)))
    assert guide[0].max() == pytest.approx(6 / 36)
    assert guide[1].max() == 1
    assert guide[1, 0, 5] == pytest.approx(2 * 21 / 36 - 1)


def test_a_guide_that_is_too_short() -> None:
    guided = GuidedStatistic(STATISTICS["gram"], torch.ones(1, 1, 4))
    with raises(ShapeError, expected="5", got="4"):
        guided.sums(torch.ones(1, 2, 5))


def test_nothing_has_a_summary_of_zeros() -> None:
    guided = GuidedStatistic(STATISTICS["gram"], torch.zeros(1, 1, 4))
    assert not guided.summary(guided.sums(torch.ones(1, 2, 4))).any()
    assert isinstance(guided.sums(torch.ones(1, 2, 4)), Sums)


def test_a_region_that_only_a_last_incomplete_window_sees_is_not_eroded() -> None:
    # Four poolings leave 3 positions of 55 samples; the guide has 4.
    field = ReceptiveField((156,), (16,), (-70,))
    share = torch.zeros(1, 1, 55)
    share[..., 33:] = 1
    guide = layer_guide(share, field)
    assert guide.shape == (1, 1, 4)
    assert (guide[..., :3] > 0).any()
