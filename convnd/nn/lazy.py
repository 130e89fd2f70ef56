"""Convolutions that take their number of input channels from the first input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedParameter

from convnd.nn._conv_module import ConvModule
from convnd.nn._native import check_batched
from convnd.nn.conv import ConvNd
from convnd.nn.transpose import ConvTransposeNd
from convnd.shapes import Padding

__all__ = ["LazyConvNd", "LazyConvTransposeNd"]


class _LazyConv(LazyModuleMixin, ConvModule):
    """The weights of a convolution without a shape, until the first input comes."""

    # A parameter without a shape is one all the same; torch's types tell the two apart.
    weight: Any
    bias: Any

    def _forget_shapes(self, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
        """Replace the weights by parameters without a shape."""
        self.in_channels = 0
        parameter: Any = UninitializedParameter  # torch declares no arguments
        self.weight = parameter(device=device, dtype=dtype)
        if self.bias is not None:
            self.bias = parameter(device=device, dtype=dtype)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights as `ConvNd` does, once their shape is known."""
        if not self.has_uninitialized_params():
            super().reset_parameters(generator)

    def initialize_parameters(self, x: Tensor, *_args: Any, **_options: Any) -> None:
        """Give the weights the shape that the input asks for; called before the first `forward`."""
        check_batched(type(self).__name__, x, self.spatial_dims)
        if self.has_uninitialized_params():
            shape = self.layer.weight_shape(x.shape[1])
            self.weight.materialize(shape)
            if self.bias is not None:
                self.bias.materialize((self.out_channels,))
            self.reset_parameters()
        self.in_channels = self.weight.shape[0 if self.transposed else 1]
        self.in_channels *= 1 if self.transposed else self.groups


class LazyConvNd(_LazyConv, ConvNd):
    """`ConvNd` without ``in_channels``: the first input determines it, as in torch's ``LazyConv``.

    After the first call, the module is a `ConvNd`; its weights are those that a `ConvNd` draws from
    torch's global generator. Tools that look at weights, and optimisers, need that call first.
    A ``state_dict`` that holds weights can be loaded before it.

    Args:
        out_channels: number of channels of the output.
        kernel_size: number of taps, one number or one per axis.
        stride: step between windows, one number or one per axis.
        padding: samples beyond the border, in any notation of `conv_nd`.
        dilation: distance between taps, one number or one per axis.
        groups: number of groups of channels that are convolved separately.
        bias: whether to add a learnt bias to each output channel.
        padding_mode: one of `convnd.nn.PADDING_MODES`.
        device: device of the weights.
        dtype: number format of the weights.
        spatial_dims: number of spatial axes, any from 1.

    Raises:
        ShapeError: an argument does not fit ``spatial_dims``; in the first call, the groups do not
            divide the channels of the input.
        UnknownNameError: no such padding mode.
        UsageError: the padding is causal, and the padding mode reads later samples.

    >>> layer = LazyConvNd(16, 3, spatial_dims=4)
    >>> layer(torch.zeros(1, 5, 3, 3, 3, 3)).shape
    torch.Size([1, 16, 1, 1, 1, 1])
    >>> layer
    ConvNd(5, conv:3:16, spatial_dims=4)
    """

    cls_to_become = ConvNd

    def __init__(
        self,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        spatial_dims: int,
    ) -> None:
        super().__init__(  # on the device without memory: no weights are drawn yet
            groups,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            "meta",
            dtype,
            spatial_dims=spatial_dims,
        )
        self._forget_shapes(device, dtype)


class LazyConvTransposeNd(_LazyConv, ConvTransposeNd):
    """`ConvTransposeNd` without ``in_channels``, see `LazyConvNd`.

    Args:
        out_channels: number of channels of the output.
        kernel_size: number of taps, one number or one per axis.
        stride: step between the output positions of input samples, one number or one per axis.
        padding: samples to crop from the output, one number, one per axis, or a pair per axis.
        output_padding: samples added after the output, one number or one per axis.
        groups: number of groups of channels that are convolved separately.
        bias: whether to add a learnt bias to each output channel.
        dilation: distance between taps, one number or one per axis.
        padding_mode: ``"zeros"``.
        device: device of the weights.
        dtype: number format of the weights.
        spatial_dims: number of spatial axes, any from 1.

    Raises:
        ShapeError: an argument does not fit ``spatial_dims``; in the first call, the groups do not
            divide the channels of the input.
        UnknownNameError: no such padding mode.

    >>> LazyConvTransposeNd(16, 3, 2, spatial_dims=4)(torch.zeros(1, 5, 2, 2, 2, 2)).shape
    torch.Size([1, 16, 5, 5, 5, 5])
    """

    cls_to_become = ConvTransposeNd

    def __init__(
        self,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        output_padding: int | Sequence[int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | Sequence[int] = 1,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        spatial_dims: int,
    ) -> None:
        super().__init__(  # on the device without memory: no weights are drawn yet
            groups,
            out_channels,
            kernel_size,
            stride,
            padding,
            output_padding,
            groups,
            bias,
            dilation,
            padding_mode,
            "meta",
            dtype,
            spatial_dims=spatial_dims,
        )
        self._forget_shapes(device, dtype)
