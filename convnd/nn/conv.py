"""Convolution over any number of axes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnd.nn._native import NATIVE, check_batched
from convnd.nn.pad import check_mode, pad_nd
from convnd.shapes import Layer, Padding, ntuple, output_size

__all__ = ["ConvNd", "conv_nd"]

GATHER_BYTES = 2**30
"""Limit of the memory for shifted copies of the input, one for each tap of a folded axis. Above it,
the taps are added one after the other, which is a fifth to a half slower and needs no copies."""


def conv_nd(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Tensor:
    r"""Convolution (strictly cross-correlation, as usual in deep learning) over all spatial axes.

    .. math:: y_{o}[n] = b_o + \sum_{c}\sum_{t \in K} w_{oc}[t]\, x_c[s n + d t - p]

    Args:
        x: ``(B, C, *S)``, any number N ≥ 1 of spatial axes.
        weight: ``(O, C / groups, *K)``; its rank determines N.
        bias: ``(O,)``.
        stride: step between windows: one number, or one per axis.
        padding: ``"same"``, ``"valid"``, a number, or a ``(low, high)`` pair per axis. ``"same"``
            gives ``ceil(S / stride)`` samples; torch supports only stride 1 with it.
        dilation: distance between taps: one number, or one per axis.
        groups: number of groups of channels that are convolved separately.
        padding_mode: one of `convnd.nn.PADDING_MODES`.

    Returns:
        ``(B, O, *S')``, with S' from `convnd.shapes.output_size`. Above three axes the order in
        memory may differ from the order of the axes; ``.contiguous()`` copies it into order.

    Raises:
        ShapeError: ranks, channels or sizes do not fit, or ``x`` has no batch axis.
        UnknownNameError: no such padding mode.

    Up to three axes this is torch's convolution. Above, one axis is folded into the batch, and its
    taps into the channels, so that a single convolution of N − 1 axes suffices. Measured, that is
    faster than the sum of K convolutions with the same number of multiply-adds.

    >>> conv_nd(torch.ones(1, 1, 3, 3, 3, 3), torch.ones(1, 1, 3, 3, 3, 3)).item()
    81.0
    """
    ndim = weight.ndim - 2
    check_batched("conv", x, ndim, channels=weight.shape[1] * groups)
    layer = Layer.build(
        "conv",
        ndim,
        kernel=weight.shape[2:],
        stride=stride,
        dilation=dilation,
        padding=padding,
        channels=weight.shape[0],
        groups=groups,
    )
    return apply_conv(x, weight, bias, layer, padding_mode)


def apply_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer, padding_mode: str
) -> Tensor:
    """`conv_nd` with its arguments as a `Layer`."""
    output_size(x.shape[2:], layer)  # for its errors
    check_mode(padding_mode)
    if padding_mode != "zeros":
        x = pad_nd(x, layer.padding, padding_mode)
        layer = dataclasses.replace(layer, padding=((0, 0),) * layer.ndim)
    return _conv(x, weight, bias, layer)


def _conv(x: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer) -> Tensor:
    if layer.ndim not in NATIVE:
        return _conv_folded(x, weight, bias, layer)
    lows = tuple(low for low, _ in layer.padding)
    if any(low != high for low, high in layer.padding):
        x, lows = pad_nd(x, layer.padding), (0,) * layer.ndim
    conv = NATIVE[layer.ndim].conv
    return conv(x, weight, bias, layer.stride, lows, layer.dilation, layer.groups)


def _conv_folded(x: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer) -> Tensor:
    """Fold the axis with the fewest taps into the batch, and its taps into the channels."""
    fold = layer.kernel.index(min(layer.kernel))
    taps, step, gap = layer.kernel[fold], layer.stride[fold], layer.dilation[fold]
    x = fold_axis(x, fold, layer.padding[fold])
    count = (x.shape[0] - layer.reach[fold] - 1) // step + 1
    slices = [slice(tap * gap, tap * gap + step * (count - 1) + 1, step) for tap in range(taps)]
    lower = partial(_conv, layer=layer.without_axis(fold))
    parts = weight.unbind(2 + fold)  # each (O, C / groups, *K')
    y = sum_over_taps(x, slices, parts, bias, lower, groups=layer.groups, weight_axis=1)
    return y.movedim(0, 2 + fold)


def fold_axis(x: Tensor, axis: int, pair: tuple[int, int]) -> Tensor:
    """``(B, C, *S)`` as ``(T, B, C, *S')``, with zeros before and after axis T."""
    x = x.movedim(2 + axis, 0)
    return F.pad(x, (0, 0) * (x.ndim - 1) + pair) if any(pair) else x


def sum_over_taps(
    x: Tensor,
    slices: Sequence[slice],
    parts: Sequence[Tensor],
    bias: Tensor | None,
    lower: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    *,
    groups: int,
    weight_axis: int,
) -> Tensor:
    """Sum over the taps of a folded axis.

    Args:
        x: input with the folded axis first, ``(T', B, C, *S)``.
        slices: for each tap, its part of the folded axis.
        parts: for each tap, its weight.
        bias: added once.
        lower: the operator of one axis less; gets a block ``(T·B, C', *S)``, weight and bias.
        groups: number of groups of channels.
        weight_axis: axis of the weight that holds the input channels: 1, of one group
            (convolution), or 0, of all groups (transposed convolution).

    Returns:
        ``(T, B, O, *S')``.
    """
    slabs = [x[place] for place in slices]
    count, batch = slabs[0].shape[:2]
    if len(slabs) * slabs[0].numel() * x.element_size() <= GATHER_BYTES:
        weight = interleave(parts, weight_axis, 1 if weight_axis else groups)
        y = lower(interleave(slabs, 2, groups).flatten(0, 1), weight, bias)
    else:
        x = x.contiguous()  # at most one copy, so that the parts are views
        y = lower(x[slices[0]].flatten(0, 1), parts[0], bias)
        for place, part in zip(slices[1:], parts[1:], strict=True):
            y = y.add_(lower(x[place].flatten(0, 1), part, None))
    return y.reshape(count, batch, *y.shape[1:])


def interleave(tensors: Sequence[Tensor], axis: int, groups: int = 1) -> Tensor:
    """Concatenate along an axis so that each group holds its part of every tensor."""
    if len(tensors) == 1:
        return tensors[0]
    shape = tensors[0].shape
    split = (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
    return torch.stack([t.reshape(split) for t in tensors], axis + 1).flatten(axis, axis + 2)


class ConvModule(nn.Module):
    """The weights and the geometry of a convolution; the base class of `ConvNd` and its transpose.

    Args:
        in_channels: channels of the input.
        layer: the geometry.
        generator: source of the initial weights.
        device: of the weights.
        dtype: of the weights.
    """

    def __init__(
        self,
        in_channels: int,
        layer: Layer,
        generator: torch.Generator | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.in_channels, self.layer = in_channels, layer
        self.bias: nn.Parameter | None
        shape = layer.weight_shape(in_channels)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        offset = nn.Parameter(torch.empty(layer.channels or 0, device=device, dtype=dtype))
        self.register_parameter("bias", offset if layer.bias else None)
        bound = 1 / math.sqrt(self.weight[0].numel())  # torch's, with all axes but the first
        for values in self.parameters():
            nn.init.uniform_(values, -bound, bound, generator=generator)

    def extra_repr(self) -> str:
        """The geometry, for ``print``."""
        return f"{self.in_channels}, {self.layer}, spatial_dims={self.layer.ndim}"


class ConvNd(ConvModule):
    """`conv_nd` as a module: ``Conv1d``, ``Conv2d``, ``Conv3d`` and so on, by ``spatial_dims``.

    Its ``state_dict`` is interchangeable with that of torch's ``Conv1d``, ``Conv2d`` and
    ``Conv3d``. The attribute ``layer`` is the geometry that `convnd.shapes.trace` reads.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: taps, one number or one per axis.
        spatial_dims: number of spatial axes, any from 1.
        stride: as in `conv_nd`, like the arguments up to ``groups``.
        padding: samples beyond the border.
        dilation: distance between taps.
        groups: number of groups of channels that are convolved separately.
        bias: whether to add a learnt bias to each output channel.
        padding_mode: one of `convnd.nn.PADDING_MODES`.
        generator: source of the initial weights, which are distributed as in torch.
        device: of the weights.
        dtype: of the weights.

    Raises:
        ShapeError: an argument does not fit ``spatial_dims``, or the groups do not divide the
            channels; in `forward`, the input does not fit.
        UnknownNameError: no such padding mode.

    >>> ConvNd(3, 16, 5, spatial_dims=2)(torch.zeros(1, 3, 14, 14)).shape
    torch.Size([1, 16, 10, 10])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        *,
        spatial_dims: int,
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_mode(padding_mode)
        layer = Layer.build(
            "conv",
            ntuple(spatial_dims, 1, "spatial_dims")[0],
            kernel=kernel_size,
            stride=stride,
            dilation=dilation,
            padding=padding,
            channels=out_channels,
            groups=groups,
            bias=bias,
        )
        super().__init__(in_channels, layer, generator, device, dtype)
        self.padding_mode = padding_mode

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, *S)`` to ``(B, out_channels, *S')``."""
        check_batched("ConvNd", x, self.layer.ndim, channels=self.in_channels)
        return apply_conv(x, self.weight, self.bias, self.layer, self.padding_mode)

    def extra_repr(self) -> str:
        """The geometry, for ``print``."""
        mode = "" if self.padding_mode == "zeros" else f", padding_mode={self.padding_mode!r}"
        return super().extra_repr() + mode
