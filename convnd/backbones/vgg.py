"""VGG networks over any number of spatial axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnd import shapes
from convnd.backbones.base import Backbone
from convnd.backbones.frozen import frozen_conv, frozen_max_pool
from convnd.errors import ShapeError, UsageError
from convnd.nn import avg_pool_nd, conv_nd
from convnd.registry import unknown_name

__all__ = ["VGG", "VGG16", "VGG19", "VGGPlan"]

_POOLINGS = ("max", "avg")


@dataclass(frozen=True, kw_only=True)
class VGGPlan:
    """Widths of the 3-wide convolutions of a VGG network, block by block.

    Args:
        widths: for each block the output channels of its convolutions; blocks are joined by
            pooling over 2 samples.
        taps: for each tapped layer the channels of a 1-wide linear map on its features, applied
            only where they are asked for.
    """

    widths: tuple[tuple[int, ...], ...]
    taps: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

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
        )


VGG16 = VGGPlan(widths=((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3))
VGG19 = VGGPlan(widths=((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4))


class VGG(Backbone):
    r"""VGG (Simonyan and Zisserman, 2014) without its classifier, over ``N`` spatial axes.

    Blocks of convolutions 3 wide in every axis, zero padding 1, ReLU, joined by pooling over 2.
    The input is ``x - mean``; any scaling of the values is part of the first weights.

    An axis of length 1 in the input is treated as a field that is constant along it: the kernels
    are summed over that axis and nothing is pooled there. So a length-1 axis changes nothing.

    Args:
        plan: widths of the convolutions.
        spatial_dims: number of spatial axes ``N``.
        in_channels: channels of the input.
        pooling: ``"max"`` as trained, or ``"avg"``, which Gatys et al. (2016) found smoother.
        generator: source of the random weights (He et al., 2015) that it starts with.

    Raises:
        UsageError: ``pooling`` is something else.

    >>> net = VGG(VGG19.until(["relu2_1"]), spatial_dims=3, in_channels=1)
    >>> net(torch.zeros(1, 1, 8, 8, 8), ["relu2_1"])["relu2_1"].shape
    torch.Size([1, 128, 4, 4, 4])
    >>> net.fields["relu2_1"].size
    (10, 10, 10)
    """

    mean: Tensor
    fast: bool = False

    def __init__(
        self,
        plan: VGGPlan,
        *,
        spatial_dims: int = 2,
        in_channels: int = 3,
        pooling: str = "max",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if pooling not in _POOLINGS:
            raise UsageError(
                f"VGG: expected pooling one of {', '.join(_POOLINGS)}, got {pooling!r}; choose one"
            )
        self.plan = plan
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.layers = plan.layers
        self.pooling = pooling
        self.register_buffer("mean", torch.zeros(in_channels))
        widths = dict(zip(plan.convolutions, itertools.chain(*plan.widths), strict=True))
        inputs = (in_channels, *widths.values())
        self.convolutions = nn.ModuleDict(
            {
                name: _Convolution((width, channels, *[3] * spatial_dims), generator)
                for (name, width), channels in zip(widths.items(), inputs, strict=False)
            }
        )
        self.taps = nn.ModuleDict(
            {
                layer: _Convolution(
                    (width, widths[layer.replace("relu", "conv")], *[1] * spatial_dims),
                    generator,
                    bias=False,
                )
                for layer, width in plan.taps.items()
            }
        )
        self.fields = self._receptive_fields()

    def _receptive_fields(self) -> dict[str, shapes.ReceptiveField]:
        convolution = shapes.Layer.build("conv", self.spatial_dims, kernel=3, padding=1, channels=1)
        pooling = shapes.Layer.build("maxpool", self.spatial_dims, kernel=2)
        field = shapes.ReceptiveField.identity(self.spatial_dims)
        fields = {}
        for name in self.layers:
            if not name.startswith("relu"):
                field = field.after(convolution if name.startswith("conv") else pooling)
            fields[name] = field
        return fields

    def forward(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """See `Backbone.forward`."""
        self.check(x, layers)
        if not layers:
            return {}
        constant = tuple(axis for axis, extent in enumerate(x.shape[2:]) if extent == 1)
        h = x - self.mean.view(-1, *[1] * self.spatial_dims)
        features: dict[str, Tensor] = {}
        trained = next(self.convolutions.parameters()).requires_grad
        place = {name: index for index, name in enumerate(self.layers)}
        deepest = max(place[name] for name in layers)
        for name in self.plan.convolutions:
            if place[name] > deepest:
                break
            rectified = name.replace("conv", "relu")
            behind = self.layers[place[rectified] + 1]
            relu = place[rectified] <= deepest
            pool = behind.startswith("pool") and place[behind] <= deepest
            # What nobody else reads need not exist: values before ReLU, and signs that the
            # maximum of a pooling tells as well.
            fused = relu and name not in layers
            by_pool = (
                fused and pool and not trained and rectified not in layers and self.pooling == "max"
            )
            h = self.convolutions[name](
                h,
                constant,
                relu=fused,
                keep=rectified in layers and rectified not in self.taps,
                gate=not by_pool,
                fast=self.fast,
                dtype=self.dtype,
            )
            features[name] = h
            if relu:
                h = h if fused else F.relu(h)
                features[rectified] = self.taps[rectified](h, ()) if rectified in self.taps else h
            if pool:
                h = features[behind] = self._pool(h, behind, constant, rectified=by_pool)
            for unread in [each for each in features if each not in layers]:
                del features[unread]
        return {name: features[name] for name in layers}

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the features, which is that of the deepest weights."""
        *_, deepest = self.convolutions.parameters()
        return deepest.dtype

    def footprint(self, size: Sequence[int], layers: Sequence[str]) -> int:
        """See `Backbone.footprint`."""
        # For the way back are kept: features that are asked for, one byte for each other ReLU's
        # sign, and for each pooling the places of its maxima. Beside them live, for a moment,
        # a layer's input, its output, and a third one where gradients meet.
        width = self.dtype.itemsize
        deepest = max((self.layers.index(name) for name in layers), default=-1)
        kept, largest = 0, 0
        channels = 0
        widths = iter(itertools.chain(*self.plan.widths))
        for name in self.layers[: deepest + 1]:
            stride = self.fields[name].stride
            positions = math.prod(
                max(1, extent // int(step)) for extent, step in zip(size, stride, strict=True)
            )
            if name.startswith("conv"):
                channels = next(widths)
                largest = max(largest, positions * channels * width)
            each = width if name in layers else {"relu": 1, "pool": 9}.get(name[:4], 0)
            kept += positions * channels * each
        return kept + 3 * largest

    def _pool(self, h: Tensor, name: str, constant: tuple[int, ...], *, rectified: bool) -> Tensor:
        kernel = [1 if axis in constant else 2 for axis in range(self.spatial_dims)]
        if any(extent < width for extent, width in zip(h.shape[2:], kernel, strict=True)):
            raise ShapeError(
                f"VGG: expected at least {2 ** int(name.removeprefix('pool'))} samples along each "
                f"axis to reach {name}, got an input that has shrunk to {tuple(h.shape[2:])} "
                "before it; use a larger input or shallower layers"
            )
        if self.pooling == "max":
            return frozen_max_pool(h, kernel, rectified=rectified)
        return avg_pool_nd(h, kernel)


class _Convolution(nn.Module):
    """A frozen convolution of odd width with zero padding that keeps the extent."""

    def __init__(
        self, shape: tuple[int, ...], generator: torch.Generator | None, bias: bool = True
    ) -> None:
        super().__init__()
        deviation = (2 / math.prod(shape[1:])) ** 0.5
        weight = torch.empty(shape).normal_(0, deviation, generator=generator)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(shape[0]), requires_grad=False) if bias else None

    def forward(
        self,
        h: Tensor,
        constant: tuple[int, ...],
        *,
        relu: bool = False,
        keep: bool = False,
        gate: bool = True,
        fast: bool = False,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        weight: Tensor = self.weight
        for axis in constant:
            weight = weight.sum(axis + 2, keepdim=True)
        if weight.requires_grad:
            padding = [width // 2 for width in weight.shape[2:]]
            h = conv_nd(h.to(weight.dtype), weight, self.bias, padding=padding)
            return F.relu(h) if relu else h
        return frozen_conv(
            h, weight, self.bias, relu=relu, keep=keep, gate=gate, fast=fast, dtype=dtype
        )
