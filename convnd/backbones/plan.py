"""What a VGG network is made of, without its weights."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from convnd.errors import UsageError
from convnd.registry import unknown_name
from convnd.shapes import Layer, ReceptiveField

__all__ = ["VGG16", "VGG19", "Part", "VGGPlan"]


class Part(NamedTuple):
    """One weight of a convolution.

    Attributes:
        kind: ``"conv"`` for the one that looks around; before it stands ``"project"`` and behind
            it ``"expand"``, if it is of low rank.
        channels: of its output.
        inputs: channels of its input.
        kernel: along each axis.
    """

    kind: str
    channels: int
    inputs: int
    kernel: int


@dataclass(frozen=True, kw_only=True)
class VGGPlan:
    """Widths of the 3-wide convolutions of a VGG network, block by block.

    A convolution of low rank has few channels before and behind its 3-wide part: 1-wide ones lead
    to the first and from the last, and only then comes the ReLU. What a convolution of VGG-19 says
    of pictures, and what it looks at, has far fewer dimensions than there are channels (Zhang et
    al., 2015, "Accelerating Very Deep Convolutional Networks"; both sides as in the Tucker-2
    decomposition of Kim et al., 2016, "Compression of Deep Convolutional Neural Networks").

    Args:
        widths: for each block the output channels of its convolutions; blocks are joined by
            pooling over 2 samples.
        projections: for each projected layer the output channels of a 1-wide linear map, which is
            applied to the features that the caller gets, and not to those of deeper layers.
        ranks: for each convolution of low rank the channels that its 3-wide part reads and gives.
            Where the first are as many as come in, no 1-wide one stands before it.
    """

    widths: tuple[tuple[int, ...], ...]
    projections: Mapping[str, int] = field(default_factory=dict)
    ranks: Mapping[str, tuple[int, int]] = field(default_factory=dict)

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
        return {**found, **self.projections}

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

    def receptive_fields(self, spatial_dims: int, behind: str = "") -> dict[str, ReceptiveField]:
        """Receptive field and stride of every layer.

        Args:
            spatial_dims: number of spatial axes.
            behind: a layer to count from; only those behind it are told.

        >>> [VGG19.receptive_fields(2, start)["pool2"].stride for start in ("", "pool1")]
        [(4, 4), (2, 2)]
        """
        stack = self.stack(spatial_dims)
        seen = ReceptiveField.identity(spatial_dims)
        fields = {}
        first = self.layers.index(behind) + 1 if behind else 0
        for name in self.layers[first:]:
            seen = seen.compose(stack[name]) if name in stack else seen
            fields[name] = seen
        return fields

    def parameters(self, spatial_dims: int, in_channels: int) -> dict[str, int]:
        """Weights and offsets of every layer that has some: convolutions and taps.

        >>> VGG19.parameters(2, 3)["conv1_1"]
        1792
        """
        found: dict[str, int] = {}
        for name, parts in self.parts(in_channels).items():
            last = parts[-1]
            weights = sum(each.channels * each.inputs * each.kernel**spatial_dims for each in parts)
            found[name] = weights + last.channels
            tap = name.replace("conv", "relu")
            if tap in self.projections:
                found[tap] = last.channels * self.projections[tap]
        return found

    def parts(self, in_channels: int) -> dict[str, tuple[Part, ...]]:
        """What every convolution is made of; only the last part has offsets.

        >>> plan = VGGPlan(widths=((8,), (8,)), ranks={"conv2_1": (4, 2)})
        >>> [tuple(part) for part in plan.parts(3)["conv2_1"]]
        [('project', 4, 8, 1), ('conv', 2, 4, 3), ('expand', 8, 2, 1)]
        """
        found: dict[str, tuple[Part, ...]] = {}
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
            found[name] = tuple(parts)
            inputs = width
        return found

    def truncate(self, layers: Sequence[str]) -> VGGPlan:
        """The same network, cut behind the deepest of ``layers``.

        Raises:
            UnknownNameError: a name is not one of `layers`.
            UsageError: there is none.

        >>> VGG19.truncate(["relu2_1", "relu1_2"]).widths
        ((64, 64), (128,))
        """
        if not layers:
            raise UsageError("layers", expected="at least one", got="none", remedy="name one")
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
            projections={
                name: width for name, width in self.projections.items() if name in kept_layers
            },
            ranks={name: rank for name, rank in self.ranks.items() if name in kept_layers},
        )


VGG16 = VGGPlan(widths=((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3))
VGG19 = VGGPlan(widths=((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4))
