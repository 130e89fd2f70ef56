"""Layers for any number of spatial axes, on plain tensors ``(B, C, *S)``.

Everything with an argument ``spatial_dims`` works for every N ≥ 1. Up to three axes, torch's own
operators compute, at their speed and with their memory formats. Above, they are combined, with the
same weight tensors, ``state_dict`` and arguments.

Positional arguments stand where torch has them, so that ``nn.Conv2d(3, 16, 5, 2)`` becomes
``ConvNd(3, 16, 5, 2, spatial_dims=2)``. What torch does not have is given by name.
"""

from convnd.nn.adaptive import (
    AdaptiveAvgPoolNd,
    AdaptiveMaxPoolNd,
    adaptive_avg_pool_nd,
    adaptive_max_pool_nd,
)
from convnd.nn.conv import ConvNd, conv_nd
from convnd.nn.norm import BatchNormNd, InstanceNormNd
from convnd.nn.pad import PAD_MODES, PADDING_MODES, PadNd, pad_nd
from convnd.nn.pool import avg_pool_nd, max_pool_nd
from convnd.nn.pool_layers import AvgPoolNd, MaxPoolNd
from convnd.nn.resize import RESIZE_MODES, resize_nd
from convnd.nn.transpose import ConvTransposeNd, conv_transpose_nd
from convnd.nn.upsample import INTERPOLATION_MODES, UpsampleNd, interpolate_nd

__all__ = [
    "INTERPOLATION_MODES",
    "PADDING_MODES",
    "PAD_MODES",
    "RESIZE_MODES",
    "AdaptiveAvgPoolNd",
    "AdaptiveMaxPoolNd",
    "AvgPoolNd",
    "BatchNormNd",
    "ConvNd",
    "ConvTransposeNd",
    "InstanceNormNd",
    "MaxPoolNd",
    "PadNd",
    "UpsampleNd",
    "adaptive_avg_pool_nd",
    "adaptive_max_pool_nd",
    "avg_pool_nd",
    "conv_nd",
    "conv_transpose_nd",
    "interpolate_nd",
    "max_pool_nd",
    "pad_nd",
    "resize_nd",
]
