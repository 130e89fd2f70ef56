"""Convolution over any number of axes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function, has_torch_function_unary

from convnd.nn._conv_module import ConvModule
from convnd.nn._native import NATIVE, NO_NODE, cached, check_batched, trace_as_leaf
from convnd.nn._scripting import is_scripting, script_conv
from convnd.nn.pad import check_mode, pad_by_pairs
from convnd.shapes import Layer, Padding, output_size

__all__ = ["ConvNd", "conv_geometry", "conv_nd"]

GATHER_BYTES = 2**30
"""Limit of the memory for shifted copies of the input, one for each tap of a folded axis. Above it,
the taps are added one after the other, which is a fifth to a half slower and needs no copies."""


def conv_nd(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
) -> Tensor:
    r"""Convolve over all spatial axes (strictly: cross-correlate, as usual in deep learning).

    .. math:: y_{o}[n] = b_o + \sum_{c}\sum_{t \in K} w_{oc}[t]\, x_c[s n + d t - p]

    Args:
        x: ``(B, C, *S)``, any number N ≥ 1 of spatial axes.
        weight: ``(O, C / groups, *K)``; its rank determines N.
        bias: ``(O,)``.
        stride: step between windows: one number, or one per axis.
        padding: ``"same"``, ``"causal"``, ``"valid"``, a number, or a ``(low, high)`` pair per
            axis. ``"same"`` gives ``ceil(S / stride)`` samples, with any stride. ``"causal"`` gives
            as many, and no output reads a later sample of the first axis, which is time.
        dilation: distance between taps: one number, or one per axis.
        groups: number of groups of channels that are convolved separately.
        padding_mode: one of `convnd.nn.PADDING_MODES`.

    Returns:
        ``(B, O, *S')``, with S' from `convnd.shapes.output_size`. Above three axes the order in
        memory may differ from the order of the axes; ``.contiguous()`` copies it into order.

    Raises:
        ShapeError: ranks, channels or sizes do not fit, or ``x`` has no batch axis.
        UnknownNameError: no such padding mode.
        UsageError: the padding is causal, and the padding mode reads later samples.

    Up to three axes this is torch's convolution. Above, one axis is folded into the batch, and its
    taps into the channels: one convolution of N − 1 axes is faster than the sum of K of them.

    >>> conv_nd(torch.ones(1, 1, 3, 3, 3, 3), torch.ones(1, 1, 3, 3, 3, 3)).item()
    81.0
    """
    if has_torch_function((x, weight)):
        options = stride, padding, dilation, groups
        result: Tensor = handle_torch_function(
            conv_nd, (x, weight), x, weight, bias, *options, padding_mode=padding_mode
        )
        return result
    layer, unpadded_layer = conv_geometry(
        tuple(weight.shape[2:]), stride, padding, dilation, weight.shape[0], groups, padding_mode
    )
    if x.ndim != weight.ndim or x.shape[1] != weight.shape[1] * groups:
        check_batched("conv", x, layer.ndim, channels=weight.shape[1] * groups)
    try:
        if padding_mode != "zeros":
            x, layer = pad_by_pairs(x, layer.padding, padding_mode), unpadded_layer
        return _conv(x, weight, bias, layer)
    except RuntimeError:
        output_size(x.shape[2:], layer)  # raises an error that says what to do
        raise


@cached
def conv_geometry(
    kernel: tuple[int, ...],
    stride: int | Sequence[int],
    padding: Padding,
    dilation: int | Sequence[int],
    channels: int,
    groups: int,
    padding_mode: str,
) -> tuple[Layer, Layer]:
    """The geometry of the layer, and the geometry on an input that is padded already."""
    check_mode(padding_mode, padding)
    layer = Layer.build(
        "conv",
        len(kernel),
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        padding=padding,
        channels=channels,
        groups=groups,
    )
    return layer, dataclasses.replace(layer, padding=((0, 0),) * layer.ndim)


def _conv(x: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer) -> Tensor:
    if layer.ndim not in NATIVE:
        return _conv_folded(x, weight, bias, layer)
    lows, highs = zip(*layer.padding, strict=True)
    if lows != highs:
        x, lows = pad_by_pairs(x, layer.padding, "constant"), (0,) * layer.ndim
    conv = NATIVE[layer.ndim].conv
    return conv(x, weight, bias, layer.stride, lows, layer.dilation, layer.groups)


def _conv_folded(x: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer) -> Tensor:
    """Fold the axis with the fewest taps into the batch, and its taps into the channels."""
    fold = layer.kernel.index(min(layer.kernel))
    taps, step, gap = layer.kernel[fold], layer.stride[fold], layer.dilation[fold]
    output_size(x.shape[2:], layer)  # raises an error if the sizes do not fit
    x = fold_axis(x, fold, layer.padding[fold])
    count = (x.shape[0] - layer.reach[fold] - 1) // step + 1
    slices = [slice(tap * gap, tap * gap + step * (count - 1) + 1, step) for tap in range(taps)]
    lower = partial(_conv, layer=layer.without_axis(fold))
    parts = weight.unbind(2 + fold)  # each (O, C / groups, *K')
    y = sum_over_taps(x, slices, parts, bias, lower, groups=layer.groups, weight_axis=1)
    return y.movedim(0, 2 + fold)


def fold_axis(x: Tensor, axis: int, pair: tuple[int, int]) -> Tensor:
    """Move an axis to the front, ``(B, C, *S)`` to ``(T, B, C, *S')``, and pad it with zeros.

    Args:
        x: ``(B, C, *S)``.
        axis: number of the spatial axis.
        pair: zeros before and after it.
    """
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
        slices: samples of the folded axis that each tap reads.
        parts: weight of each tap.
        bias: ``(O,)`` or None.
        lower: the operator of one axis less. Its arguments are a block ``(T·B, C', *S)``, a weight
            and a bias.
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


class ConvNd(ConvModule):
    """`conv_nd` as a module: ``Conv1d``, ``Conv2d``, ``Conv3d`` and so on, by ``spatial_dims``.

    Arguments, their order, attributes, the distribution of the initial weights and ``state_dict``
    are those of torch's ``Conv1d``, ``Conv2d`` and ``Conv3d``.

    Args:
        in_channels: number of channels of the input.
        out_channels: number of channels of the output.
        kernel_size: number of taps, one number or one per axis.
        stride: step between windows, one number or one per axis.
        padding: samples beyond the border: ``"same"``, ``"causal"``, ``"valid"``, a number, one per
            axis, or a ``(low, high)`` pair per axis, see `conv_nd`.
        dilation: distance between taps, one number or one per axis.
        groups: number of groups of channels that are convolved separately.
        bias: whether to add a learnt bias to each output channel.
        padding_mode: one of `convnd.nn.PADDING_MODES`.
        device: device of the weights.
        dtype: number format of the weights.
        spatial_dims: number of spatial axes, any from 1.
        generator: source of the initial weights; None is torch's global generator.

    Raises:
        ShapeError: an argument does not fit ``spatial_dims``, or the groups do not divide the
            channels; in `forward`, the input does not fit.
        UnknownNameError: no such padding mode.
        UsageError: the padding is causal, and the padding mode reads later samples.

    Attributes:
        layer: the geometry, for `convnd.shapes.trace`; computed from the attributes.

    >>> ConvNd(3, 16, 5, spatial_dims=2)(torch.zeros(1, 3, 14, 14)).shape
    torch.Size([1, 16, 10, 10])
    """

    def __init__(
        self,
        in_channels: int,
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
        generator: torch.Generator | None = None,
    ) -> None:
        check_mode(padding_mode, padding)
        super().__init__(
            "conv",
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
            spatial_dims=spatial_dims,
            generator=generator,
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, *S)`` to ``(B, out_channels, *S')``."""
        if is_scripting():
            y = script_conv(
                x,
                self.weight,
                self.bias,
                self.stride,
                self._script_padding,
                self.dilation,
                self.groups,
                self.padding_mode,
            )
        else:
            y = trace_as_leaf(self, x) if has_torch_function_unary(x) else NO_NODE
            if y is None:
                y = conv_nd(
                    x,
                    self.weight,
                    self.bias,
                    self.stride,
                    self.padding,
                    self.dilation,
                    self.groups,
                    padding_mode=self.padding_mode,
                )
        return y
