"""Sizes, costs and receptive fields through a stack of layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from convnd.shapes.layer import Layer, output_size
from convnd.shapes.receptive_field import ReceptiveField
from convnd.shapes.tuples import ntuple

__all__ = ["Row", "trace"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """The output and the cost of one layer of a stack.

    Args:
        layer: the layer; None for the first row, which is the input.
        size: samples of the output along each axis.
        channels: channels of the output.
        parameters: number of weights and biases.
        multiply_adds: number of multiplications with an addition, for one example; windows over the
            padding count in full, and poolings do not count.
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
    """Trace one example through a stack of layers.

    Args:
        size: samples of the input along each axis.
        channels: channels of the input.
        layers: the stack, from first to last.

    Returns:
        One row for the input and one for each layer.

    Raises:
        ShapeError: a layer does not fit its input.

    >>> conv = [Layer.build("conv", 1, kernel=5, channels=n) for n in (16, 32)]
    >>> [(row.size, row.channels) for row in trace((14,), 1, conv)]
    [((14,), 1), ((10,), 16), ((6,), 32)]
    """
    size = ntuple(size, len(size), "input size")
    channels = ntuple(channels, 1, "input channels")[0]
    field = ReceptiveField.identity(len(size))
    rows = [
        Row(layer=None, size=size, channels=channels, parameters=0, multiply_adds=0, field=field)
    ]
    for layer in layers:
        input_size, size = size, output_size(size, layer)
        # A transposed convolution multiplies every input sample by every weight.
        positions = math.prod(input_size if layer.kind == "convtranspose" else size)
        row = Row(
            layer=layer,
            size=size,
            channels=channels if layer.channels is None else layer.channels,
            parameters=layer.parameters(channels),
            multiply_adds=positions * layer.weight_count(channels),
            field=(field := field.compose(layer)),
        )
        channels = row.channels
        rows.append(row)
    return tuple(rows)
