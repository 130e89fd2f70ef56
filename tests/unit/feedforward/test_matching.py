"""Closed forms that give features the statistics and the patches of a style."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from convnd.feedforward import StylePatches, monge_map
from convnd.stats import CovarianceStatistic


def summary(features: Tensor) -> Tensor:
    statistic = CovarianceStatistic()
    return statistic.summary(statistic.sums(features))[0]


def correlated(generator: torch.Generator, channels: int, *size: int) -> Tensor:
    mix = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    noise = torch.randn(1, channels, *size, generator=generator, dtype=torch.float64)
    return torch.einsum("dc,bc...->bd...", mix, noise) + mix.sum(1).view(1, -1, *[1] * len(size))


@pytest.mark.parametrize("size", [(400,), (20, 30), (8, 9, 10)])
def test_mapped_features_have_the_styles_mean_and_covariance(size: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    content, style = (correlated(generator, 5, *size) for _ in range(2))
    matched = monge_map(summary(content), summary(style), ridge=0.0)
    values, target = (np.asarray(x[0].flatten(1)) for x in (matched(content), style))
    np.testing.assert_allclose(values.mean(1), target.mean(1), rtol=1e-8, atol=1e-8)
    # The content's variances count as larger by what float32 may round.
    rounding = (
        torch.finfo(torch.float32).eps * content.mean((0, *range(2, content.ndim))).square().mean()
    )
    largest = float(rounding * torch.linalg.matrix_norm(matched.matrix, 2).square())
    np.testing.assert_allclose(
        np.cov(values, bias=True), np.cov(target, bias=True), rtol=0, atol=1.01 * largest + 1e-9
    )


def test_the_map_is_the_optimal_transport() -> None:
    # The gradient of a convex function (Brenier): its matrix is symmetric and has no negative
    # eigenvalue. Whitening and colouring has neither.
    generator = torch.Generator().manual_seed(1)
    content, style = (correlated(generator, 6, 500) for _ in range(2))
    matrix = monge_map(summary(content), summary(style), ridge=0.0).matrix
    torch.testing.assert_close(matrix, matrix.mT)
    assert torch.linalg.eigvalsh(matrix).min() > 0


def test_a_constant_content_is_amplified_no_more_than_the_ridge_allows() -> None:
    generator = torch.Generator().manual_seed(2)
    content = torch.zeros(1, 3, 50, dtype=torch.float64)
    content[:, 0] = torch.randn(50, generator=generator, dtype=torch.float64)
    style = correlated(generator, 3, 80)
    matched = monge_map(summary(content), summary(style), ridge=0.01)
    assert bool(torch.isfinite(matched(content)).all())
    variances = summary(style)[:, :-1].diagonal().sum(), summary(content)[:, :-1].diagonal().mean()
    assert torch.linalg.matrix_norm(matched.matrix, 2).square() <= variances[0] / (
        0.01 * variances[1]
    )


def test_rounding_of_a_nearly_constant_content_is_not_amplified() -> None:
    # Its covariance is the difference of two large sums, which float32 rounds: here below zero.
    style = summary(correlated(torch.Generator().manual_seed(5), 3, 80))
    rounding = 49 * torch.finfo(torch.float32).eps
    covariance = torch.diag(torch.tensor([0.1, 0.1, -1.0], dtype=torch.float64)) * rounding
    content = torch.cat([covariance, torch.full((3, 1), 7.0, dtype=torch.float64)], 1)
    matched = monge_map(content, style, ridge=0.01)
    largest = style[:, :-1].diagonal().sum() / rounding
    assert torch.linalg.matrix_norm(matched.matrix, 2).square() <= largest
    torch.testing.assert_close(matched(content[None, :, -1:])[0], style[:, -1:])


def test_a_style_finds_itself() -> None:
    generator = torch.Generator().manual_seed(3)
    features = {
        "fine": torch.randn(1, 2, 13, 8, generator=generator),
        "deep": torch.randn(1, 7, 3, 2, generator=generator),
    }
    patches = StylePatches.cut(features, "deep", {"fine": 4, "deep": 1})
    found = patches.nearest(features["deep"])
    torch.testing.assert_close(found["deep"], features["deep"], rtol=0, atol=0)
    fine = features["fine"][:, :, :12].numpy()
    for row in range(3):
        for column in range(2):
            window = (..., slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
            expected = fine[window] - fine[window].mean((2, 3), keepdims=True)
            np.testing.assert_allclose(found["fine"].numpy()[window], expected, atol=1e-6)


def test_the_nearest_position_is_found() -> None:
    generator = torch.Generator().manual_seed(4)
    deep, queries = (torch.randn(1, 5, *size, generator=generator) for size in ((6, 7), (4, 3)))
    nearest = StylePatches.cut({"deep": deep}, "deep", {"deep": 1}).nearest(queries)["deep"]
    keys = deep.flatten(2)[0].T.numpy()
    for row in range(4):
        for column in range(3):
            query = queries[0, :, row, column].numpy()
            best = keys[np.square(keys - query).sum(1).argmin()]
            np.testing.assert_array_equal(nearest[0, :, row, column].numpy(), best)


def test_patches_of_several_parts_are_all_used() -> None:
    parts = [StylePatches("deep", {"deep": torch.full((3, 1, 1), value)}) for value in (0.0, 5.0)]
    joined = StylePatches.join(parts)
    assert joined.nearest(torch.tensor([[[1.0, 4.0]]]))["deep"].tolist() == [[[0.0, 5.0]]]
    assert len(joined.every(2).blocks["deep"]) == 3
