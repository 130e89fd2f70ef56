"""A network for few axes on every plane through data of more axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Sequence

from torch import Tensor

from convnd.backbones.base import Backbone
from convnd.errors import UsageError
from convnd.nn.layout import channels_last, is_channels_last
from convnd.shapes import ReceptiveField

__all__ = ["MultiPlanar"]


class MultiPlanar(Backbone):
    """A backbone of ``n`` axes on the planes along every choice of ``n`` of ``N`` axes.

    A volume is seen as pictures across its three axes, all of its slices (solid textures from
    slices: Gutierrez et al., 2020). Each layer is one of its own for every choice, named after the
    axes that its planes lie along: ``relu3_1@01``, ``relu3_1@02``, ``relu3_1@12``. Along the other
    axes every sample has a plane, so nothing is strided or pooled there.

    A length-1 axis changes nothing if `plane_layers` chooses the layers by the size of the data.

    Args:
        net: for ``n`` axes, used as it is.
        spatial_dims: number of axes ``N`` of the data, more than ``n``, at most 10.

    Raises:
        UsageError: another number of axes.

    >>> import torch
    >>> from convnd.backbones import VGG, VGG19
    >>> net = MultiPlanar(VGG(VGG19.truncate(["relu2_1"]), in_channels=1), spatial_dims=3)
    >>> features = net(torch.zeros(1, 1, 6, 8, 10), net.plane_layers(["relu2_1"]))
    >>> for name, each in features.items():
    ...     print(name, *each.shape)
    relu2_1@01 1 128 3 4 10
    relu2_1@02 1 128 3 8 5
    relu2_1@12 1 128 6 4 5
    """

    def __init__(self, net: Backbone, *, spatial_dims: int) -> None:
        super().__init__()
        if not net.spatial_dims < spatial_dims <= 10:
            raise UsageError(
                "MultiPlanar",
                expected=(
                    f"{net.spatial_dims} < spatial_dims <= 10 for a network of "
                    f"{net.spatial_dims} axes"
                ),
                got=spatial_dims,
                remedy="use the network itself",
            )
        self.net = net
        self.spatial_dims, self.in_channels = spatial_dims, net.in_channels
        self.choices = {
            "".join(map(str, axes)): axes
            for axes in itertools.combinations(range(spatial_dims), net.spatial_dims)
        }
        self.layers = self.plane_layers(net.layers)
        self.receptive_fields = {
            f"{name}@{choice}": _spread(field, axes, spatial_dims)
            for name, field in net.receptive_fields.items()
            for choice, axes in self.choices.items()
        }

    def plane_layers(
        self, names: Sequence[str], size: Sequence[int] | None = None
    ) -> tuple[str, ...]:
        """Layers of ``net`` as those of all planes.

        Args:
            names: out of its layers.
            size: extent of the data; planes along an axis of one sample are then left out where
                others show more, and of those that show the same, all but the first.

        >>> from convnd.backbones import VGG, VGG19
        >>> net = MultiPlanar(VGG(VGG19.truncate(["relu1_1"]), in_channels=1), spatial_dims=3)
        >>> net.plane_layers(["relu1_1"], (1, 8, 8)), net.plane_layers(["relu1_1"], (1, 1, 8))
        (('relu1_1@12',), ('relu1_1@02',))
        """
        choices = list(self.choices)
        if size is not None:
            shown = {
                choice: frozenset(axis for axis in axes if size[axis] > 1)
                for choice, axes in self.choices.items()
            }
            most = max(map(len, shown.values()))
            first = {seen: choice for choice, seen in reversed(shown.items()) if len(seen) == most}
            choices = [choice for choice in choices if choice in first.values()]
        return tuple(f"{name}@{choice}" for name in names for choice in choices)

    def forward(
        self, x: Tensor, layers: Sequence[str], *, raw: Collection[str] = ()
    ) -> dict[str, Tensor]:
        """See `Backbone.forward`."""
        self.check(x, layers)
        found: dict[str, Tensor] = {}
        for choice, (inner, axes, others) in self._asked(layers).items():
            bare = {_base(name) for name in raw if name.endswith(f"@{choice}")}
            order = [2 + axis for axis in others]
            planes = x.permute(0, *order, 1, *(2 + axis for axis in axes))
            lead = planes.shape[: 1 + len(others)]
            # Back to (B, C, *S) without moving anything in memory.
            back = [0, 1 + len(others)] + [0] * self.spatial_dims
            for place, axis in enumerate((*others, *axes)):
                back[2 + axis] = 1 + place + (place >= len(others))
            flat = _like(planes.flatten(0, len(others)), x)
            for name, features in self.net(flat, inner, raw=bare).items():
                found[f"{name}@{choice}"] = features.unflatten(0, lead).permute(back)
        return {name: found[name] for name in layers}

    def projection(self, layer: str) -> Tensor | None:
        """See `Backbone.projection`."""
        return self.net.projection(_base(layer))

    def independent_groups(self, layers: Sequence[str]) -> list[tuple[str, ...]]:
        """See `Backbone.independent_groups`: planes along different axes.

        >>> from convnd.backbones import VGG, VGG19
        >>> net = MultiPlanar(VGG(VGG19.truncate(["relu1_1"]), in_channels=1), spatial_dims=3)
        >>> net.independent_groups(["conv1_1@01", "relu1_1@02", "relu1_1@01"])
        [('conv1_1@01', 'relu1_1@01'), ('relu1_1@02',)]
        """
        groups = [
            tuple(name for name in layers if name.endswith(f"@{choice}")) for choice in self.choices
        ]
        return [group for group in groups if group]

    def peak_bytes(self, size: Sequence[int], layers: Sequence[str]) -> int:
        """See `Backbone.peak_bytes`."""
        return self._over_planes(self.net.peak_bytes, size, layers)

    def activation_bytes(self, size: Sequence[int], layers: Sequence[str]) -> int:
        """See `Backbone.activation_bytes`."""
        return self._over_planes(self.net.activation_bytes, size, layers)

    def _over_planes(
        self,
        count: Callable[[Sequence[int], Sequence[str]], int],
        size: Sequence[int],
        layers: Sequence[str],
    ) -> int:
        return sum(
            math.prod(size[axis] for axis in others) * count([size[axis] for axis in axes], inner)
            for inner, axes, others in self._asked(layers).values()
        )

    def _asked(
        self, layers: Sequence[str]
    ) -> dict[str, tuple[list[str], tuple[int, ...], list[int]]]:
        """For each choice that is asked for: layers of ``net``, axes of the planes, and others."""
        found = {}
        for choice, axes in self.choices.items():
            inner = [_base(name) for name in layers if name.endswith(f"@{choice}")]
            if inner:
                others = [axis for axis in range(self.spatial_dims) if axis not in axes]
                found[choice] = inner, axes, others
        return found


def _base(name: str) -> str:
    return name.rpartition("@")[0]


def _spread(field: ReceptiveField, axes: Sequence[int], ndim: int) -> ReceptiveField:
    """A field along ``axes`` in data of ``ndim`` axes; along the others a sample sees itself."""
    whole = ReceptiveField.identity(ndim)
    size, stride, offset = list(whole.size), list(whole.stride), list(whole.offset)
    for place, axis in enumerate(axes):
        size[axis], stride[axis] = field.size[place], field.stride[place]
        offset[axis] = field.offset[place]
    return ReceptiveField(tuple(size), tuple(stride), tuple(offset))


def _like(planes: Tensor, x: Tensor) -> Tensor:
    """Planes in the memory layout of the data that they come from."""
    return channels_last(planes) if is_channels_last(x) else planes.contiguous()
