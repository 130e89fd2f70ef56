"""The architecture of a VGG network, without its weights."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from convnd.errors import UsageError
from convnd.registry import check_name
from convnd.shapes import Layer, ReceptiveField

__all__ = ["VGG16", "VGG19", "Block", "Part", "VGGPlan"]


class Part(NamedTuple):
    """One of the convolutions that a layer consists of.

    Attributes:
        kind: ``"conv"`` for the 3-wide convolution. A layer of low rank also has 1-wide ones:
            ``"expand"`` after it, and often ``"project"`` before it.
        channels: number of output channels.
        inputs: number of input channels.
        kernel: width of the kernel along each axis.
    """

    kind: str
    channels: int
    inputs: int
    kernel: int


class Block(NamedTuple):
    """A convolution with the ReLU and the pooling after it.

    Attributes:
        convolution: name of the layer.
        relu: name of the layer, or "" if it is not needed.
        pool: name of the layer, or "" if it is not needed.
        has_fused_relu: whether the convolution ends with the ReLU; it does not if its own values,
            before the ReLU, are needed.
        is_only_pooled: whether nothing but the pooling reads the output of the ReLU.
    """

    convolution: str
    relu: str
    pool: str
    has_fused_relu: bool
    is_only_pooled: bool


@dataclass(frozen=True, kw_only=True)
class VGGPlan:
    """Widths of the 3-wide convolutions of a VGG network, block by block.

    A convolution of low rank consists of a 1-wide convolution to few channels, the 3-wide one, and
    a 1-wide one back to many channels, followed by the ReLU. It suffices because the inputs and
    outputs of a VGG-19 convolution span far fewer dimensions than they have channels (Zhang et al.,
    2015, "Accelerating Very Deep Convolutional Networks"; both sides as in the Tucker-2
    decomposition of Kim et al., 2016, "Compression of Deep Convolutional Neural Networks").

    Args:
        widths: output channels of the convolutions of each block; a pooling follows each block.
        projections: output channels of a 1-wide linear map, by layer. The map applies to the
            features that the caller gets, and not to the input of the next layer.
        ranks: input and output channels of the 3-wide part, by name of the convolution of low rank.
            No 1-wide convolution precedes a part with as many input channels as the layer before
            has.
        pool: samples of a pooling window along each axis. Networks for pictures pool 2 by 2, which
            leaves a quarter of the positions to each further block; with one axis 4 do so.
    """

    widths: tuple[tuple[int, ...], ...]
    projections: Mapping[str, int] = field(default_factory=dict)
    ranks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    pool: int = 2

    @property
    def convolutions(self) -> tuple[str, ...]:
        """Names of the convolutions, from shallow to deep.

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
        """Names of all layers, from shallow to deep.

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
        """Number of channels of the features, by layer.

        >>> VGG19.channels["relu4_2"]
        512
        """
        channels: dict[str, int] = {}
        width = 0
        widths = iter(itertools.chain(*self.widths))
        for name in self.layers:
            width = next(widths) if name.startswith("conv") else width
            channels[name] = width
        return {**channels, **self.projections}

    def geometry(self, spatial_dims: int) -> dict[str, Layer]:
        """Compute the geometry of every layer except the ReLUs.

        Args:
            spatial_dims: number of spatial axes.

        >>> VGG19.geometry(1)["conv2_1"].weight_shape(64)
        (128, 64, 3)
        """
        widths = iter(itertools.chain(*self.widths))
        pooling = Layer.build("maxpool", spatial_dims, kernel=self.pool)
        return {
            name: pooling
            if name.startswith("pool")
            else Layer.build("conv", spatial_dims, kernel=3, padding=1, channels=next(widths))
            for name in self.layers
            if not name.startswith("relu")
        }

    def receptive_fields(
        self, spatial_dims: int, input_layer: str = ""
    ) -> dict[str, ReceptiveField]:
        """Compute the receptive field of every layer.

        Args:
            spatial_dims: number of spatial axes.
            input_layer: layer whose positions the fields count; only deeper layers are listed. An
                empty name is the input of the network.

        >>> [VGG19.receptive_fields(2, start)["pool2"].stride for start in ("", "pool1")]
        [(4, 4), (2, 2)]
        """
        geometry = self.geometry(spatial_dims)
        field = ReceptiveField.identity(spatial_dims)
        fields = {}
        first = self.layers.index(input_layer) + 1 if input_layer else 0
        for name in self.layers[first:]:
            field = field.compose(geometry[name]) if name in geometry else field
            fields[name] = field
        return fields

    def parameters(self, spatial_dims: int, in_channels: int) -> dict[str, int]:
        """Count the weights and biases of every convolution and projection.

        Args:
            spatial_dims: number of spatial axes.
            in_channels: number of channels of the input.

        >>> VGG19.parameters(2, 3)["conv1_1"]
        1792
        """
        counts: dict[str, int] = {}
        for name, parts in self.parts(in_channels).items():
            channels = parts[-1].channels
            counts[name] = channels + sum(
                part.channels * part.inputs * part.kernel**spatial_dims for part in parts
            )
            relu = name.replace("conv", "relu")
            if relu in self.projections:
                counts[relu] = channels * self.projections[relu]
        return counts

    def parts(self, in_channels: int) -> dict[str, tuple[Part, ...]]:
        """List the convolutions that every layer consists of; only the last of each has a bias.

        Args:
            in_channels: number of channels of the input.

        >>> plan = VGGPlan(widths=((8,), (8,)), ranks={"conv2_1": (4, 2)})
        >>> [tuple(part) for part in plan.parts(3)["conv2_1"]]
        [('project', 4, 8, 1), ('conv', 2, 4, 3), ('expand', 8, 2, 1)]
        """
        parts_of: dict[str, tuple[Part, ...]] = {}
        inputs = in_channels
        widths = itertools.chain(*self.widths)
        for name, width in zip(self.convolutions, widths, strict=True):
            if name in self.ranks:
                inner, rank = self.ranks[name]
                parts = [Part("conv", rank, inner, 3), Part("expand", width, rank, 1)]
                if inner < inputs:
                    parts.insert(0, Part("project", inner, inputs, 1))
            else:
                parts = [Part("conv", width, inputs, 3)]
            parts_of[name] = tuple(parts)
            inputs = width
        return parts_of

    def blocks(self, layers: Collection[str], available: Sequence[str]) -> Iterator[Block]:
        """Yield the blocks down to the deepest of some layers.

        Args:
            layers: names of the layers whose features are needed.
            available: names of the layers of the network, from shallow to deep; the deep part of a
                network that was split lacks the first.

        >>> [block.convolution for block in VGG19.blocks(["relu2_1"], VGG19.layers)]
        ['conv1_1', 'conv1_2', 'conv2_1']
        """
        depth = {name: index for index, name in enumerate(available)}
        deepest = max(depth[name] for name in layers)
        for name in self.convolutions:
            if depth.get(name, deepest + 1) > deepest:  # before the first layer, or too deep
                continue
            relu = name.replace("conv", "relu")
            next_layer = available[depth[relu] + 1]
            has_relu = depth[relu] <= deepest
            has_pool = next_layer.startswith("pool") and depth[next_layer] <= deepest
            has_fused_relu = has_relu and name not in layers
            yield Block(
                convolution=name,
                relu=relu if has_relu else "",
                pool=next_layer if has_pool else "",
                has_fused_relu=has_fused_relu,
                is_only_pooled=has_fused_relu and has_pool and relu not in layers,
            )

    def truncate(self, layers: Sequence[str]) -> VGGPlan:
        """Leave out the layers that are deeper than all of ``layers``.

        Args:
            layers: names of layers, at least one.

        Raises:
            UnknownNameError: a name is not one of `layers`.
            UsageError: ``layers`` is empty.

        >>> VGG19.truncate(["relu2_1", "relu1_2"]).widths
        ((64, 64), (128,))
        """
        if not layers:
            raise UsageError("layers", expected="at least one", got="none", remedy="name one")
        for name in layers:
            check_name("layer", name, self.layers)
        deepest = max(self.layers.index(name) for name in layers)
        layers = self.layers[: deepest + 1]
        widths = tuple(
            block[: sum(name.startswith(f"conv{number}_") for name in layers)]
            for number, block in enumerate(self.widths, 1)
        )
        return VGGPlan(
            widths=tuple(block for block in widths if block),
            projections={name: width for name, width in self.projections.items() if name in layers},
            ranks={name: rank for name, rank in self.ranks.items() if name in layers},
            pool=self.pool,
        )


VGG16 = VGGPlan(widths=((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3))
VGG19 = VGGPlan(widths=((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4))
