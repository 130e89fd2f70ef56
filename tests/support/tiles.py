"""Objectives with every kind of term, and the comparison of tiles with one piece."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from convnd.backbones import Backbone, Precision
from convnd.losses import (
    INPUT,
    ContentLoss,
    Objective,
    StyleLoss,
    Term,
    TotalVariationLoss,
    Window,
    tile_shape,
)
from convnd.optimize import TiledEvaluation, Tiler, evaluate_whole
from convnd.stats import STATISTICS, Sums

__all__ = ["ALL", "LAYERS", "Difference", "assert_equal", "objective_for"]

LAYERS = ("relu1_1", "relu2_1", "relu3_1")
ALL = ("gram", "moments", "covariance")


class Difference:
    """A windowed, weighted squared difference of the iterate: what a temporal term is."""

    layer = INPUT
    additive = True
    linear = True
    overlap = 0

    def __init__(self, target: Tensor, weight: Tensor) -> None:
        self.target, self.weight = target, weight

    def sums(self, features: Tensor, window: Window | None = None) -> Sums:
        place = (..., *(window or [slice(None)]))
        difference = (features - self.target[place]).square() * self.weight[place]  # type: ignore[index]
        return Sums(difference.sum(), math.prod(tile_shape(features, window)))

    def value(self, sums: Sums) -> Tensor:
        return sums.total / sums.count


def objective_for(
    net: Backbone,
    layers: Sequence[str],
    size: Sequence[int],
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
    normalization: str = "balanced",
) -> tuple[Objective, Tensor]:
    """Every kind of term on every layer, and an iterate."""
    shape = (2, net.in_channels, *size)
    x, content, style = torch.rand((3, *shape), generator=generator, dtype=dtype)
    Precision(dtype).apply(net)
    with torch.no_grad():
        contents, targets = net(content, layers), net(style, layers)
    terms = [
        Term("content", 1.0, ContentLoss(contents[name], layer=name, normalization=normalization))
        for name in layers
    ]
    for name, statistic in itertools.product(layers, ALL):
        target = STATISTICS[statistic].sums(targets[name])
        loss = StyleLoss(
            target,
            layer=name,
            statistic=statistic,
            normalization=normalization if statistic == "gram" else "balanced",
        )
        terms.append(Term("style", 3.0, loss))
    for name in layers:
        guide = torch.rand((2, 1, *targets[name].shape[2:]), generator=generator, dtype=dtype)
        guide = guide.where(guide > 0.4, 0.0)
        guided_sums = STATISTICS["gram"].sums(targets[name], weight=guide)
        guided_loss = StyleLoss(guided_sums, layer=name, normalization=normalization, guide=guide)
        terms.append(Term("region", 2.0, guided_loss))
    terms.append(Term("smooth", 0.5, TotalVariationLoss([0.7] * len(size))))
    terms.append(Term("temporal", 0.3, Difference(style, content)))
    return Objective(net, terms, precision=Precision(dtype)), x


def assert_equal(
    objective: Objective, x: Tensor, tiler: Tiler, tolerance: float, pieces: int = 2
) -> None:
    layers = (*objective.layers, INPUT)
    tiling = tiler.make_tiling(objective.backbone, layers, x.shape[2:], objective.overlaps)
    assert len(tiling) >= pieces
    whole, tiled = evaluate_whole(objective, x), TiledEvaluation(tiler)(objective, x)
    assert tiled.loss == pytest.approx(whole.loss, rel=tolerance)
    assert tiled.parts == pytest.approx(dict(whole.parts), rel=tolerance)
    error = (tiled.gradient - whole.gradient).norm() / whole.gradient.norm()
    assert error.item() <= tolerance
    worst = (tiled.gradient - whole.gradient).abs().max() / whole.gradient.abs().max()
    assert worst.item() <= 10 * tolerance
    assert tiled.gradient.is_contiguous()
