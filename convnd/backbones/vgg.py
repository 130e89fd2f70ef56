"""VGG networks over any number of spatial axes."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from convnd.backbones.kernels import ConvOptions
from convnd.backbones.operations import (
    Convolution,
    Convolve,
    ConvolvePool,
    Operation,
    Pool,
    Rectify,
)
from convnd.backbones.plan import Block, VGGPlan
from convnd.backbones.vgg_memory import VGGMemory
from convnd.nn._native import traced_as_leaf
from convnd.nn.pad import wrapped_crop
from convnd.registry import check_name

__all__ = ["VGG"]

_POOLINGS = ("max", "avg")


class VGG(VGGMemory):
    r"""VGG (Simonyan and Zisserman, 2014) without its classifier, over ``N`` spatial axes.

    The network consists of blocks of convolutions, 3 wide along every axis, with zero padding 1 and
    ReLU, and of a pooling after each block. The first convolution reads ``x - mean``; its weights
    include any scaling of the values.

    An axis of length 1 in the input counts as a field that is constant along it: the kernels are
    summed over that axis, and nothing is pooled there. So a length-1 axis changes nothing.

    Args:
        plan: widths of the convolutions.
        spatial_dims: number of spatial axes ``N``.
        in_channels: number of channels of the input.
        pooling: ``"max"`` as trained, or ``"avg"``, which Gatys et al. (2016) found smoother.
        generator: source of the initial random weights (He et al., 2015); None is torch's global
            generator.

    Raises:
        UnknownNameError: no such pooling.

    Attributes:
        padding: values that the first convolution reads beyond the border. ``"zeros"``, as trained,
            stand for the mean of the training pictures. ``"replicate"`` repeats the outermost
            samples, so that features depend less on the border. With ``"circular"`` all layers
            read the samples at the other end, as of a periodic field. With ``"mirror"`` all layers
            see the input continued by its mirror image.
        winograd: see `VGGMemory`.

    >>> from convnd.backbones import VGG19
    >>> net = VGG(VGG19.truncate(["relu2_1"]), spatial_dims=3, in_channels=1)
    >>> net(torch.zeros(1, 1, 8, 8, 8), ["relu2_1"])["relu2_1"].shape
    torch.Size([1, 128, 4, 4, 4])
    >>> net.receptive_fields["relu2_1"].size
    (10, 10, 10)
    """

    mean: Tensor
    padding: str = "zeros"

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
        check_name("pooling", pooling, _POOLINGS)
        self.plan = plan
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.layers = plan.layers
        self.pooling = pooling
        self.register_buffer("mean", torch.zeros(in_channels))
        parts = plan.parts(in_channels)

        def convolutions(kind: str) -> nn.ModuleDict:
            return nn.ModuleDict(
                {
                    name: Convolution(
                        (part.channels, part.inputs, *[part.kernel] * spatial_dims),
                        generator,
                        bias=part is of_layer[-1],
                    )
                    for name, of_layer in parts.items()
                    for part in of_layer
                    if part.kind == kind
                }
            )

        # This is the order in which random weights are drawn.
        self.reductions = convolutions("project")
        self.convolutions = convolutions("conv")
        self.expansions = convolutions("expand")
        self.projections = nn.ModuleDict(
            {
                layer: Convolution(
                    (width, parts[layer.replace("relu", "conv")][-1].channels, *[1] * spatial_dims),
                    generator,
                    bias=False,
                )
                for layer, width in plan.projections.items()
            }
        )
        self.receptive_fields = plan.receptive_fields(spatial_dims)
        # Set by `split_at`: the layer whose features are the input, and the constant axes.
        self._input_layer = ""
        self._constant_axes: tuple[int, ...] = ()
        self._cut_axes: tuple[int, ...] = ()  # set by `cut_along`
        self._operation_cache: dict[Any, tuple[Operation, ...]] = {}

    @traced_as_leaf
    def forward(
        self, x: Tensor, layers: Sequence[str], *, raw: Collection[str] = ()
    ) -> dict[str, Tensor]:
        """Compute the features of layers, see `Backbone.forward`."""
        self.check(x, layers)
        if not layers:
            return {}
        if extended_axes := self._extended_axes(x.shape[2:], layers):
            return self._extended(x, layers, raw, extended_axes)
        if self._input_layer:
            constant_axes = self._constant_axes
        else:
            constant_axes = _constant_axes(x.shape[2:])
            x = x - self.mean.view(-1, *[1] * self.spatial_dims)
        features: dict[str, Tensor] = {}
        for operation in self._operations(layers, raw, constant_axes):
            x = operation(x, features)
        return {name: features[name] for name in layers}

    def _operations(
        self, layers: Sequence[str], raw: Collection[str], constant_axes: tuple[int, ...]
    ) -> tuple[Operation, ...]:
        """Return the operations that lead to ``layers``, compiled once for each combination."""
        is_trained = next(self.convolutions.parameters()).requires_grad
        projected_layers = frozenset(self.projections).difference(raw)
        key = (
            *(tuple(layers), projected_layers, constant_axes, is_trained),
            *(self.dtype, self.winograd, self.padding, self._cut_axes),
        )
        if key not in self._operation_cache:
            operations = self._compile(
                frozenset(layers), projected_layers, constant_axes, is_trained
            )
            self._operation_cache[key] = tuple(operations)
        return self._operation_cache[key]

    def _compile(
        self,
        layers: frozenset[str],
        projected_layers: frozenset[str],
        constant_axes: tuple[int, ...],
        is_trained: bool,
    ) -> Iterator[Operation]:
        """Yield the operations that lead to ``layers``."""
        may_mask = not is_trained and self.pooling == "max"
        for block in self.plan.blocks(layers, self.layers):
            # The max pooling then masks the gradient of the ReLU, which need not save its signs.
            masked_by_pool = may_mask and block.is_only_pooled
            *before, last = self._convolve(
                block, layers, projected_layers, constant_axes, mask_grad=not masked_by_pool
            )
            yield from before
            if not block.pool:
                yield last
                continue
            pool = Pool(
                name=block.pool if block.pool in layers else "",
                kernel=[
                    1 if axis in constant_axes else self.plan.pool
                    for axis in range(self.spatial_dims)
                ],
                average=self.pooling == "avg",
                mask_grad=masked_by_pool,
                min_size=2 ** int(block.pool.removeprefix("pool")),
                layer=block.pool,
            )
            if masked_by_pool and isinstance(last, Convolve):
                yield ConvolvePool(convolve=last, pool=pool)
            else:
                yield from (last, pool)

    def _convolve(
        self,
        block: Block,
        layers: frozenset[str],
        projected_layers: frozenset[str],
        constant_axes: tuple[int, ...],
        *,
        mask_grad: bool,
    ) -> Iterator[Operation]:
        """Yield the convolutions and the ReLU of a block."""
        name, relu = block.convolution, block.relu
        *reductions, last = [
            _module(group, name)
            for group in (self.reductions, self.convolutions, self.expansions)
            if name in group
        ]
        padded_axes: tuple[int, ...] = ()
        is_first = self.layers[0] == name and not self._input_layer
        if self.periodic or (self.padding == "replicate" and is_first):
            without = {*constant_axes, *self._cut_axes}
            padded_axes = tuple(axis for axis in range(self.spatial_dims) if axis not in without)
        convolve = partial(Convolve, constant_axes=constant_axes, dtype=self.dtype)
        shared: Any = {
            "winograd": self.winograd,
            "padded_axes": padded_axes,
            "circular": self.periodic,
        }
        options = ConvOptions(inplace_grad=True, **shared)
        for convolution in reductions:
            yield convolve(convolution=convolution, options=options)
        options = ConvOptions(
            relu=block.has_fused_relu,
            save_output=relu in layers and relu not in projected_layers,
            mask_grad=mask_grad,
            **shared,
            inplace_grad=block.has_fused_relu
            and self.spatial_dims < 4
            and not (block.pool and self.pooling != "max"),
        )
        relu_name = relu if relu in layers else ""
        projection = _module(self.projections, relu) if relu in projected_layers else None
        if block.has_fused_relu:
            yield convolve(convolution=last, options=options, name=relu_name, projection=projection)
        else:
            yield convolve(convolution=last, options=options, name=name)
            if relu:
                yield Rectify(name=relu_name, projection=projection)

    @property
    def periodic(self) -> bool:  # type: ignore[override]
        """Whether inputs count as one period of a field, see `Backbone`."""
        return self.padding == "circular"

    def as_periodic(self) -> VGG:
        """Return the network with circular padding, see `Backbone.as_periodic`."""
        return self._with_padding("circular")

    def with_mirrored_border(self) -> VGG:
        """Return the network with mirrored inputs, see `Backbone.with_mirrored_border`."""
        return self._with_padding("mirror")

    def _with_padding(self, padding: str) -> VGG:
        twin = copy.copy(self)
        twin.padding = padding
        return twin

    def cut_along(self, axes: Collection[int]) -> VGG:
        """Return the network for crops with margins of their own, see `Backbone.cut_along`."""
        if self.padding not in ("circular", "mirror") or not axes:
            return self
        twin = self._with_padding(self.padding)
        twin._cut_axes = tuple(sorted({*self._cut_axes, *axes}))
        return twin

    def _extended_axes(self, size: Sequence[int], layers: Sequence[str]) -> list[int]:
        """List the axes along which the input needs margins.

        They are those with mirrored borders, and periodic ones whose extent is no multiple of the
        strides of some layers.
        """
        if self.padding not in ("circular", "mirror"):
            return []
        fields = [self.receptive_fields[name] for name in layers]
        steps = [max(int(one.stride[axis]) for one in fields) for axis in range(self.spatial_dims)]
        return [
            axis
            for axis, (extent, step) in enumerate(zip(size, steps, strict=True))
            if extent > 1
            and axis not in self._cut_axes
            and (extent % step or self.padding == "mirror")
        ]

    def _extended(
        self, x: Tensor, layers: Sequence[str], raw: Collection[str], axes: Sequence[int]
    ) -> dict[str, Tensor]:
        """Compute the features from the input and margins around it, which are cut off afterwards.

        A pooling drops the last samples of an odd extent, after which the ends no longer fit.
        """
        fields = [self.receptive_fields[name] for name in layers]
        crop, starts = [slice(0, extent) for extent in x.shape[2:]], [0] * self.spatial_dims
        for axis in axes:
            step = max(int(field.stride[axis]) for field in fields)
            low = max(0, *(math.ceil(-field.offset[axis]) for field in fields))
            starts[axis] = -(-low // step) * step
            extent = x.shape[2 + axis]
            # Behind the offset, a field is one stride less wider than its position.
            high = max(math.ceil(field.offset[axis] + field.size[axis]) for field in fields)
            crop[axis] = slice(-starts[axis], extent + max(0, high))
        x_extended = wrapped_crop(x, crop, mirror=self.padding == "mirror")
        extended = self.cut_along(axes)(x_extended, layers, raw=raw)
        features = {}
        for name, values in extended.items():
            for axis in axes:
                step = int(self.receptive_fields[name].stride[axis])
                count = max(1, x.shape[2 + axis] // step)
                values = values.narrow(2 + axis, starts[axis] // step, count)
            features[name] = values
        return features

    def projection(self, layer: str) -> Tensor | None:
        """Return the projection of a layer, see `Backbone.projection`."""
        if layer in self.projections:
            return self.projections[layer].get_parameter("weight").flatten(1).detach()
        return None

    def split_at(self, layers: Sequence[str], size: Sequence[int]) -> tuple[str, VGG] | None:
        """Split at the deepest pooling with at most half of the halo, see `Backbone.split_at`.

        >>> from convnd.backbones import VGG19
        >>> net = VGG(VGG19.truncate(["relu5_1"]))
        >>> name, rest = net.split_at(["relu1_1", "relu5_1"], (64, 64))
        >>> h = net(torch.zeros(1, 3, 64, 64), [name])[name]
        >>> name, rest(h, ["relu5_1"])["relu5_1"].shape
        ('pool3', torch.Size([1, 512, 4, 4]))
        """
        if self._extended_axes(size, layers):
            return None
        deepest = max((self.layers.index(name) for name in layers), default=0)
        spans = [max(self.receptive_fields[name].span) for name in self.layers[: deepest + 1]]
        names = [
            name
            for name, span in zip(self.layers, spans[:-1], strict=False)
            if name.startswith("pool") and 2 * span <= spans[-1]
        ]
        if not names:
            return None
        name = names[-1]
        deep_part = copy.copy(self)
        deep_part._input_layer, deep_part._constant_axes = name, _constant_axes(size)
        deep_part.in_channels = self.plan.channels[name]
        deep_part.layers = self.layers[self.layers.index(name) + 1 :]
        deep_part.receptive_fields = self.plan.receptive_fields(self.spatial_dims, name)
        return name, deep_part

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_operation_cache": {}}


def _constant_axes(size: Sequence[int]) -> tuple[int, ...]:  # of one sample
    return tuple(axis for axis, extent in enumerate(size) if extent == 1)


def _module(group: nn.ModuleDict, name: str) -> Convolution:
    module = group[name]
    assert isinstance(module, Convolution)
    return module
