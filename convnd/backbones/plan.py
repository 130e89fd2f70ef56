"""What a VGG network is made of, without its weights."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from convnd.errors import UsageError
from convnd.registry import unknown_name
from convnd.shapes import Layer, ReceptiveField

__all__ = ["VGG16", "VGG19", "VGGPlan"]


@dataclass(frozen=True, kw_only=True)
class VGGPlan:
    """Widths of the 3-wide convolutions of a VGG network, block by block.

    A convolution of low rank ends with a 1-wide one that leads from its few channels to all of
    them, and only then comes the ReLU: what a convolution of VGG-19 says of pictures has far fewer
    dimensions than channels (Zhang et al., 2015, "Accelerating Very Deep Convolutional Networks").

    Args:
        widths: for each block the output channels of its convolutions; blocks are joined by
            pooling over 2 samples.
        taps: for each tapped layer the channels of a 1-wide linear map on its features, applied
            only where they are asked for.
        ranks: for each convolution of low rank the channels of its 3-wide part.
    """

    widths: tuple[tuple[int, ...], ...]
    taps: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    ranks: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def convolutions(self) -> tuple[str, ...]:
        """Names of the convolutions, shallow to deep.

        >>> VGG16.convolutions[-1], len(VGG19.convolutions)
        ('conv5_3', 16)
        """
        return tuple(
            f"conv{block}_{index}"
            for block, widths in enumerate(self.widths, 1)
            for index, _ in enumerate(widths, 1)
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all layers, shallow to deep.

        >>> VGG19.layers[:6]
        ('conv1_1', 'relu1_1', 'conv1_2', 'relu1_2', 'pool1', 'conv2_1')
        """
        names: list[str] = []
        for block, widths in enumerate(self.widths, 1):
            for index, _ in enumerate(widths, 1):
                names += [f"conv{block}_{index}", f"relu{block}_{index}"]
            names.append(f"pool{block}")
        return tuple(names)

    @property
    def channels(self) -> dict[str, int]:
        """Channels of the features of every layer.

        >>> VGG19.channels["relu4_2"]
        512
        """
        found: dict[str, int] = {}
        width = 0
        widths = iter(itertools.chain(*self.widths))
        for name in self.layers:
            width = next(widths) if name.startswith("conv") else width
            found[name] = width
        return {**found, **self.taps}

    def stack(self, spatial_dims: int) -> dict[str, Layer]:
        """The geometry of every layer that has one of its own: all but the ReLUs.

        Args:
            spatial_dims: number of spatial axes.

        >>> VGG19.stack(1)["conv2_1"].weight_shape(64)
        (128, 64, 3)
        """
        widths = iter(itertools.chain(*self.widths))
        pooling = Layer.build("maxpool", spatial_dims, kernel=2)
        return {
            name: pooling
            if name.startswith("pool")
            else Layer.build("conv", spatial_dims, kernel=3, padding=1, channels=next(widths))
            for name in self.layers
            if not name.startswith("relu")
        }

    def fields(self, spatial_dims: int) -> dict[str, ReceptiveField]:
        """Receptive field and stride of every layer.

        >>> VGG19.fields(2)["pool1"].stride
        (2, 2)
        """
        stack = self.stack(spatial_dims)
        seen = ReceptiveField.identity(spatial_dims)
        fields = {}
        for name in self.layers:
            seen = seen.after(stack[name]) if name in stack else seen
            fields[name] = seen
        return fields

    def parameters(self, spatial_dims: int, in_channels: int) -> dict[str, int]:
        """Weights and offsets of every layer that has some: convolutions and taps.

        >>> VGG19.parameters(2, 3)["conv1_1"]
        1792
        """
        stack, channels = self.stack(spatial_dims), in_channels
        found: dict[str, int] = {}
        for name in self.layers:
            if name in self.taps:
                found[name] = channels * self.taps[name]
            elif name.startswith("conv"):
                width = stack[name].channels or channels
                rank = self.ranks.get(name)
                if rank is None:
                    found[name] = stack[name].parameters(channels)
                else:
                    found[name] = channels * 3**spatial_dims * rank + (rank + 1) * width
                channels = width
        return found

    def until(self, layers: Sequence[str]) -> VGGPlan:
        """The same network, cut behind the deepest of ``layers``.

        Raises:
            UnknownNameError: a name is not one of `layers`.
            UsageError: there is none.

        >>> VGG19.until(["relu2_1", "relu1_2"]).widths
        ((64, 64), (128,))
        """
        if not layers:
            raise UsageError("layers: expected at least one, got none; name one")
        for name in layers:
            if name not in self.layers:
                raise unknown_name("layer", name, list(self.layers))
        deepest = max(self.layers.index(name) for name in layers)
        kept = [name for name in self.layers[: deepest + 1] if name.startswith("conv")]
        widths = tuple(
            block[: sum(name.startswith(f"conv{number}_") for name in kept)]
            for number, block in enumerate(self.widths, 1)
        )
        kept_layers = self.layers[: deepest + 1]
        return VGGPlan(
            widths=tuple(block for block in widths if block),
            taps={name: width for name, width in self.taps.items() if name in kept_layers},
            ranks={name: rank for name, rank in self.ranks.items() if name in kept_layers},
        )


VGG16 = VGGPlan(widths=((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3))
VGG19 = VGGPlan(widths=((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4))
