"""The geometry of a layer: its arguments, its output size and its parameters."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex, TypeVar

from convnd.errors import ShapeError
from convnd.registry import check_name, unknown_name

__all__ = ["KINDS", "Layer", "Padding", "Pairs", "ntuple", "output_size", "pad_pairs"]

Padding = str | SupportsIndex | Sequence[SupportsIndex | Sequence[SupportsIndex]]
"""``"same"``, ``"valid"``, one number, one per axis, or a ``(low, high)`` pair per axis."""

KINDS = ("conv", "convtranspose", "maxpool", "avgpool")
"""The kinds of `Layer`."""

Pairs = tuple[tuple[int, int], ...]

T = TypeVar("T")


def ntuple(
    value: SupportsIndex | Sequence[SupportsIndex], ndim: int, name: str, *, minimum: int = 1
) -> tuple[int, ...]:
    """One whole number for each axis: a single number is repeated, a sequence is checked.

    Args:
        value: a whole number, or one for each of the ``ndim`` axes.
        ndim: number of spatial axes.
        name: the argument's name, for the message.
        minimum: smallest valid value.

    Raises:
        ShapeError: the number of values is wrong, or a value is below ``minimum`` or not whole.

    >>> ntuple(3, 2, "kernel_size"), ntuple((1, 2), 2, "stride")
    ((3, 3), (1, 2))
    """
    try:
        values = (operator.index(value),) * ndim  # type: ignore[arg-type]
    except TypeError:
        try:
            values = tuple(operator.index(item) for item in value)  # type: ignore[union-attr]
        except TypeError:
            values = ()
    if len(values) != ndim or min(values, default=minimum) < minimum:
        raise ShapeError(
            name,
            expected=f"one whole number of at least {minimum}, or {ndim} of them",
            got=repr(value),
            remedy="give one for all axes or one for each",
        )
    return values


def pad_pairs(
    padding: Padding, ndim: int, *, reach: Sequence[int] | None = None, name: str = "padding"
) -> Pairs:
    """Padding before and after each axis, from any of its notations.

    Args:
        padding: ``"same"``, ``"valid"``, one number, one per axis, or a ``(low, high)`` pair per
            axis.
        ndim: number of spatial axes.
        reach: samples that ``"same"`` adds along each axis, ``dilation · (kernel − 1)``; the larger
            half comes after, as in torch. With stride s the output has ``ceil(S / s)`` samples.
        name: the argument's name, for the message.

    Raises:
        ShapeError: another notation, or a negative number.

    >>> pad_pairs("same", 2, reach=(2, 3)), pad_pairs(((0, 1), 4), 2)
    (((1, 1), (1, 2)), ((0, 1), (4, 4)))
    """
    words = ("valid",) if reach is None else ("same", "valid")
    if isinstance(padding, str):
        if padding not in words:
            raise unknown_name(name, padding, [*words, "a number"])
        totals = reach if padding == "same" and reach is not None else (0,) * ndim
        return tuple((total // 2, total - total // 2) for total in totals)
    items: list[Any] = list(padding) if isinstance(padding, Iterable) else [padding] * ndim
    if len(items) != ndim:
        raise ShapeError(
            name,
            expected=f"{ndim} entries",
            got=repr(padding),
            remedy="give a number for all axes, or a number or a (low, high) pair for each",
        )
    pairs = (
        ntuple(item, 2, f"{name} of axis {axis}", minimum=0) for axis, item in enumerate(items)
    )
    return tuple((low, high) for low, high in pairs)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Geometry of one convolution, transposed convolution or pooling.

    `build` fills in defaults. ``str`` gives the notation that `parse_layer` reads.

    Args:
        kind: one of `KINDS`.
        kernel: taps along each axis; its length is the number of spatial axes.
        stride: step between windows along each axis; for a transposed convolution, between the
            output positions of its input samples.
        dilation: distance between the taps of a window.
        padding: ``(low, high)`` per axis; a transposed convolution crops its output by it.
        channels: output channels of a convolution; None for a pooling, which keeps them.
        groups: groups that the channels are divided into.
        bias: whether there is one bias per output channel.
        output_padding: samples added after the output of a transposed convolution.

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
    ) -> Layer:
        """Build a layer from arguments as in `convnd.nn`.

        Args:
            kind: one of `KINDS`.
            spatial_dims: number of spatial axes.
            kernel: one size for all axes or one for each, like the arguments after it.
            stride: default: 1 for convolutions, the kernel for pooling.
            dilation: distance between taps.
            padding: as in `pad_pairs`.
            channels: output channels of a convolution.
            groups: groups that the channels are divided into.
            bias: whether there is one bias per output channel.
            output_padding: samples added after the output of a transposed convolution.

        Raises:
            UnknownNameError: no such kind.
            ShapeError: an argument does not fit the number of axes, or the kind.
        """
        check_name("layer", kind, KINDS)
        pooling = kind.endswith("pool")
        taps = ntuple(kernel, spatial_dims, f"{kind} kernel")
        if stride is None:
            stride = taps if pooling else 1
        steps = ntuple(stride, spatial_dims, f"{kind} stride")
        gaps = ntuple(dilation, spatial_dims, f"{kind} dilation")
        extra = ntuple(output_padding, spatial_dims, f"{kind} output_padding", minimum=0)
        reach = tuple(gap * (tap - 1) for tap, gap in zip(taps, gaps, strict=True))
        # "same" is meaningless if the output is larger than the input.
        same = None if kind == "convtranspose" else reach
        pairs = pad_pairs(padding, spatial_dims, reach=same, name=f"{kind} padding")
        layer = cls(
            kind=kind,
            kernel=taps,
            stride=steps,
            dilation=gaps,
            padding=pairs,
            channels=channels,
            groups=groups,
            bias=bias and not pooling,
            output_padding=extra,
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

        def others(values: tuple[T, ...]) -> tuple[T, ...]:
            return values[:axis] + values[axis + 1 :]

        return dataclasses.replace(
            self,
            kernel=others(self.kernel),
            stride=others(self.stride),
            dilation=others(self.dilation),
            padding=others(self.padding),
            output_padding=others(self.output_padding),
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
    r"""Samples along each axis after ``layer``.

    .. math:: \left\lfloor \frac{S + p_\text{low} + p_\text{high} - d(k-1) - 1}{s} \right\rfloor + 1

    for convolutions and pooling, and for transposed convolutions
    :math:`(S-1)\,s - p_\text{low} - p_\text{high} + d(k-1) + 1 + p_\text{out}`.

    Raises:
        ShapeError: the numbers of axes differ, or the output would be empty.

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
    for axis, (samples, (low, high), reach, step, more) in enumerate(
        zip(size, layer.padding, layer.reach, layer.stride, layer.output_padding, strict=True)
    ):
        if layer.kind == "convtranspose":
            count = (samples - 1) * step - low - high + reach + 1 + more
            need = f"an output left after padding {low}+{high}"
        else:
            count = (samples + low + high - reach - 1) // step + 1
            need = f"at least {max(1, reach + 1 - low - high)} samples"
        if samples < 1 or count < 1:
            raise ShapeError(
                str(layer),
                expected=f"{need} along axis {axis}",
                got=f"{samples} samples",
                remedy="use a larger input, another padding or a smaller kernel",
            )
        result.append(count)
    return tuple(result)
