"""The memory that a VGG network takes, and the smallest inputs that it accepts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import nn

from convnd.backbones.base import Backbone
from convnd.backbones.kernels import kernel_bytes
from convnd.backbones.plan import VGGPlan

__all__ = ["VGGMemory"]


class VGGMemory(Backbone):
    """The estimates of memory of `convnd.backbones.VGG`, whose base class this is.

    Attributes:
        plan: widths of the convolutions.
        pooling: ``"max"`` or ``"avg"``.
        winograd: whether float32 convolutions on a CPU use `NativeConv`, whose kernels take memory,
            or `winograd_conv_nd`, where it is faster.
        reductions: convolutions that lower the number of channels.
        convolutions: the convolutions of the blocks.
        expansions: convolutions that raise the number of channels.
    """

    plan: VGGPlan
    pooling: str
    winograd: bool = False
    reductions: nn.ModuleDict
    convolutions: nn.ModuleDict
    expansions: nn.ModuleDict

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the features: that of the deepest weights."""
        *_, deepest = self.convolutions.parameters()
        return deepest.dtype

    def peak_bytes(self, size: Sequence[int], layers: Sequence[str]) -> int:
        """Estimate the peak memory, see `Backbone.peak_bytes`."""
        # The backward pass needs the requested features, signs of one byte for each other ReLU, and
        # for each max pooling indices of two bytes and the signs of the ReLU before it. At its peak
        # a layer also holds its input, its output, and a third tensor where gradients are added.
        itemsize = self.dtype.itemsize
        deepest = max((self.layers.index(name) for name in layers), default=-1)
        saved_bytes, largest, channels = 0, 0, 0
        widths = dict(zip(self.plan.convolutions, itertools.chain(*self.plan.widths), strict=True))
        for name, following in itertools.pairwise((*self.layers[: deepest + 1], "")):
            positions = self._positions(size, name)
            if name.startswith("conv"):
                channels = widths[name]
                largest = max(largest, positions * channels * itemsize)
            value_bytes = {"pool": 3, "relu": 1}.get(name[:4], 0)
            if following.startswith("pool") and self.pooling == "max":
                value_bytes = 0
            if name in layers:
                value_bytes = itemsize + 3 * name.startswith("pool")
            saved_bytes += positions * channels * value_bytes
        return saved_bytes + 3 * largest + self._kernel_bytes(deepest)

    def _kernel_bytes(self, deepest: int) -> int:
        """Count the bytes of `NativeConv`'s kernels for both directions, down to a layer index."""
        if not self.winograd:
            return 0
        needed_layers = self.layers[: deepest + 1]
        return sum(
            2 * kernel_bytes(convolution.get_parameter("weight"))
            for group in (self.reductions, self.convolutions, self.expansions)
            for name, convolution in group.items()
            if name in needed_layers
        )

    def activation_bytes(self, size: Sequence[int], layers: Sequence[str]) -> int:
        """Estimate the memory of the features, see `Backbone.activation_bytes`."""
        channels = self.plan.channels
        return sum(
            self.dtype.itemsize * channels[name] * self._positions(size, name) for name in layers
        )

    def min_extent(self, layers: Sequence[str]) -> int:
        """Return the smallest extent of an axis, see `Backbone.min_extent`.

        Every pooling counts as one over 2 samples: longer windows shrink to a short axis.
        """
        deepest = max((self.layers.index(name) for name in layers), default=0)
        poolings = sum(name.startswith("pool") for name in self.layers[: deepest + 1])
        return 1 << poolings

    def _positions(self, size: Sequence[int], layer: str) -> int:
        """Count the positions of a layer for an input of this size."""
        stride = self.receptive_fields[layer].stride
        return math.prod(
            max(1, extent // int(step)) for extent, step in zip(size, stride, strict=True)
        )
