"""The geometry of a layer: its arguments, its output size and its parameters."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import SupportsIndex, TypeVar

from convnd.errors import ShapeError
from convnd.registry import check_name
from convnd.shapes.tuples import Padding, Pairs, ntuple, pad_pairs, single

__all__ = ["KINDS", "Layer", "output_size"]

KINDS = ("conv", "convtranspose", "maxpool", "avgpool")
"""The kinds of `Layer`."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Geometry of one convolution, transposed convolution or pooling.

    `build` fills in defaults. ``str(layer)`` is the notation that `parse_layer` reads.

    Args:
        kind: one of `KINDS`.
        kernel: number of taps along each axis; its length is the number of spatial axes.
        stride: step between windows along each axis, in samples; for a transposed convolution, the
            step between the output positions of its input samples.
        dilation: distance between the taps of a window along each axis, in samples.
        padding: samples added before and after each axis, ``(low, high)``; a transposed convolution
            crops its output by them.
        channels: output channels of a convolution; None for a pooling, which keeps them.
        groups: groups that the channels are divided into.
        bias: whether there is one bias per output channel.
        output_padding: samples added after the output of a transposed convolution.
        ceil_mode: whether a pooling has one more window that reaches beyond the padding, if that
            window starts inside the input.

    >>> Layer.build("conv", 3, kernel=5, channels=16).parameters(1)
    2016
    """

    kind: str
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: Pairs
    channels: int | None = None
    groups: int = 1
    bias: bool = True
    output_padding: tuple[int, ...]
    ceil_mode: bool = False

    @classmethod
    def build(
        cls,
        kind: str,
        spatial_dims: int,
        *,
        kernel: SupportsIndex | Sequence[SupportsIndex],
        stride: SupportsIndex | Sequence[SupportsIndex] | None = None,
        dilation: SupportsIndex | Sequence[SupportsIndex] = 1,
        padding: Padding = 0,
        channels: int | None = None,
        groups: int = 1,
        bias: bool = True,
        output_padding: SupportsIndex | Sequence[SupportsIndex] = 0,
        ceil_mode: bool = False,
    ) -> Layer:
        """Build a layer from arguments as in `convnd.nn`.

        As in torch, a sequence of one number serves all axes, except for the kernel of a
        convolution, and an empty stride is the default.

        Args:
            kind: one of `KINDS`.
            spatial_dims: number of spatial axes.
            kernel: number of taps, one for all axes or one per axis.
            stride: step between windows, one for all axes or one per axis; None is 1 for
                convolutions and the kernel for poolings.
            dilation: distance between taps, one for all axes or one per axis.
            padding: samples before and after each axis, in any notation of `pad_pairs`.
            channels: output channels of a convolution.
            groups: groups that the channels are divided into.
            bias: whether there is one bias per output channel.
            output_padding: samples added after the output of a transposed convolution.
            ceil_mode: whether a pooling rounds its number of windows up.

        Raises:
            UnknownNameError: no such kind.
            ShapeError: an argument does not fit the number of axes, or the kind.
        """
        check_name("layer", kind, KINDS)
        pooling = kind.endswith("pool")
        kernel = single(kernel) if pooling else kernel
        stride = None if stride in ([], ()) else stride
        taps = ntuple(kernel, spatial_dims, f"{kind} kernel")
        if stride is None:
            stride = taps if pooling else 1
        gaps = ntuple(single(dilation), spatial_dims, f"{kind} dilation")
        extra = ntuple(single(output_padding), spatial_dims, f"{kind} output_padding", minimum=0)
        reach = None  # "same" is meaningless if the output is larger than the input
        if kind != "convtranspose":
            reach = tuple(gap * (tap - 1) for tap, gap in zip(taps, gaps, strict=True))
        pairs = pad_pairs(single(padding), spatial_dims, reach=reach, name=f"{kind} padding")
        layer = cls(
            kind=kind,
            kernel=taps,
            stride=ntuple(single(stride), spatial_dims, f"{kind} stride"),
            dilation=gaps,
            padding=pairs,
            channels=channels,
            groups=groups,
            bias=bias and not pooling,
            output_padding=extra,
            ceil_mode=bool(ceil_mode),
        )
        layer._check(padding, output_padding)
        return layer

    def _check(self, padding: object, output_padding: object) -> None:
        """Raise a ShapeError for a combination of arguments that its kind does not allow."""
        kind, channels, groups = self.kind, self.channels, self.groups
        expected, got, remedy = "", "", ""
        if kind.endswith("pool"):
            if any(max(pair) > reach for pair, reach in zip(self.padding, self.reach, strict=True)):
                expected = f"padding of at most {self.reach}, so that every window holds a sample"
                got, remedy = repr(padding), "pad less"
            elif channels is not None or groups != 1:
                expected, got = "no channels or groups", f"channels={channels}, groups={groups}"
                remedy = "a pooling keeps its channels"
        elif self.ceil_mode:
            expected, got, remedy = "no ceil_mode", "ceil_mode=True", "it belongs to poolings"
        elif channels is None or channels < 1 or groups < 1 or channels % groups:
            expected, got = f"output channels that {groups} groups divide", str(channels)
            remedy = "give a positive multiple of groups"
        if not expected and any(self.output_padding):
            limits = map(max, self.stride, self.dilation)
            if kind != "convtranspose":
                expected, remedy = "no output_padding", "it belongs to convtranspose"
            elif any(map(operator.ge, self.output_padding, limits)):
                expected, remedy = "output_padding below the stride or dilation", "make it smaller"
            got = repr(output_padding)
        if expected:
            raise ShapeError(kind, expected=expected, got=got, remedy=remedy)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel)

    @property
    def reach(self) -> tuple[int, ...]:
        """Distance from the first to the last tap, ``dilation · (kernel − 1)``."""
        return tuple(d * (k - 1) for k, d in zip(self.kernel, self.dilation, strict=True))

    def weight_shape(self, in_channels: int) -> tuple[int, ...]:
        """Shape of the weight tensor; ``()`` for a pooling.

        ``(O, C / groups, *K)`` for a convolution, ``(C, O / groups, *K)`` for a transposed one.

        Raises:
            ShapeError: the groups do not divide the input channels.
        """
        if self.channels is None:
            return ()
        if in_channels < 1 or in_channels % self.groups:
            raise ShapeError(
                str(self),
                expected=f"input channels that {self.groups} groups divide",
                got=in_channels,
                remedy="change groups",
            )
        first, second = self.channels, in_channels
        if self.kind == "convtranspose":
            first, second = second, first
        return (first, second // self.groups, *self.kernel)

    def weight_count(self, in_channels: int) -> int:
        """Number of weights, without biases."""
        shape = self.weight_shape(in_channels)
        return math.prod(shape) if shape else 0

    def parameters(self, in_channels: int) -> int:
        """Number of weights and biases."""
        biases = self.channels if self.bias and self.channels is not None else 0
        return self.weight_count(in_channels) + biases

    def without_axis(self, axis: int) -> Layer:
        """The same layer without one axis."""

        def drop(values: tuple[T, ...]) -> tuple[T, ...]:
            return values[:axis] + values[axis + 1 :]

        return dataclasses.replace(
            self,
            kernel=drop(self.kernel),
            stride=drop(self.stride),
            dilation=drop(self.dilation),
            padding=drop(self.padding),
            output_padding=drop(self.output_padding),
        )

    def __str__(self) -> str:
        head = [self.kind, _axes(self.kernel)]
        if self.channels is not None:
            head.append(str(self.channels))
        default_stride = self.kernel if self.kind.endswith("pool") else (1,) * self.ndim
        options = {
            "stride": _axes(self.stride) if self.stride != default_stride else "",
            "dilation": _axes(self.dilation) if set(self.dilation) != {1} else "",
            "padding": _axes(self.padding) if set(self.padding) != {(0, 0)} else "",
            "output_padding": _axes(self.output_padding) if any(self.output_padding) else "",
            "groups": str(self.groups) if self.groups != 1 else "",
            "ceil_mode": "yes" if self.ceil_mode else "",
            "bias": "no" if self.channels is not None and not self.bias else "",
        }
        pieces = [f"{key}={value}" for key, value in options.items() if value]
        return ",".join([":".join(head), *pieces])


def _axes(values: Iterable[int | tuple[int, int]]) -> str:
    """``5`` for (5, 5, 5), ``5x3x3`` for (5, 3, 3), ``1/2`` for the pair (1, 2)."""
    texts = []
    for value in values:
        low, high = value if isinstance(value, tuple) else (value, value)
        texts.append(str(low) if low == high else f"{low}/{high}")
    return texts[0] if len(set(texts)) == 1 else "x".join(texts)


def output_size(size: Sequence[int], layer: Layer) -> tuple[int, ...]:
    r"""Compute the number of samples along each axis after a layer.

    .. math:: \left\lfloor \frac{S + p_\text{low} + p_\text{high} - d(k-1) - 1}{s} \right\rfloor + 1

    for convolutions and pooling, and for transposed convolutions
    :math:`(S-1)\,s - p_\text{low} - p_\text{high} + d(k-1) + 1 + p_\text{out}`. With
    ``ceil_mode`` the quotient is rounded up, unless the last window would start after the input.

    Args:
        size: samples ``S`` of the input along each axis.
        layer: the layer, with kernel ``k``, stride ``s``, dilation ``d`` and padding ``p``.

    Raises:
        ShapeError: the numbers of axes differ, the output would be empty, or a window of a dilated
            max pooling would hold nothing but padding.

    >>> output_size((14, 14), Layer.build("conv", 2, kernel=5, channels=16))
    (10, 10)
    """
    if len(size) != layer.ndim:
        raise ShapeError(
            str(layer),
            expected=f"a size of {layer.ndim} axes",
            got=tuple(size),
            remedy="make both of one rank",
        )
    result = []
    for axis, (samples, (low, high), reach, step, extra) in enumerate(
        zip(size, layer.padding, layer.reach, layer.stride, layer.output_padding, strict=True)
    ):
        if layer.kind == "convtranspose":
            count = (samples - 1) * step - low - high + reach + 1 + extra
            need = f"an output left after padding {low}+{high}"
        else:
            remainder = samples + low + high - reach - 1
            count = remainder // step + 1
            if layer.ceil_mode and remainder % step and count * step < samples + low:
                count += 1
            need = f"at least {max(1, reach + 1 - low - high)} samples"
        if samples < 1 or count < 1:
            raise ShapeError(
                str(layer),
                expected=f"{need} along axis {axis}",
                got=f"{samples} samples",
                remedy="use a larger input, another padding or a smaller kernel",
            )
        if layer.kind == "maxpool" and max(layer.dilation) > 1 and (low or high):
            _check_windows(layer, axis, samples, count)
        result.append(count)
    return tuple(result)


def _check_windows(layer: Layer, axis: int, samples: int, count: int) -> None:
    """Check that every window of a dilated pooling has a tap inside of the input."""
    low, gap, reach = layer.padding[axis][0], layer.dilation[axis], layer.reach[axis]
    last = layer.stride[axis] * (count - 1) - low
    for start in (*range(-low, min(0, last), layer.stride[axis]), last):
        first = start if start >= 0 else start % gap  # the first tap that is not before the input
        if first >= samples or first > start + reach:
            raise ShapeError(
                str(layer),
                expected=f"a sample in every window along axis {axis}",
                got=f"none among {samples} samples in the window that starts at {start}",
                remedy="pad less, or use a smaller dilation",
            )
