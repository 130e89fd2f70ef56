"""The numbers that determine the layers of a network for one style."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from convnd.options import Range, check_range
from convnd.shapes import Layer, ReceptiveField

__all__ = ["INPUT", "OUTPUT", "NetworkShape"]

INPUT = "input"
"""Name of the normalisation of the input, whose channels are those of `channel_basis`."""

OUTPUT = "output"
"""Name of the output in `NetworkShape.receptive_fields`."""

_END_KERNELS = {1: 9, 2: 5}
"""Taps of the first and last convolution along each axis; 3 for more axes."""

_WIDTHS = {1: (16, 3, 4), 2: (16, 2, 4), 3: (8, 2, 3)}
"""Width, levels and blocks for each rank, see `NetworkShape`."""

_MOST = {"spatial_dims": 8, "channels": 64, "width": 64, "levels": 5, "blocks": 16}


@dataclass(frozen=True, kw_only=True)
class NetworkShape:
    """The numbers that determine the layers of a `TransformNet`.

    Args:
        spatial_dims: number of spatial axes.
        channels: channels of the input and of the output.
        width: channels at full resolution; they double with each level.
        levels: number of times that the resolution is halved.
        blocks: number of residual blocks at the lowest resolution.

    Raises:
        UsageError: a number is outside its range.

    >>> NetworkShape.for_rank(2, 3)
    NetworkShape(spatial_dims=2, channels=3, width=16, levels=2, blocks=4)
    """

    spatial_dims: int
    channels: int
    width: int
    levels: int
    blocks: int

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            check_range(name, getattr(self, name), Range(1, most))

    @classmethod
    def for_rank(cls, spatial_dims: int, channels: int) -> NetworkShape:
        """Return the default shape for a number of spatial axes and of channels."""
        width, levels, blocks = _WIDTHS.get(spatial_dims, (4, 1, 2))
        return cls(
            spatial_dims=spatial_dims, channels=channels, width=width, levels=levels, blocks=blocks
        )

    @property
    def stride(self) -> int:
        """Samples of the input along each axis for one of the lowest resolution."""
        return 1 << self.levels

    @property
    def end_kernel(self) -> int:
        """Taps of the first and last convolution along each axis."""
        return _END_KERNELS.get(self.spatial_dims, 3)

    @property
    def normalized_layers(self) -> list[str]:
        """The names of the normalisations, in the order of their use."""
        return [*self.receptive_fields][:-1]

    @property
    def receptive_field(self) -> ReceptiveField:
        """The input samples that one output sample depends on, statistics of the field aside.

        >>> NetworkShape.for_rank(2, 3).receptive_field.size
        (88, 88)
        """
        return self.receptive_fields[OUTPUT]

    @cached_property
    def receptive_fields(self) -> Mapping[str, ReceptiveField]:
        """The receptive field of what each normalisation reads, and of the output, in their order.

        Statistics of the field do not count.
        """
        end, three = self.end_kernel, 3
        deep = [("conv", end, 1), *[("conv", three, 2)] * self.levels]
        deep += [("conv", three, 1)] * (2 * self.blocks)
        doubling = [("convtranspose", 2, 2), ("conv", three, 1)]
        layers = {INPUT: [], "up0": [*deep, *doubling]}
        layers |= {f"up{level}": doubling for level in range(1, self.levels)}
        layers[OUTPUT] = [("conv", end, 1)]
        field = ReceptiveField.identity(self.spatial_dims)
        fields = {}
        for name, operations in layers.items():
            for kind, kernel, step in operations:
                layer = Layer.build(
                    kind,
                    self.spatial_dims,
                    kernel=kernel,
                    stride=step,
                    padding=kernel // 2 if kind == "conv" else 0,
                    channels=1,
                )
                field = field.compose(layer)
            fields[name] = field
        return fields

    def record(self) -> dict[str, int]:
        """Return the numbers by name."""
        return dataclasses.asdict(self)
