"""Networks that stylise in one pass, without an optimisation.

`ArbitraryStyleNet` takes any style; it is for pictures, and shipped. `transform_net` and
`network_file` are of networks that users train for one style, in any rank.
"""

from __future__ import annotations

from convnd.feedforward.arbitrary import ArbitraryStyleNet, StyleTargets
from convnd.feedforward.matching import AffineMap, StylePatches, monge_map

__all__ = ["AffineMap", "ArbitraryStyleNet", "StylePatches", "StyleTargets", "monge_map"]
