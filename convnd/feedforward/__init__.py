"""Networks that stylise in one pass, without an optimisation.

`ArbitraryStyleNet` is a shipped network that gives pictures any style. `TransformNet` is the
network that users train for one style, over any number of axes, and `LookNet` the one that they
train for the look of scans; `read_network` and `write_network` read and write their files.
`write_onnx` writes a `TransformNet` for programs without torch.
"""

from __future__ import annotations

from convnd.feedforward.arbitrary import ArbitraryStyleNet
from convnd.feedforward.look_net import LookNet, LookShape
from convnd.feedforward.matching import AffineMap, StylePatches, monge_map
from convnd.feedforward.network_file import StyleNetwork, read_network, write_network
from convnd.feedforward.network_shape import NetworkShape
from convnd.feedforward.onnx_file import write_onnx
from convnd.feedforward.style_parts import StylePart, StyleTargets
from convnd.feedforward.transform_net import TransformNet

__all__ = [
    "AffineMap",
    "ArbitraryStyleNet",
    "LookNet",
    "LookShape",
    "NetworkShape",
    "StyleNetwork",
    "StylePart",
    "StylePatches",
    "StyleTargets",
    "TransformNet",
    "monge_map",
    "read_network",
    "write_network",
    "write_onnx",
]
