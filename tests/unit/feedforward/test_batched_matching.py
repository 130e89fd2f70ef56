"""The matching that the training of the network for any style does in batches."""

from __future__ import annotations

import pytest
import torch

from benchmarks.training import batched_matching
from benchmarks.training.batched_matching import match
from benchmarks.training.energies import mean_gram, relative
from convnd.backbones.weights import load_state
from convnd.feedforward import ArbitraryStyleNet
from convnd.feedforward.decoder import LEVELS
from convnd.feedforward.matching import monge_map
from convnd.losses import INPUT
from convnd.optimize import Tiler
from convnd.stats import CovarianceStatistic


def test_pairs_are_matched_as_by_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched_matching, "NOISE", 0.0)
    network = ArbitraryStyleNet(load_state("instant")).double()
    generator = torch.Generator().manual_seed(0)
    contents = torch.rand(2, 3, 32, 48, generator=generator, dtype=torch.float64)
    styles = torch.rand(2, 3, 40, 48, generator=generator, dtype=torch.float64)
    names = (INPUT, *LEVELS)
    matched, nearest = match(network(contents, names), network(styles, names), generator)
    statistic = CovarianceStatistic()
    for number in range(2):
        pair = slice(number, number + 1)
        features = network(contents[pair], names)
        targets = network.read_styles([styles[pair]], [1.0], Tiler())
        for name in names:
            own, style = (
                statistic.summary(sums)[0]
                for sums in (statistic.sums(features[name]), targets.sums[name])
            )
            expected = monge_map(own, style, ridge=batched_matching.RIDGES[name])(features[name])
            # The network adds the rounding of float32 to the ridge, which is up to 1e-4 of it.
            torch.testing.assert_close(matched[name][pair], expected, rtol=1e-3, atol=1e-3)
        blocks = targets.patches.nearest(matched[LEVELS[-1]][pair])
        for name in LEVELS:
            torch.testing.assert_close(nearest[name][pair], blocks[name], rtol=0, atol=1e-9)


def test_energies_are_relative() -> None:
    features = torch.rand(2, 3, 4, 5)
    grams = mean_gram(features)
    flat = features.flatten(2)
    torch.testing.assert_close(grams, flat @ flat.mT / 20)
    torch.testing.assert_close(relative(2 * grams, grams), torch.ones(2))
