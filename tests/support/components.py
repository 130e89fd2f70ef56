"""The table of components that the generic tests run over.

============== ============================ ==================================
kind           rows                         generic tests
============== ============================ ==================================
layers         ``layers.CASES``             ``unit/nn/test_tools.py``,
                                            ``unit/nn/test_as_torch.py``
statistics     `STATISTICS` (registry)      ``unit/stats/test_stats.py``
losses         `make_losses` here           ``unit/losses/test_derivatives.py``
optimizers     `OPTIMIZERS` (registry)      ``unit/transfer/test_living.py``,
                                            ``pipeline/test_checkpoint.py``
networks       `BACKBONES` (registry)       ``unit/backbones/test_backbones.py``
kinds of data  `MODALITIES`                 ``pipeline/test_option_table.py``
formats        ``malformed.WHOLE``: a file  ``io/test_record.py``,
                                            ``robustness/test_malformed.py``
commands       entry points                 ``pipeline/test_output.py``
============== ============================ ==================================

A new component is tested by its registration, or by one more row; ``project/test_components.py``
fails as long as the row is missing.
"""

from __future__ import annotations

import torch
from layers import CASES as LAYERS
from torch import Tensor

from convnd.backbones import BACKBONES
from convnd.losses import (
    ContentLoss,
    EventLoss,
    LocalAffineLoss,
    Loss,
    StyleLoss,
    TemporalLoss,
    TotalVariationLoss,
)
from convnd.losses.base import tile_index
from convnd.optimize import OPTIMIZERS
from convnd.stats import STATISTICS, ProjectedStatistic

__all__ = ["BACKBONES", "LAYERS", "LOSSES", "OPTIMIZERS", "STATISTICS", "make_losses"]


def make_losses(target: Tensor) -> dict[str, Loss]:
    """Return every loss, with one target.

    Args:
        target: features ``(B, C, *S)`` with at least two channels.
    """
    ndim, size = target.ndim - 2, target.shape[2:]
    losses: dict[str, Loss] = {
        name: StyleLoss(STATISTICS[name].sums(target), layer="layer", statistic=name)
        for name in STATISTICS
    }
    projected = ProjectedStatistic(STATISTICS["gram"], torch.eye(3)[:2].to(target))
    losses["projected"] = StyleLoss(
        projected.sums(target), layer="layer", projection=torch.eye(3)[:2].to(target)
    )
    losses["content"] = ContentLoss(target)
    losses["total_variation"] = TotalVariationLoss([0.5] * ndim)
    losses["local_affine"] = LocalAffineLoss(target)
    losses["temporal"] = TemporalLoss(target, target[:, :1])
    window = target[tile_index([slice(2)] * ndim)]
    losses["events"] = EventLoss(window, torch.zeros(1, ndim).long(), size=size)
    return losses


LOSSES = tuple(make_losses(torch.rand(1, 3, 4)))
"""Names of the losses."""
