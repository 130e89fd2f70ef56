"""Transposed convolution over any number of axes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from convnd.nn._native import NATIVE, check_batched
from convnd.nn.conv import ConvModule, fold_axis, sum_over_taps
from convnd.shapes import Layer, Padding, ntuple, output_size

__all__ = ["ConvTransposeNd", "conv_transpose_nd"]


def conv_transpose_nd(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    output_padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    r"""Transposed convolution: the gradient of `conv_nd` with respect to its input, as a layer.

    .. math:: y_{o}[s n + d t - p] \mathrel{+}= w_{co}[t]\, x_c[n]

    Args:
        x: ``(B, C, *S)``, any number N ≥ 1 of spatial axes.
        weight: ``(C, O / groups, *K)``; its rank determines N.
        bias: ``(O,)``.
        stride: step between the output positions of the input samples, one number or one per axis.
        padding: samples cropped from the output: a number, or a ``(low, high)`` pair per axis.
        output_padding: samples added after the output, fewer than the stride or the dilation.
        dilation: distance between taps.
        groups: number of groups of channels that are convolved separately.

    Returns:
        ``(B, O, *S')`` with ``S' = (S − 1)·s − low − high + d·(K − 1) + output_padding + 1``.

    Raises:
        ShapeError: ranks, channels or sizes do not fit, or the output would be empty.

    Above three axes, one axis is folded as in `conv_nd`. All output samples at the same phase
    between two input samples use the same taps, so each phase is one operator of N − 1 axes.

    >>> x = torch.ones(1, 1, 2, 2, 2, 2)
    >>> conv_transpose_nd(x, x, stride=2).shape
    torch.Size([1, 1, 4, 4, 4, 4])
    """
    ndim = weight.ndim - 2
    check_batched("conv_transpose", x, ndim, channels=weight.shape[0])
    layer = Layer.build(
        "convtranspose",
        ndim,
        kernel=weight.shape[2:],
        stride=stride,
        dilation=dilation,
        padding=padding,
        channels=weight.shape[1] * groups,
        groups=groups,
        output_padding=output_padding,
    )
    layer.weight_shape(weight.shape[0])  # for its errors
    return apply_transpose(x, weight, bias, layer)


def apply_transpose(x: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer) -> Tensor:
    """`conv_transpose_nd` with its arguments as a `Layer`."""
    output_size(x.shape[2:], layer)  # for its errors
    return _transpose(x, weight, bias, layer)


def _transpose(x: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer) -> Tensor:
    if layer.ndim not in NATIVE:
        return _transpose_folded(x, weight, bias, layer)
    conv_transpose = NATIVE[layer.ndim].conv_transpose
    symmetric = tuple(map(min, layer.padding))
    y = conv_transpose(
        x, weight, bias, layer.stride, symmetric, layer.output_padding, layer.groups, layer.dilation
    )
    for axis, ((low, high), done) in enumerate(zip(layer.padding, symmetric, strict=True), start=2):
        if low != high:
            y = y.narrow(axis, low - done, y.shape[axis] - low - high + 2 * done)
    return y


def _transpose_folded(x: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer) -> Tensor:
    """Fold the axis with the fewest taps into the batch, and its taps into the channels."""
    fold = layer.kernel.index(min(layer.kernel))
    taps, step, gap = layer.kernel[fold], layer.stride[fold], layer.dilation[fold]
    samples, skip = x.shape[2 + fold], layer.padding[fold][0]
    total = output_size(x.shape[2:], layer)[fold]
    # Output sample q·step + phase reads input q − m through tap t, where t·gap = m·step + phase.
    first, last = skip // step, (skip + total - 1) // step
    front, back = max(0, layer.reach[fold] // step - first), max(0, last + 1 - samples)
    x = fold_axis(x, fold, (front, back))
    lower = partial(_transpose, layer=layer.without_axis(fold))
    run = partial(sum_over_taps, bias=bias, lower=lower, groups=layer.groups, weight_axis=0)
    zeros = x.new_zeros(()).expand(last + 1 - first, *x.shape[1:])
    phases = []
    for phase in range(step):
        phase_taps = [tap for tap in range(taps) if tap * gap % step == phase]
        starts = [first + front - tap * gap // step for tap in phase_taps]
        slices = [slice(start, start + last + 1 - first) for start in starts]
        parts = [weight.select(2 + fold, tap) for tap in phase_taps]  # each (C, O / groups, *K')
        if phase_taps:
            phases.append(run(x, slices, parts))
        else:  # if the stride exceeds the kernel, some output samples hold only the bias
            phases.append(run(zeros, [slice(None)], [weight.select(2 + fold, 0)]))
    y = phases[0] if step == 1 else torch.stack(phases, 1).flatten(0, 1)
    return y.narrow(0, skip - first * step, total).movedim(0, 2 + fold)


class ConvTransposeNd(ConvModule):
    """`conv_transpose_nd` as a module.

    Its ``state_dict`` is interchangeable with that of torch's ``ConvTranspose1d``, ``2d`` and
    ``3d``.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: taps, one number or one per axis.
        spatial_dims: number of spatial axes, any from 1.
        stride: as in `conv_transpose_nd`, like the arguments up to ``groups``.
        padding: samples cropped from the output.
        output_padding: samples added after the output.
        dilation: distance between taps.
        groups: number of groups of channels that are convolved separately.
        bias: whether to add a learnt bias to each output channel.
        generator: source of the initial weights, which are distributed as in torch.
        device: of the weights.
        dtype: of the weights.

    Raises:
        ShapeError: an argument does not fit ``spatial_dims``, or the groups do not divide the
            channels; in `forward`, the input does not fit.

    >>> up = ConvTransposeNd(8, 4, 4, spatial_dims=3, stride=2, padding=1)
    >>> up(torch.zeros(1, 8, 5, 5, 5)).shape
    torch.Size([1, 4, 10, 10, 10])
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
        output_padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        layer = Layer.build(
            "convtranspose",
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
        super().__init__(in_channels, layer, generator, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, *S)`` to ``(B, out_channels, *S')``."""
        check_batched("ConvTransposeNd", x, self.layer.ndim, channels=self.in_channels)
        return apply_transpose(x, self.weight, self.bias, self.layer)
