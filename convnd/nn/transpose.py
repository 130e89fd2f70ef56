"""Transposed convolution over any number of axes."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function, has_torch_function_unary

from convnd.errors import ShapeError
from convnd.nn._conv_module import ConvModule
from convnd.nn._native import NATIVE, NO_NODE, cached, check_batched, trace_as_leaf
from convnd.nn._scripting import is_scripting, script_conv_transpose
from convnd.nn.conv import fold_axis, sum_over_taps
from convnd.registry import check_name
from convnd.shapes import Layer, Padding
from convnd.shapes import output_size as shape_of

__all__ = ["ConvTransposeNd", "conv_transpose_nd"]


def conv_transpose_nd(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    r"""Apply a transposed convolution: the map that `conv_nd` has as gradient to its input.

    .. math:: y_{o}[s n + d t - p] \mathrel{+}= w_{co}[t]\, x_c[n]

    Args:
        x: ``(B, C, *S)``, any number N ≥ 1 of spatial axes.
        weight: ``(C, O / groups, *K)``; its rank determines N.
        bias: ``(O,)``.
        stride: step between the output positions of the input samples, one number or one per axis.
        padding: samples cropped from the output: a number, or a ``(low, high)`` pair per axis.
        output_padding: samples added after the output, fewer than the stride or the dilation.
        groups: number of groups of channels that are convolved separately.
        dilation: distance between taps.

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
    if has_torch_function((x, weight)):
        options = stride, padding, output_padding, groups, dilation
        result: Tensor = handle_torch_function(
            conv_transpose_nd, (x, weight), x, weight, bias, *options
        )
        return result
    layer = _geometry(tuple(weight.shape), stride, padding, output_padding, groups, dilation)
    if x.ndim != weight.ndim or x.shape[1] != weight.shape[0]:
        check_batched("conv_transpose", x, layer.ndim, channels=weight.shape[0])
    try:
        return _transpose(x, weight, bias, layer)
    except RuntimeError:
        shape_of(x.shape[2:], layer)  # raises an error that says what to do
        raise


@cached
def _geometry(
    shape: tuple[int, ...],
    stride: int | Sequence[int],
    padding: Padding,
    output_padding: int | Sequence[int],
    groups: int,
    dilation: int | Sequence[int],
) -> Layer:
    layer = Layer.build(
        "convtranspose",
        len(shape) - 2,
        kernel=shape[2:],
        stride=stride,
        dilation=dilation,
        padding=padding,
        channels=shape[1] * groups,
        groups=groups,
        output_padding=output_padding,
    )
    layer.weight_shape(shape[0])  # raises an error if the groups do not fit
    return layer


def _transpose(x: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer) -> Tensor:
    if layer.ndim not in NATIVE:
        return _transpose_folded(x, weight, bias, layer)
    conv_transpose = NATIVE[layer.ndim].conv_transpose
    symmetric = tuple(map(min, layer.padding))
    y = conv_transpose(
        x, weight, bias, layer.stride, symmetric, layer.output_padding, layer.groups, layer.dilation
    )
    for axis, ((low, high), cut_already) in enumerate(
        zip(layer.padding, symmetric, strict=True), start=2
    ):
        if low != high:
            y = y.narrow(axis, low - cut_already, y.shape[axis] - low - high + 2 * cut_already)
    return y


def _transpose_folded(x: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer) -> Tensor:
    """Fold the axis with the fewest taps into the batch, and its taps into the channels."""
    fold = layer.kernel.index(min(layer.kernel))
    taps, step, gap = layer.kernel[fold], layer.stride[fold], layer.dilation[fold]
    samples, skip = x.shape[2 + fold], layer.padding[fold][0]
    total = shape_of(x.shape[2:], layer)[fold]
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

    Arguments, their order, attributes, the distribution of the initial weights and ``state_dict``
    are those of torch's ``ConvTranspose1d``, ``2d`` and ``3d``.

    Args:
        in_channels: number of channels of the input.
        out_channels: number of channels of the output.
        kernel_size: number of taps, one number or one per axis.
        stride: step between the output positions of the input samples, one number or one per axis.
        padding: samples cropped from the output: a number, or a ``(low, high)`` pair per axis.
        output_padding: samples added after the output, fewer than the stride or the dilation.
        groups: number of groups of channels that are convolved separately.
        bias: whether to add a learnt bias to each output channel.
        dilation: distance between taps, one number or one per axis.
        padding_mode: ``"zeros"``, the only one, as in torch.
        device: device of the weights.
        dtype: number format of the weights.
        spatial_dims: number of spatial axes, any from 1.
        generator: source of the initial weights; None is torch's global generator.

    Raises:
        UnknownNameError: another padding mode.
        ShapeError: an argument does not fit ``spatial_dims``, or the groups do not divide the
            channels; in `forward`, the input does not fit.

    >>> up = ConvTransposeNd(8, 4, 4, stride=2, padding=1, spatial_dims=3)
    >>> up(torch.zeros(1, 8, 5, 5, 5)).shape
    torch.Size([1, 4, 10, 10, 10])
    """

    def __init__(
        self,
        in_channels: int,
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
        generator: torch.Generator | None = None,
    ) -> None:
        check_name("ConvTransposeNd: padding_mode", padding_mode, ["zeros"])
        super().__init__(
            "convtranspose",
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            output_padding=output_padding,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
            spatial_dims=spatial_dims,
            generator=generator,
        )

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """``(B, in_channels, *S)`` to ``(B, out_channels, *S')``.

        Args:
            x: the input.
            output_size: size ``S'`` of the result, or its whole shape; one of those that the stride
                allows. None is the size that ``output_padding`` gives.

        Raises:
            ShapeError: the input does not fit, or no output padding gives this size.
        """
        if is_scripting():
            assert output_size is None, "a scripted ConvTransposeNd has one output size"
            y = script_conv_transpose(
                x,
                self.weight,
                self.bias,
                self.stride,
                self._script_padding,
                self.output_padding,
                self.dilation,
                self.groups,
            )
        else:
            y = NO_NODE
            if has_torch_function_unary(x) and output_size is None:
                y = trace_as_leaf(self, x)
            if y is None:
                y = conv_transpose_nd(
                    x,
                    self.weight,
                    self.bias,
                    self.stride,
                    self.padding,
                    self._output_padding(x, output_size),
                    self.groups,
                    self.dilation,
                )
        return y

    @torch.jit.unused
    def _output_padding(self, x: Tensor, output_size: Sequence[int] | None) -> Any:
        """Compute the output padding that gives an output size, see `forward`."""
        if output_size is None:
            return self.output_padding
        ndim = self.spatial_dims
        check_batched("ConvTransposeNd", x, ndim, channels=self.in_channels)
        layer = dataclasses.replace(self.layer, output_padding=(0,) * ndim)
        smallest = shape_of(x.shape[2:], layer)
        sizes = tuple(map(operator.index, output_size))[-ndim:]
        extra = [size - low for size, low in zip(sizes, smallest, strict=False)]
        limits = [max(step, gap) for step, gap in zip(self.stride, self.dilation, strict=True)]
        if len(output_size) not in (ndim, ndim + 2) or any(
            not 0 <= count < limit for count, limit in zip(extra, limits, strict=True)
        ):
            largest = tuple(low + limit - 1 for low, limit in zip(smallest, limits, strict=True))
            raise ShapeError(
                "ConvTransposeNd",
                expected=f"an output_size from {smallest} to {largest}",
                got=tuple(output_size),
                remedy="choose one in between, or another stride or padding",
            )
        return tuple(extra)
