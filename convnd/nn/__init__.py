"""Layers for any number of spatial axes, on plain tensors ``(B, C, *S)``.

Every layer and function works for every number N ≥ 1 of axes. Up to three axes it calls torch's own
operator, with its speed and memory formats. Above three axes it combines torch's operators, with
the same weight tensors, ``state_dict`` and arguments.

Positional arguments stand where torch has them, so that ``nn.Conv2d(3, 16, 5, 2)`` becomes
``ConvNd(3, 16, 5, 2, spatial_dims=2)``. Arguments that torch does not have are given by name.
"""

from convnd.nn.adaptive import (
    AdaptiveAvgPoolNd,
    AdaptiveMaxPoolNd,
    adaptive_avg_pool_nd,
    adaptive_max_pool_nd,
)
from convnd.nn.blur import GaussianBlurNd, gaussian_blur_nd
from convnd.nn.conv import ConvNd, conv_nd
from convnd.nn.fft_conv import fft_conv_nd
from convnd.nn.grid_sample import SAMPLE_MODES, SAMPLE_PADDING_MODES, grid_sample_nd
from convnd.nn.lazy import LazyConvNd, LazyConvTransposeNd
from convnd.nn.norm import BatchNormNd, InstanceNormNd
from convnd.nn.pad import PAD_MODES, PADDING_MODES, PadNd, pad_nd
from convnd.nn.pixel_shuffle import (
    PixelShuffleNd,
    PixelUnshuffleNd,
    pixel_shuffle_nd,
    pixel_unshuffle_nd,
)
from convnd.nn.pool import avg_pool_nd, max_pool_nd
from convnd.nn.pool_layers import AvgPoolNd, MaxPoolNd
from convnd.nn.resize import RESIZE_MODES, resize_nd, resize_period
from convnd.nn.separable import DepthwiseSeparableConvNd
from convnd.nn.transpose import ConvTransposeNd, conv_transpose_nd
from convnd.nn.unfold import fold_nd, unfold_nd
from convnd.nn.unfold_layers import FoldNd, UnfoldNd
from convnd.nn.upsample import INTERPOLATION_MODES, UpsampleNd, interpolate_nd

__all__ = [
    "INTERPOLATION_MODES",
    "PADDING_MODES",
    "PAD_MODES",
    "RESIZE_MODES",
    "SAMPLE_MODES",
    "SAMPLE_PADDING_MODES",
    "AdaptiveAvgPoolNd",
    "AdaptiveMaxPoolNd",
    "AvgPoolNd",
    "BatchNormNd",
    "ConvNd",
    "ConvTransposeNd",
    "DepthwiseSeparableConvNd",
    "FoldNd",
    "GaussianBlurNd",
    "InstanceNormNd",
    "LazyConvNd",
    "LazyConvTransposeNd",
    "MaxPoolNd",
    "PadNd",
    "PixelShuffleNd",
    "PixelUnshuffleNd",
    "UnfoldNd",
    "UpsampleNd",
    "adaptive_avg_pool_nd",
    "adaptive_max_pool_nd",
    "avg_pool_nd",
    "conv_nd",
    "conv_transpose_nd",
    "fft_conv_nd",
    "fold_nd",
    "gaussian_blur_nd",
    "grid_sample_nd",
    "interpolate_nd",
    "max_pool_nd",
    "pad_nd",
    "pixel_shuffle_nd",
    "pixel_unshuffle_nd",
    "resize_nd",
    "resize_period",
    "unfold_nd",
]
