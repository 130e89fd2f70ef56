"""VGG networks over any number of spatial axes."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Collection, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnd.backbones.base import Backbone
from convnd.backbones.kernels import FrozenWeights, frozen_conv, frozen_max_pool
from convnd.backbones.plan import VGGPlan
from convnd.errors import ShapeError, UsageError
from convnd.nn import avg_pool_nd, conv_nd

__all__ = ["VGG"]

_POOLINGS = ("max", "avg")


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

    >>> from convnd.backbones import VGG19
    >>> net = VGG(VGG19.truncate(["relu2_1"]), spatial_dims=3, in_channels=1)
    >>> net(torch.zeros(1, 1, 8, 8, 8), ["relu2_1"])["relu2_1"].shape
    torch.Size([1, 128, 4, 4, 4])
    >>> net.receptive_fields["relu2_1"].size
    (10, 10, 10)
    """

    mean: Tensor
    winograd: bool = False

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
                "VGG",
                expected=f"pooling one of {', '.join(_POOLINGS)}",
                got=repr(pooling),
                remedy="choose one",
            )
        self.plan = plan
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.layers = plan.layers
        self.pooling = pooling
        self.register_buffer("mean", torch.zeros(in_channels))
        parts = plan.parts(in_channels)
        kinds: dict[str, nn.ModuleDict] = {
            kind: nn.ModuleDict(
                {
                    name: _Convolution(
                        (part.channels, part.inputs, *[part.kernel] * spatial_dims),
                        generator,
                        bias=part is several[-1],
                    )
                    for name, several in parts.items()
                    for part in several
                    if part.kind == kind
                }
            )
            for kind in ("project", "conv", "expand")
        }
        self.reductions, self.convolutions, self.expansions = kinds.values()
        self.projections = nn.ModuleDict(
            {
                layer: _Convolution(
                    (width, parts[layer.replace("relu", "conv")][-1].channels, *[1] * spatial_dims),
                    generator,
                    bias=False,
                )
                for layer, width in plan.projections.items()
            }
        )
        self.receptive_fields = plan.receptive_fields(spatial_dims)
        self._behind = ""
        self._constant: tuple[int, ...] = ()

    def forward(
        self, x: Tensor, layers: Sequence[str], *, raw: Collection[str] = ()
    ) -> dict[str, Tensor]:
        """See `Backbone.forward`."""
        self.check(x, layers)
        if not layers:
            return {}
        if self._behind:
            constant, h = self._constant, x
        else:
            constant = _constant(x.shape[2:])
            h = x - self.mean.view(-1, *[1] * self.spatial_dims)
        features: dict[str, Tensor] = {}
        trained = next(self.convolutions.parameters()).requires_grad
        place = {name: index for index, name in enumerate(self.layers)}
        deepest = max(place[name] for name in layers)
        tapped = set(self.projections).difference(raw)
        for name in self.plan.convolutions:
            if name not in place:  # before the cut
                continue
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
            several = (self.reductions, self.convolutions, self.expansions)
            *before, last = [each[name] for each in several if name in each]
            for part in before:
                h, _ = part(
                    h, constant, winograd=self.winograd, dtype=self.dtype, inplace_grad=True
                )
            h, seen = last(
                h,
                constant,
                relu=fused,
                save_output=rectified in layers and rectified not in tapped,
                mask_grad=not by_pool,
                winograd=self.winograd,
                dtype=self.dtype,
                inplace_grad=fused
                and self.spatial_dims < 4
                and not (pool and self.pooling != "max"),
            )
            features[name] = seen
            if relu:
                h, seen = (h, seen) if fused else (rest := F.relu(h), rest)
                features[rectified] = seen
                if rectified in tapped:
                    features[rectified], _ = self.projections[rectified](seen, ())
            if pool:
                h = features[behind] = self._pool(h, behind, constant, mask_grad=by_pool)
            for unread in [each for each in features if each not in layers]:
                del features[unread]
        return {name: features[name] for name in layers}

    def projection(self, layer: str) -> Tensor | None:
        """See `Backbone.projection`."""
        if layer not in self.projections:
            return None
        matrix = self.projections[layer].get_parameter("weight").flatten(1)
        return matrix.detach()

    def split_at(self, layers: Sequence[str], size: Sequence[int]) -> tuple[str, VGG] | None:
        """See `Backbone.split_at`: the deepest pooling with at most half of the halo before it.

        >>> from convnd.backbones import VGG19
        >>> net = VGG(VGG19.truncate(["relu5_1"]))
        >>> name, rest = net.split_at(["relu1_1", "relu5_1"], (64, 64))
        >>> h = net(torch.zeros(1, 3, 64, 64), [name])[name]
        >>> name, rest(h, ["relu5_1"])["relu5_1"].shape
        ('pool3', torch.Size([1, 512, 4, 4]))
        """
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
        rest = copy.copy(self)
        rest._behind, rest._constant = name, _constant(size)
        rest.in_channels = self.plan.channels[name]
        rest.layers = self.layers[self.layers.index(name) + 1 :]
        rest.receptive_fields = self.plan.receptive_fields(self.spatial_dims, name)
        return name, rest

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the features, which is that of the deepest weights."""
        *_, deepest = self.convolutions.parameters()
        return deepest.dtype

    def peak_bytes(self, size: Sequence[int], layers: Sequence[str]) -> int:
        """See `Backbone.peak_bytes`."""
        # For the way back are kept: features that are asked for, one byte for each other ReLU's
        # sign, and for each pooling the places of its maxima in two, with the signs of the ReLU
        # before it. Beside them live, for a moment, a layer's input, its output, and a third one
        # where gradients meet.
        width = self.dtype.itemsize
        deepest = max((self.layers.index(name) for name in layers), default=-1)
        kept, largest = 0, 0
        channels = 0
        widths = dict(zip(self.plan.convolutions, itertools.chain(*self.plan.widths), strict=True))
        for name, behind in itertools.pairwise((*self.layers[: deepest + 1], "")):
            positions = self._positions(size, name)
            if name.startswith("conv"):
                channels = widths[name]
                largest = max(largest, positions * channels * width)
            each = 3 if name.startswith("pool") else 1 if name.startswith("relu") else 0
            if behind.startswith("pool") and self.pooling == "max":
                each = 0
            if name in layers:
                each = width + 3 * name.startswith("pool")
            kept += positions * channels * each
        return kept + 3 * largest

    def activation_bytes(self, size: Sequence[int], layers: Sequence[str]) -> int:
        """See `Backbone.activation_bytes`."""
        channels = self.plan.channels
        return sum(
            self.dtype.itemsize * channels[name] * self._positions(size, name) for name in layers
        )

    def _positions(self, size: Sequence[int], layer: str) -> int:
        stride = self.receptive_fields[layer].stride
        return math.prod(
            max(1, extent // int(step)) for extent, step in zip(size, stride, strict=True)
        )

    def _pool(self, h: Tensor, name: str, constant: tuple[int, ...], *, mask_grad: bool) -> Tensor:
        kernel = [1 if axis in constant else 2 for axis in range(self.spatial_dims)]
        if any(extent < width for extent, width in zip(h.shape[2:], kernel, strict=True)):
            raise ShapeError(
                "VGG",
                expected=(
                    f"at least {2 ** int(name.removeprefix('pool'))} samples along "
                    f"each axis to reach {name}"
                ),
                got=f"an input that has shrunk to {tuple(h.shape[2:])} before it",
                remedy="use a larger input or shallower layers",
            )
        if self.pooling == "max":
            return frozen_max_pool(h, kernel, mask_grad=mask_grad)
        return avg_pool_nd(h, kernel)


def _constant(size: Sequence[int]) -> tuple[int, ...]:
    """Axes along which an input is a field that does not change."""
    return tuple(axis for axis, extent in enumerate(size) if extent == 1)


class _Convolution(nn.Module):
    """A frozen convolution of odd width with zero padding that keeps the extent."""

    def __init__(
        self, shape: tuple[int, ...], generator: torch.Generator | None, bias: bool = True
    ) -> None:
        super().__init__()
        weight = torch.empty(shape)
        if not weight.is_meta:  # of numbers that are not there torch imports its compiler, 2 s
            weight.normal_(0, (2 / math.prod(shape[1:])) ** 0.5, generator=generator)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(shape[0]), requires_grad=False) if bias else None
        self._made: dict[Any, tuple[Any, list[Tensor], FrozenWeights]] = {}

    def forward(
        self,
        h: Tensor,
        constant: tuple[int, ...],
        *,
        relu: bool = False,
        save_output: bool = False,
        mask_grad: bool = True,
        winograd: bool = False,
        dtype: torch.dtype | None = None,
        inplace_grad: bool = False,
    ) -> tuple[Tensor, Tensor]:
        if self.weight.requires_grad:
            weight = self._over(constant)
            padding = [width // 2 for width in weight.shape[2:]]
            h = conv_nd(h.to(weight.dtype), weight, self.bias, padding=padding)
            h = F.relu(h) if relu else h
            return h, h
        weights = self._frozen(constant, dtype)
        return frozen_conv(
            h,
            weights,
            relu=relu,
            save_output=save_output,
            mask_grad=mask_grad,
            winograd=winograd,
            inplace_grad=inplace_grad,
        )

    def _over(self, constant: tuple[int, ...]) -> Tensor:
        weight: Tensor = self.weight
        for axis in constant:
            weight = weight.sum(axis + 2, keepdim=True)
        return weight

    def _frozen(self, constant: tuple[int, ...], dtype: torch.dtype | None) -> FrozenWeights:
        """What is made of the weights, once; anew when they were replaced or changed."""
        now = [
            (each.data_ptr(), each.dtype, 0 if each.is_inference() else each._version)
            for each in self.parameters()
        ]
        key = constant, dtype
        if key not in self._made or self._made[key][0] != now:
            # The old memory is held on to, so that no new weights can lie at its address.
            held = [each.detach() for each in self.parameters()]
            weights = FrozenWeights(self._over(constant).detach(), self.bias, dtype)
            self._made[key] = now, held, weights
        return self._made[key][2]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": {}}
