"""Statistics of features that forget positions and add up over tiles.

`STATISTICS` is the table of names; `Sums` and `Statistic` say what an entry has to be.
"""

from __future__ import annotations

from convnd.registry import Registry
from convnd.stats.base import (
    OverlapStatistic,
    Statistic,
    Sums,
    adds_up,
    blend,
    footprint_of,
    overlap_of,
    tile_sums,
)
from convnd.stats.gram import GramStatistic, gram_matrix
from convnd.stats.lags import AutocorrelationStatistic, SpectrumStatistic
from convnd.stats.moments import (
    CovarianceStatistic,
    DistributionStatistic,
    MomentStatistic,
)
from convnd.stats.tapped import Mappable, TappedStatistic

__all__ = [
    "STATISTICS",
    "AutocorrelationStatistic",
    "CovarianceStatistic",
    "DistributionStatistic",
    "GramStatistic",
    "Mappable",
    "MomentStatistic",
    "OverlapStatistic",
    "SpectrumStatistic",
    "Statistic",
    "Sums",
    "TappedStatistic",
    "adds_up",
    "blend",
    "footprint_of",
    "gram_matrix",
    "overlap_of",
    "tile_sums",
]

STATISTICS: Registry[Statistic] = Registry("statistic")
STATISTICS.add("gram", GramStatistic())
STATISTICS.add("moments", MomentStatistic())
STATISTICS.add("covariance", CovarianceStatistic())
STATISTICS.add("distribution", DistributionStatistic())
STATISTICS.add("autocorrelation", AutocorrelationStatistic())
STATISTICS.add("spectrum", SpectrumStatistic())
