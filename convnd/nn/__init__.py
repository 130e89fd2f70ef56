"""Layers for any number of spatial axes, on raw tensors ``(B, C, *S)``.

Whatever has a ``spatial_dims`` argument works for every N ≥ 1. Up to three axes torch's own
operators do the work, at their speed and with their memory formats; above, they are put together
so that one weight tensor, one ``state_dict`` and one set of arguments serve all ranks.
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
