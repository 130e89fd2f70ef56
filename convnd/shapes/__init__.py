"""Output size, receptive field, parameters and cost of a stack of layers, and tiles of a grid.

This package computes with whole numbers and needs no tensors. `convnd.nn` takes its geometry from
here, and ``convnd trace`` prints it. Sizes leave out the batch and channel axes. Shapes as people
type them end with the channels: ``14x14x3``.
"""

from convnd.shapes.layer import KINDS, Layer, output_size
from convnd.shapes.notation import is_count_text, parse_layer, parse_shape
from convnd.shapes.receptive_field import ReceptiveField
from convnd.shapes.stack import Row, trace
from convnd.shapes.tiling import Tile, Tiling
from convnd.shapes.tuples import Padding, Pairs, ntuple, pad_pairs

__all__ = [
    "KINDS",
    "Layer",
    "Padding",
    "Pairs",
    "ReceptiveField",
    "Row",
    "Tile",
    "Tiling",
    "is_count_text",
    "ntuple",
    "output_size",
    "pad_pairs",
    "parse_layer",
    "parse_shape",
    "trace",
]
