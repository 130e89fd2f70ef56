"""The weights and attributes that convolutions and transposed convolutions share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from convnd.shapes import Layer, Padding, ntuple

__all__ = ["ConvModule"]


class ConvModule(nn.Module):
    """The base class of `ConvNd` and `ConvTransposeNd`: their weights and their geometry.

    Attributes have torch's names and may be changed; the geometry follows them.

    Args:
        kind: ``"conv"`` or ``"convtranspose"``.
        in_channels: number of channels of the input.
        out_channels: number of channels of the output.
        kernel_size: number of taps, one number or one per axis.
        stride: step between windows, one number or one per axis.
        padding: samples beyond the border, in any notation of `convnd.shapes.pad_pairs`.
        dilation: distance between taps, one number or one per axis.
        output_padding: samples added after the output of a transposed convolution.
        groups: number of groups of channels that are convolved separately.
        bias: whether to add a learnt bias to each output channel.
        padding_mode: one of `convnd.nn.PADDING_MODES`.
        device: device of the weights.
        dtype: number format of the weights.
        spatial_dims: number of spatial axes.
        generator: source of the initial weights; None is torch's global generator.
    """

    __jit_unused_properties__ = ("layer",)

    def __init__(
        self,
        kind: str,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int],
        padding: Padding,
        dilation: int | Sequence[int],
        *,
        output_padding: int | Sequence[int] = 0,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        spatial_dims: int,
        generator: torch.Generator | None,
    ) -> None:
        layer = Layer.build(
            kind,
            ntuple(spatial_dims, 1, "spatial_dims")[0],
            kernel=kernel_size,
            stride=stride,
            dilation=dilation,
            padding=padding,
            channels=out_channels,
            groups=groups,
            bias=bias,
            output_padding=output_padding,
        )
        shape = layer.weight_shape(in_channels)
        super().__init__()
        self.spatial_dims = layer.ndim
        self.in_channels, self.out_channels = in_channels, out_channels
        # Tools that change attributes, and TorchScript, have other types for them than ours.
        self.kernel_size: Any = layer.kernel
        self.stride: Any = layer.stride
        self.dilation: Any = layer.dilation
        self.padding: Any = padding if isinstance(padding, str) else _as_torch(layer.padding)
        self.transposed = kind == "convtranspose"
        self.output_padding: Any = layer.output_padding
        self.groups, self.padding_mode = groups, padding_mode
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias: nn.Parameter | None
        offset = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype))
        self.register_parameter("bias", offset if bias else None)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights as torch does: uniform between ±1/√(number of inputs of an output).

        Args:
            generator: source of the weights; None is torch's global generator.
        """
        bound = 1 / math.sqrt(max(1, self.weight[0].numel()))  # all axes but the first
        for values in (self.weight, self.bias):
            if values is not None:
                nn.init.uniform_(values, -bound, bound, generator=generator)

    @property
    def layer(self) -> Layer:
        """Geometry of the layer, computed from the attributes."""
        return Layer.build(
            "convtranspose" if self.transposed else "conv",
            self.spatial_dims,
            kernel=self.kernel_size,
            stride=self.stride,
            dilation=self.dilation,
            padding=self.padding,
            channels=self.out_channels,
            groups=self.groups,
            bias=self.bias is not None,
            output_padding=self.output_padding,
        )

    def __prepare_scriptable__(self) -> ConvModule:
        """Store the padding as a list of numbers; called by ``torch.jit.script``.

        TorchScript supports neither words nor pairs as padding.
        """
        self._script_padding = [count for pair in self.layer.padding for count in pair]
        return self

    def extra_repr(self) -> str:
        """The geometry, for ``print``."""
        mode = "" if self.padding_mode == "zeros" else f", padding_mode={self.padding_mode!r}"
        return f"{self.in_channels}, {self.layer}, spatial_dims={self.spatial_dims}{mode}"


def _as_torch(pairs: tuple[tuple[int, int], ...]) -> Padding:
    """Write padding as torch does, one number per axis, if both sides of every axis are equal."""
    if all(low == high for low, high in pairs):
        return tuple(low for low, _ in pairs)
    return pairs
