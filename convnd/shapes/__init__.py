"""Output size, receptive field, parameters and cost of a stack of layers, in whole numbers.

Nothing here needs a tensor: `convnd.nn` asks this package for its geometry, and ``convnd trace``
prints it. Sizes leave out the batch and channel axes; shapes as people type them (``14x14x3``)
end with the channels.
"""

from convnd.shapes.layer import KINDS, Layer, Padding, Pairs, ntuple, output_size, pad_pairs
from convnd.shapes.notation import is_count, parse_layer, parse_shape
from convnd.shapes.receptive_field import ReceptiveField
from convnd.shapes.stack import Row, trace
from convnd.shapes.tiling import Tile, Tiling

__all__ = [
    "KINDS",
    "Layer",
    "Padding",
    "Pairs",
    "ReceptiveField",
    "Row",
    "Tile",
    "Tiling",
    "is_count",
    "ntuple",
    "output_size",
    "pad_pairs",
    "parse_layer",
    "parse_shape",
    "trace",
]
