"""The receptive field of a layer: the input samples that a position depends on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from convnd.errors import ShapeError
from convnd.shapes.layer import Layer

__all__ = ["ReceptiveField"]


@dataclass(frozen=True)
class ReceptiveField:
    r"""The input samples that a position of a layer depends on.

    Position ``k`` depends on the input samples ``p`` with
    ``offset + k·stride ≤ p < offset + k·stride + size``. Samples outside the input are padding.
    With dilation, this range also includes samples between the taps.

    A field of size n, stride r and offset o, composed with a layer that has size k', stride s' and
    offset o' in its own input, has size, stride and offset

    .. math:: n + r\,(k' - 1),\qquad r\,s',\qquad o + r\,o'

    (Araujo et al., "Computing receptive fields of convolutional neural networks", Distill 2019).
    After a transposed convolution the stride is a fraction, and size and offset may be fractions
    too. The field is then the set of whole ``p`` with
    ``offset + k·stride ≤ p ≤ offset + k·stride + size − 1``. Its number of samples varies from
    position to position; `span` is the largest. For one such layer the field is exact; combined
    with other layers it is never too small, and sometimes a sample too large.

    Args:
        size: extent along each axis, in input samples.
        stride: distance between neighbouring positions along each axis, in input samples.
        offset: first sample of the field of position 0 along each axis; negative through padding.

    >>> field = ReceptiveField.identity(1)
    >>> for _ in range(2):
    ...     field = field.compose(Layer.build("conv", 1, kernel=5, channels=16))
    >>> field.size, field.stride, field.region((3,), (14,))
    ((9,), (1,), (slice(3, 12, None),))
    """

    size: tuple[int | Fraction, ...]
    stride: tuple[int | Fraction, ...]
    offset: tuple[int | Fraction, ...]

    @classmethod
    def identity(cls, ndim: int) -> ReceptiveField:
        """The field of the input itself, in which a position depends on itself alone."""
        return cls((1,) * ndim, (1,) * ndim, (0,) * ndim)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.size)

    @property
    def span(self) -> tuple[int, ...]:
        """Largest number of input samples along each axis that a position depends on."""
        return tuple(math.floor(size) for size in self.size)

    def compose(self, layer: Layer) -> ReceptiveField:
        """Compute the field of a layer whose input has this field.

        Args:
            layer: the layer.

        Raises:
            ShapeError: the layer has another number of axes.
        """
        if layer.ndim != self.ndim:
            raise ShapeError(
                str(layer),
                expected=f"a receptive field of {layer.ndim} axes",
                got=self.ndim,
                remedy="make both of one rank",
            )
        sizes, strides, offsets = [], [], []
        for axis, (reach, step, (low, _)) in enumerate(
            zip(layer.reach, layer.stride, layer.padding, strict=True)
        ):
            size, stride, offset = self.size[axis], self.stride[axis], self.offset[axis]
            if layer.kind == "convtranspose":
                # Output o reads input i through tap t, where o = i·step − low + dilation·t.
                inner = Fraction(1, step), Fraction(low - reach, step), Fraction(reach, step)
            else:
                inner = Fraction(step), Fraction(-low), Fraction(reach)
            sizes.append(_simplify(size + stride * inner[2]))
            strides.append(_simplify(stride * inner[0]))
            offsets.append(_simplify(offset + stride * inner[1]))
        return ReceptiveField(tuple(sizes), tuple(strides), tuple(offsets))

    def window(self, index: Sequence[int | range]) -> tuple[range, ...]:
        """Compute the input samples that a position, or a block of positions, depends on.

        The extent of the input is ignored: the samples may lie outside it.

        Args:
            index: one position, or one range of positions, for each axis.

        Raises:
            ShapeError: another number of axes.

        >>> first = ReceptiveField.identity(2).compose(
        ...     Layer.build("conv", 2, kernel=3, padding="same", channels=1)
        ... )
        >>> first.window((0, range(2, 4)))
        (range(-1, 2), range(1, 5))
        """
        if len(index) != self.ndim:
            raise ShapeError(
                "receptive field",
                expected=f"an index of {self.ndim} axes",
                got=tuple(index),
                remedy="give a position or a range for each",
            )
        result = []
        for item, size, stride, offset in zip(
            index, self.size, self.stride, self.offset, strict=True
        ):
            block = item if isinstance(item, range) else range(item, item + 1)
            low = math.ceil(offset + min(block, default=0) * stride)
            high = math.floor(offset + max(block, default=0) * stride + size - 1)
            result.append(range(low, high + 1 if block else low))
        return tuple(result)

    def region(self, index: Sequence[int | range], extent: Sequence[int]) -> tuple[slice, ...]:
        """Compute `window` and crop it to the input, to index ``x[(..., *region)]``.

        Args:
            index: one position, or one range of positions, for each axis.
            extent: samples of the input along each axis.

        Raises:
            ShapeError: another number of axes.
        """
        if len(extent) != self.ndim:
            raise ShapeError(
                "receptive field",
                expected=f"an extent of {self.ndim} axes",
                got=tuple(extent),
                remedy="leave out the batch and channel axes",
            )
        return tuple(
            slice(start := min(max(part.start, 0), count), max(min(part.stop, count), start))
            for part, count in zip(self.window(index), extent, strict=True)
        )


def _simplify(value: int | Fraction) -> int | Fraction:
    """An int if the value is whole, so that ordinary stacks have no fractions."""
    return int(value) if value == int(value) else value
