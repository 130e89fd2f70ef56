"""Fast convolution and pooling for weights that are not trained.

- `frozen_conv`, `frozen_max_pool`, and `frozen_conv_pool`, which is both: layers that save little
  for the backward pass.
- `PrepackedConv`: a bfloat16 convolution whose weights are laid out for oneDNN once.
- `winograd_conv_nd`: a float32 convolution with fewer multiplications, for CPUs.
- `NativeConv`: the same, compiled from C, where the installation has it.
- `nearest_rows`: the nearest of many vectors.
"""

from convnd.backbones.kernels.conv_pool import frozen_conv_pool
from convnd.backbones.kernels.convolution import ConvOptions, FrozenWeights, frozen_conv
from convnd.backbones.kernels.native import NativeConv, can_convolve, kernel_bytes
from convnd.backbones.kernels.nearest import nearest_rows
from convnd.backbones.kernels.pooling import frozen_max_pool
from convnd.backbones.kernels.prepacked import PrepackedConv
from convnd.backbones.kernels.winograd import winograd_conv_nd, winograd_is_faster

__all__ = [
    "ConvOptions",
    "FrozenWeights",
    "NativeConv",
    "PrepackedConv",
    "can_convolve",
    "frozen_conv",
    "frozen_conv_pool",
    "frozen_max_pool",
    "kernel_bytes",
    "nearest_rows",
    "winograd_conv_nd",
    "winograd_is_faster",
]
