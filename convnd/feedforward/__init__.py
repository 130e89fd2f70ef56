"""Networks that stylise in one pass, without an optimisation.

`ArbitraryStyleNet` is a shipped network that gives pictures any style. `transform_net` holds the
network that users train for one style, over any number of axes, and `network_file` its files.
"""

from __future__ import annotations

from convnd.feedforward.arbitrary import ArbitraryStyleNet, StyleTargets
from convnd.feedforward.matching import AffineMap, StylePatches, monge_map

__all__ = ["AffineMap", "ArbitraryStyleNet", "StylePatches", "StyleTargets", "monge_map"]
