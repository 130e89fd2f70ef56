"""Depthwise-separable convolution over any number of axes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.overrides import has_torch_function_unary

from convnd.nn._native import NO_NODE, trace_as_leaf
from convnd.nn._scripting import is_scripting
from convnd.nn.conv import ConvNd
from convnd.shapes import Padding, ntuple

__all__ = ["DepthwiseSeparableConvNd"]


class DepthwiseSeparableConvNd(nn.Module):
    r"""Convolve each channel by itself, then mix the channels at every position.

    .. math:: y_o[n] = b_o + \sum_c \sum_{m < M} u_{o,cM+m} \sum_{t \in K} w_{cM+m}[t]\,
              x_c[s n + d t - p]

    This takes ``C · M · (|K| + O)`` weights and as many multiply-adds at a position, where a
    convolution takes ``C · O · |K|``: the more axes, the greater the saving (Sifre, 2014; Chollet,
    2017). There is no activation between the two, as in Keras.

    Args:
        in_channels: number of channels C of the input.
        out_channels: number of channels O of the output.
        kernel_size: number of taps, one number or one per axis.
        stride: step between windows, one number or one per axis.
        padding: samples beyond the border, in any notation of `conv_nd`.
        dilation: distance between taps, one number or one per axis.
        depth_multiplier: number M of filters for each channel of the input.
        bias: whether to add a learnt bias to each output channel. One more bias between the two
            convolutions would change nothing that this one cannot.
        padding_mode: one of `convnd.nn.PADDING_MODES`.
        device: device of the weights.
        dtype: number format of the weights.
        spatial_dims: number of spatial axes, any from 1.
        generator: source of the initial weights; None is torch's global generator.

    Raises:
        ShapeError: an argument does not fit ``spatial_dims``; in `forward`, the input does not fit.
        UnknownNameError: no such padding mode.

    Attributes:
        depthwise: the `ConvNd` of each channel, with ``(C · M, 1, *K)`` weights.
        pointwise: the `ConvNd` of one tap that mixes channels, with ``(O, C · M, 1, …)`` weights.

    >>> layer = DepthwiseSeparableConvNd(8, 16, 3, padding=1, spatial_dims=4)
    >>> layer(torch.zeros(1, 8, 4, 4, 4, 4)).shape, layer.depthwise.weight.shape[:2]
    (torch.Size([1, 16, 4, 4, 4, 4]), torch.Size([8, 1]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        *,
        depth_multiplier: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        spatial_dims: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        filters = in_channels * ntuple(depth_multiplier, 1, "depth_multiplier")[0]
        self.depthwise = ConvNd(
            in_channels,
            filters,
            kernel_size,
            stride,
            padding,
            dilation,
            in_channels,
            bias=False,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
            spatial_dims=spatial_dims,
            generator=generator,
        )
        self.pointwise = ConvNd(
            filters,
            out_channels,
            1,
            bias=bias,
            device=device,
            dtype=dtype,
            spatial_dims=spatial_dims,
            generator=generator,
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, *S)`` to ``(B, out_channels, *S')``."""
        if is_scripting():
            y = self.pointwise(self.depthwise(x))
        else:
            y = trace_as_leaf(self, x) if has_torch_function_unary(x) else NO_NODE
            if y is None:
                y = self.pointwise(self.depthwise(x))
        result: Tensor = y
        return result
