"""Statistics of features that do not depend on positions and add up over tiles.

`STATISTICS` is the table of names; its entries implement the protocol `Statistic`.
"""

from __future__ import annotations

from convnd.registry import Registry
from convnd.stats.autocorrelation import AutocorrelationStatistic, SpectrumStatistic
from convnd.stats.base import (
    OverlapStatistic,
    Statistic,
    StatisticModule,
    Sums,
    accumulable,
    blend,
    count_positions,
    is_additive,
    overlap_of,
    peak_bytes_of,
    tile_sums,
)
from convnd.stats.gram import GramStatistic, gram_matrix
from convnd.stats.guided import GuidedStatistic, layer_guide
from convnd.stats.moments import CovarianceStatistic, DistributionStatistic, MomentStatistic
from convnd.stats.projected import LinearlyMappable, ProjectedStatistic
from convnd.stats.transport import transport_matrix

__all__ = [
    "STATISTICS",
    "AutocorrelationStatistic",
    "CovarianceStatistic",
    "DistributionStatistic",
    "GramStatistic",
    "GuidedStatistic",
    "LinearlyMappable",
    "MomentStatistic",
    "OverlapStatistic",
    "ProjectedStatistic",
    "SpectrumStatistic",
    "Statistic",
    "StatisticModule",
    "Sums",
    "accumulable",
    "blend",
    "count_positions",
    "gram_matrix",
    "is_additive",
    "layer_guide",
    "overlap_of",
    "peak_bytes_of",
    "tile_sums",
    "transport_matrix",
]

STATISTICS: Registry[Statistic] = Registry("statistic")
STATISTICS.add("gram", GramStatistic())
STATISTICS.add("moments", MomentStatistic())
STATISTICS.add("covariance", CovarianceStatistic())
STATISTICS.add("distribution", DistributionStatistic())
STATISTICS.add("autocorrelation", AutocorrelationStatistic())
STATISTICS.add("spectrum", SpectrumStatistic())
