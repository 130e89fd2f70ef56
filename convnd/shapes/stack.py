"""One example followed through a stack of layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from convnd.shapes.layer import Layer, ntuple, output_size
from convnd.shapes.receptive_field import ReceptiveField

__all__ = ["Row", "trace"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A stage of a stack: what comes out of it, and what it takes.

    Args:
        layer: the layer; None for the first row, which is the input.
        size: samples along each axis.
        channels: channels.
        parameters: weights and offsets.
        multiply_adds: of one example; windows that touch the padding count in full, poolings
            count nothing.
        field: receptive field in the input of the stack.
    """

    layer: Layer | None
    size: tuple[int, ...]
    channels: int
    parameters: int
    multiply_adds: int
    field: ReceptiveField

    @property
    def text(self) -> str:
        """The layer in its notation, or ``"input"``."""
        return "input" if self.layer is None else str(self.layer)


def trace(size: Sequence[int], channels: int, layers: Iterable[Layer]) -> tuple[Row, ...]:
    """Follow one example through a stack.

    Args:
        size: samples of the input along each axis.
        channels: channels of the input.
        layers: the stack, first layer first.

    Returns:
        One row for the input and one for each layer.

    Raises:
        ShapeError: a layer does not fit what it is given.

    >>> conv = [Layer.build("conv", 1, kernel=5, channels=n) for n in (16, 32)]
    >>> [(row.size, row.channels) for row in trace((14,), 1, conv)]
    [((14,), 1), ((10,), 16), ((6,), 32)]
    """
    size = ntuple(size, len(size), "input size")
    channels = ntuple(channels, 1, "input channels")[0]
    field = ReceptiveField.identity(len(size))
    rows = [
        Row(
            layer=None,
            size=size,
            channels=channels,
            parameters=0,
            multiply_adds=0,
            field=field,
        )
    ]
    for layer in layers:
        before, size = size, output_size(size, layer)
        # A transposed convolution multiplies every input sample by every weight.
        places = math.prod(before if layer.kind == "convtranspose" else size)
        row = Row(
            layer=layer,
            size=size,
            channels=channels if layer.channels is None else layer.channels,
            parameters=layer.parameters(channels),
            multiply_adds=places * layer.weight_count(channels),
            field=(field := field.compose(layer)),
        )
        channels = row.channels
        rows.append(row)
    return tuple(rows)
