"""Layers for any number of spatial axes, on plain tensors ``(B, C, *S)``.

Everything with an argument ``spatial_dims`` works for every N ≥ 1. Up to three axes, torch's own
operators compute, at their speed and with their memory formats. Above, they are combined, with the
same weight tensors, ``state_dict`` and arguments.
"""

from convnd.nn.conv import ConvNd, conv_nd
from convnd.nn.norm import InstanceNormNd
from convnd.nn.pad import PADDING_MODES, PadNd, pad_nd
from convnd.nn.pool import AvgPoolNd, MaxPoolNd, avg_pool_nd, max_pool_nd
from convnd.nn.resize import RESIZE_MODES, resize_nd
from convnd.nn.transpose import ConvTransposeNd, conv_transpose_nd

__all__ = [
    "PADDING_MODES",
    "RESIZE_MODES",
    "AvgPoolNd",
    "ConvNd",
    "ConvTransposeNd",
    "InstanceNormNd",
    "MaxPoolNd",
    "PadNd",
    "avg_pool_nd",
    "conv_nd",
    "conv_transpose_nd",
    "max_pool_nd",
    "pad_nd",
    "resize_nd",
]
