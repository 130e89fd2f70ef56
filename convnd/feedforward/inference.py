"""Trained networks whose weights no longer change, with faster convolutions."""

from __future__ import annotations

import copy
from dataclasses import replace

from torch import Tensor, nn

from convnd.backbones.kernels import ConvOptions, kernel_bytes
from convnd.backbones.operations import Convolution
from convnd.feedforward.transform_net import TransformNet
from convnd.nn import ConvNd

__all__ = ["freeze_convolutions"]


def freeze_convolutions(network: TransformNet) -> TransformNet:
    """Return a copy of a network that computes the same faster, where kernels in C are installed.

    Its convolutions of 3x3 are those of `NativeConv`, which transforms their weights once, and
    repeats the outermost samples without a copy. Neither the copy nor a part of it can be trained.

    Args:
        network: the network; it stays unchanged.

    >>> import torch
    >>> from convnd.feedforward.network_shape import NetworkShape
    >>> network, x = TransformNet(NetworkShape.for_rank(2, 3)), torch.rand(1, 3, 20, 24)
    >>> torch.allclose(freeze_convolutions(network)(x), network(x), atol=1e-4)
    True
    """
    frozen = copy.deepcopy(network).requires_grad_(False).eval()
    for name, layer in list(frozen.named_modules()):
        if isinstance(layer, ConvNd) and _has_kernel(layer):
            parent, _, child = name.rpartition(".")
            setattr(frozen.get_submodule(parent), child, _FrozenConv(layer))
    for block in frozen.blocks:
        assert isinstance(block, nn.Sequential)
        if isinstance(block[0], _FrozenConv):
            block[0].options = replace(block[0].options, relu=True)
            block[1] = nn.Identity()
    return frozen


def _has_kernel(layer: ConvNd) -> bool:
    """Whether `NativeConv` computes this layer; one that is 1 wide has no border to repeat."""
    is_simple = set(layer.stride) == set(layer.dilation) == {layer.groups} == {1}
    return layer.kernel_size == (3, 3) and is_simple and kernel_bytes(layer.weight) > 0


class _FrozenConv(nn.Module):
    """A convolution that repeats the outermost samples, by `frozen_conv`.

    Args:
        layer: the convolution whose weights it has.

    Attributes:
        options: options of `frozen_conv`, whether a ReLU follows for example.
    """

    def __init__(self, layer: ConvNd) -> None:
        super().__init__()
        axes = tuple(range(layer.spatial_dims))
        self.options = ConvOptions(winograd=True, padded_axes=axes)
        self.convolution = Convolution((0, *layer.weight.shape[1:]), None, bias=False)
        self.convolution.weight, self.convolution.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, O, H, W)``."""
        y: Tensor
        y, _ = self.convolution(x, (), x.dtype, self.options)
        return y
