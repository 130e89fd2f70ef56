from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from error_fields import raises

from convnd.errors import ShapeError, UnknownNameError, UsageError
from convnd.stats import (
    STATISTICS,
    AutocorrelationStatistic,
    LinearlyMappable,
    ProjectedStatistic,
    Sums,
    blend,
    gram_matrix,
)

NDIMS = [1, 2, 3, 4]


def gram_by_loops(values: np.ndarray) -> np.ndarray:
    """The notes' sum, one position after the other."""
    batch, channels = values.shape[:2]
    result = np.zeros((batch, channels, channels))
    for position in itertools.product(*map(range, values.shape[2:])):
        place: Any = (slice(None), slice(None), *position)
        features = values[place]
        for one, k, other in itertools.product(range(batch), range(channels), range(channels)):
            result[one, k, other] += features[one, k] * features[one, other]
    return result


@pytest.mark.parametrize("ndim", NDIMS)
def test_gram_is_the_notes_sum(ndim: int, rng: np.random.Generator) -> None:
    values = rng.normal(size=(2, 3, *[4] * ndim))
    gram = gram_matrix(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(gram, gram_by_loops(values), rtol=1e-12)


def test_gram_by_hand() -> None:
    # Channel 0 is (1, 2), channel 1 is (3, 4): 1+4, 3+8, 9+16.
    features = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert gram_matrix(features).tolist() == [[[5.0, 11.0], [11.0, 25.0]]]


@pytest.mark.parametrize("ndim", NDIMS)
def test_gram_gradient(ndim: int, generator: torch.Generator) -> None:
    x = torch.randn(2, 3, *[3] * ndim, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(gram_matrix, x.requires_grad_())


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((1, 5, 6, 7), torch.channels_last), ((1, 5, 3, 4, 5), torch.channels_last_3d)],
)
def test_gram_and_gradient_do_not_depend_on_layout(
    shape: tuple[int, ...], layout: torch.memory_format, generator: torch.Generator
) -> None:
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    weights = torch.randn(1, 5, 5, generator=generator, dtype=torch.float64)
    results = []
    for features in (x, x.contiguous(memory_format=layout)):
        leaf = features.clone(memory_format=torch.preserve_format).requires_grad_()
        gram = gram_matrix(leaf)
        (gradient,) = torch.autograd.grad((gram * weights).sum(), leaf)
        results.append((gram, gradient))
        assert gradient.stride() == features.stride()
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1000, 10_000])
def test_bfloat16_products_are_summed_in_float32(count: int, generator: torch.Generator) -> None:
    features = torch.rand(1, 4, count, generator=generator).bfloat16()
    exact = gram_matrix(features.double())
    gram = gram_matrix(features)
    assert gram.dtype == torch.float32
    # One rounding to 8 bits is up to 2⁻⁸; chunks bring the sum's well below that.
    torch.testing.assert_close(gram.double(), exact, rtol=2**-8 if count < 640 else 1e-3, atol=0)


@pytest.mark.parametrize("name", list(STATISTICS))
@pytest.mark.parametrize("ndim", NDIMS)
class TestEveryStatistic:
    def features(self, ndim: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(ndim)
        return torch.randn(2, 3, *[4] * ndim, generator=generator, dtype=torch.float64)

    def test_sums_of_tiles_add_up(self, name: str, ndim: int) -> None:
        if getattr(STATISTICS[name], "overlap", 0):
            pytest.skip("looks at neighbours; tested with its tiles in test_signals.py")
        x = self.features(ndim)
        whole = STATISTICS[name].sums(x)
        tiles = STATISTICS[name].sums(x[:, :, :1]) + STATISTICS[name].sums(x[:, :, 1:])
        assert tiles.count == whole.count == 4**ndim
        torch.testing.assert_close(tiles.total, whole.total)

    def test_positions_are_forgotten(self, name: str, ndim: int) -> None:
        if getattr(STATISTICS[name], "overlap", 0):
            pytest.skip("looks at neighbours; tested with its tiles in test_signals.py")
        x = self.features(ndim)
        order = torch.randperm(4**ndim, generator=torch.Generator().manual_seed(1))
        mixed = x.flatten(2)[:, :, order].view(x.shape)
        one, other = (STATISTICS[name].sums(values).total for values in (x, mixed))
        torch.testing.assert_close(one, other)

    def test_a_length_one_axis_changes_nothing(self, name: str, ndim: int) -> None:
        x, statistic = self.features(ndim), STATISTICS[name]
        one, other = (statistic.summary(statistic.sums(values)) for values in (x[..., None], x))
        torch.testing.assert_close(one, other)

    def test_summary_does_not_depend_on_size(self, name: str, ndim: int) -> None:
        if getattr(STATISTICS[name], "overlap", 0):
            pytest.skip("looks at neighbours; tested with its tiles in test_signals.py")
        x = self.features(ndim)
        statistic = STATISTICS[name]
        twice = torch.cat([x, x], 2)
        torch.testing.assert_close(
            statistic.summary(statistic.sums(twice)), statistic.summary(statistic.sums(x))
        )

    def test_gradient(self, name: str, ndim: int) -> None:
        statistic = STATISTICS[name]
        x = self.features(ndim)[:1, :2, :2].requires_grad_()
        weights = torch.randn(
            statistic.summary(statistic.sums(x)).shape, generator=torch.Generator().manual_seed(1)
        ).double()  # one sum of all outputs, for each output costs a pass of its own

        def weighted(features: torch.Tensor) -> torch.Tensor:
            return (weights * statistic.summary(statistic.sums(features))).sum()

        # Of many axes, one direction that is drawn stands for every element.
        assert torch.autograd.gradcheck(weighted, x, fast_mode=ndim > 2)


def test_moments_are_mean_and_variance(rng: np.random.Generator) -> None:
    values = rng.normal(2, 3, size=(1, 3, 5, 6))
    statistic = STATISTICS["moments"]
    mean, variance = statistic.summary(statistic.sums(torch.from_numpy(values)))[0].numpy()
    np.testing.assert_allclose(mean, values.mean((0, 2, 3)))
    np.testing.assert_allclose(variance, values.var((0, 2, 3)))


def test_covariance_is_numpys(rng: np.random.Generator) -> None:
    values = rng.normal(2, 3, size=(1, 3, 5, 6))
    statistic = STATISTICS["covariance"]
    summary = statistic.summary(statistic.sums(torch.from_numpy(values)))[0].numpy()
    np.testing.assert_allclose(summary[:, :3], np.cov(values[0].reshape(3, -1), bias=True))
    np.testing.assert_allclose(summary[:, 3], values.mean((0, 2, 3)))


@pytest.mark.parametrize(
    "name", [n for n in STATISTICS if isinstance(STATISTICS[n], LinearlyMappable)]
)
@pytest.mark.parametrize("ndim", NDIMS)
def test_sums_follow_a_map_of_the_channels(name: str, ndim: int, rng: np.random.Generator) -> None:
    values, matrix = rng.normal(1, 2, size=(2, 3, *[4] * ndim)), rng.normal(size=(5, 3))
    statistic = STATISTICS[name]
    sums = ProjectedStatistic(statistic, torch.from_numpy(matrix)).sums(torch.from_numpy(values))
    mapped = torch.from_numpy(np.einsum("oc,bc...->bo...", matrix, values))
    torch.testing.assert_close(sums.total, statistic.sums(mapped).total)
    assert sums.count == 4**ndim


def test_a_blend_of_one_is_that_one(rng: np.random.Generator) -> None:
    """Also where there are fewer pairs than half of the positions."""
    statistic = AutocorrelationStatistic(lags=8)
    sums = statistic.sums(torch.from_numpy(rng.normal(size=(1, 1, 9, 9))))
    torch.testing.assert_close(statistic.summary(blend([sums], [1])), statistic.summary(sums))


def test_blend_weighs_fields_not_sizes() -> None:
    large, small = Sums(torch.tensor([6.0]), 3), Sums(torch.tensor([4.0]), 1)
    assert blend([large, small], [1, 1]).total.item() == 3.0  # (6/3 + 4/1) / 2
    assert blend([large, small], [3, 1]).total.item() == 2.5
    assert blend([large], [7]).total.item() == 2.0


def test_errors() -> None:
    part = Sums(torch.ones(1), 1)
    with raises(UsageError, operation="ProjectedStatistic", expected="a statistic that follows"):
        ProjectedStatistic(STATISTICS["moments"], torch.ones(1, 1))
    with raises(ShapeError, operation="gram_matrix", got="shape (2, 2)"):
        gram_matrix(torch.ones(2, 2))
    with raises(ShapeError, operation="blend", expected="2 styles", got="1"):
        blend([part, part], [1])
    with raises(UsageError, operation="blend", expected="positive sum") as caught:
        blend([part, part], [0, 0])
    assert type(caught.value) is UsageError
    with raises(UsageError, operation="blend", expected="at least 0"):
        blend([part, part], [2, -1])
    with raises(UnknownNameError, operation="statistic", got="'grams'", remedy="'gram'"):
        STATISTICS["grams"]


@pytest.mark.parametrize("shape", [(1, 2, 64, 64), (2, 3, 45, 50)])
def test_half_precision_does_not_overflow(shape: tuple[int, ...]) -> None:
    """The sums exceed 65504, the largest number of float16."""
    features = (30 + torch.rand(shape)).half()
    flat = features.double().flatten(2)
    result = gram_matrix(features)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), flat @ flat.mT, rtol=1e-4, atol=0)
