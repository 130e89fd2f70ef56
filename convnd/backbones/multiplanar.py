"""Multi-planar ("2.5-D") features: a network for pictures applied to all slices of a volume."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Collection, Sequence

from torch import Tensor

from convnd.backbones.base import Backbone
from convnd.errors import UsageError
from convnd.nn._native import traced_as_leaf
from convnd.nn.layout import channels_last, is_channels_last
from convnd.shapes import ReceptiveField

__all__ = ["MultiPlanar"]


class MultiPlanar(Backbone):
    """A backbone of ``n`` axes applied to the slices along every choice of ``n`` of ``N`` axes.

    For a volume and a network for pictures this is the 2.5-D, or tri-planar, approach: the network
    sees all axial, coronal and sagittal slices (as for solid textures in Gutierrez et al., 2020).
    Each orientation of slices has separate layers, named after the axes along which the slices lie:
    ``relu3_1@01``, ``relu3_1@02``, ``relu3_1@12``. Strides and poolings act within slices only.

    An axis of length 1 changes nothing if `plane_layers` chooses the layers by the size of the
    data.

    Args:
        net: a backbone of ``n`` axes, used unchanged.
        spatial_dims: number of axes ``N`` of the data, more than ``n``, at most 10.
        planes: the choices of axes, each in rising order; None is all choices.

    Raises:
        UsageError: ``spatial_dims`` is out of range.

    >>> import torch
    >>> from convnd.backbones import VGG, VGG19
    >>> net = MultiPlanar(VGG(VGG19.truncate(["relu2_1"]), in_channels=1), spatial_dims=3)
    >>> features = net(torch.zeros(1, 1, 6, 8, 10), net.plane_layers(["relu2_1"]))
    >>> for name, values in features.items():
    ...     print(name, *values.shape)
    relu2_1@01 1 128 3 4 10
    relu2_1@02 1 128 3 8 5
    relu2_1@12 1 128 6 4 5
    """

    def __init__(
        self, net: Backbone, *, spatial_dims: int, planes: Collection[tuple[int, ...]] | None = None
    ) -> None:
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
        self.orientations = {
            "".join(map(str, axes)): axes
            for axes in itertools.combinations(range(spatial_dims), net.spatial_dims)
            if planes is None or axes in planes
        }
        self._cut_axes: tuple[int, ...] = ()  # set by `cut_along`
        self.layers = self.plane_layers(net.layers)
        self.receptive_fields = {
            f"{name}@{orientation}": _embed(field, axes, spatial_dims)
            for name, field in net.receptive_fields.items()
            for orientation, axes in self.orientations.items()
        }

    def plane_layers(
        self, names: Sequence[str], size: Sequence[int] | None = None
    ) -> tuple[str, ...]:
        """List the layers of ``net`` in all orientations.

        Args:
            names: layers of ``net``.
            size: extent of the data along each axis. It leaves out orientations whose slices have
                fewer axes longer than 1 than others, and keeps the first of those with the same
                slices. None keeps all.

        >>> from convnd.backbones import VGG, VGG19
        >>> net = MultiPlanar(VGG(VGG19.truncate(["relu1_1"]), in_channels=1), spatial_dims=3)
        >>> net.plane_layers(["relu1_1"], (1, 8, 8)), net.plane_layers(["relu1_1"], (1, 1, 8))
        (('relu1_1@12',), ('relu1_1@02',))
        """
        orientations = list(self.orientations)
        if size is not None:
            long_axes = {
                orientation: frozenset(axis for axis in axes if size[axis] > 1)
                for orientation, axes in self.orientations.items()
            }
            rank = max(map(len, long_axes.values()))
            first = {
                visible: orientation
                for orientation, visible in reversed(long_axes.items())
                if len(visible) == rank
            }
            orientations = [
                orientation for orientation in orientations if orientation in first.values()
            ]
        return tuple(f"{name}@{orientation}" for name in names for orientation in orientations)

    @traced_as_leaf
    def forward(
        self, x: Tensor, layers: Sequence[str], *, raw: Collection[str] = ()
    ) -> dict[str, Tensor]:
        """Compute the features of layers, see `Backbone.forward`."""
        self.check(x, layers)
        features: dict[str, Tensor] = {}
        for orientation, (names, axes, other_axes) in self._group_layers(layers).items():
            raw_names = {self.slice_layer(name) for name in raw if name.endswith(f"@{orientation}")}
            order = [2 + axis for axis in other_axes]
            planes = x.permute(0, *order, 1, *(2 + axis for axis in axes))
            lead = planes.shape[: 1 + len(other_axes)]
            # The inverse permutation, back to (B, C, *S), is a view that copies nothing.
            inverse = [0, 1 + len(other_axes)] + [0] * self.spatial_dims
            for place, axis in enumerate((*other_axes, *axes)):
                inverse[2 + axis] = 1 + place + (place >= len(other_axes))
            slices = planes.flatten(0, len(other_axes))
            slices = channels_last(slices) if is_channels_last(x) else slices.contiguous()
            net = self.net.cut_along(
                [place for place, axis in enumerate(axes) if axis in self._cut_axes]
            )
            for name, values in net(slices, names, raw=raw_names).items():
                features[f"{name}@{orientation}"] = values.unflatten(0, lead).permute(inverse)
        return {name: features[name] for name in layers}

    @property
    def periodic(self) -> bool:  # type: ignore[override]
        """Whether inputs count as one period of a field, see `Backbone`."""
        return self.net.periodic

    def as_periodic(self) -> MultiPlanar:
        """Return the network for slices of a periodic field, see `Backbone.as_periodic`."""
        return self._with_net(self.net.as_periodic())

    def with_mirrored_border(self) -> MultiPlanar:
        """Return the network for mirrored slices, see `Backbone.with_mirrored_border`."""
        return self._with_net(self.net.with_mirrored_border())

    def _with_net(self, net: Backbone) -> MultiPlanar:
        twin = copy.copy(self)
        # Modules are stored beside attributes, in a dictionary that the copy would share.
        twin._modules = {**self._modules, "net": net}
        return twin

    def cut_along(self, axes: Collection[int]) -> MultiPlanar:
        """Return the network for crops with margins of their own, see `Backbone.cut_along`."""
        if not self.periodic or not axes:
            return self
        twin = copy.copy(self)
        twin._cut_axes = tuple(sorted({*self._cut_axes, *axes}))
        return twin

    def projection(self, layer: str) -> Tensor | None:
        """Return the projection of the network's layer, see `Backbone.projection`."""
        return self.net.projection(self.slice_layer(layer))

    def independent_groups(self, layers: Sequence[str]) -> list[tuple[str, ...]]:
        """Divide layers into one group per orientation, see `Backbone.independent_groups`.

        >>> from convnd.backbones import VGG, VGG19
        >>> net = MultiPlanar(VGG(VGG19.truncate(["relu1_1"]), in_channels=1), spatial_dims=3)
        >>> net.independent_groups(["conv1_1@01", "relu1_1@02", "relu1_1@01"])
        [('conv1_1@01', 'relu1_1@01'), ('relu1_1@02',)]
        """
        groups = [
            tuple(name for name in layers if name.endswith(f"@{orientation}"))
            for orientation in self.orientations
        ]
        return [group for group in groups if group]

    def peak_bytes(self, size: Sequence[int], layers: Sequence[str]) -> int:
        """Estimate the peak memory of all slices, see `Backbone.peak_bytes`."""
        return self._sum_over_slices(self.net.peak_bytes, size, layers)

    def activation_bytes(self, size: Sequence[int], layers: Sequence[str]) -> int:
        """Estimate the memory of the features, see `Backbone.activation_bytes`."""
        return self._sum_over_slices(self.net.activation_bytes, size, layers)

    def _sum_over_slices(
        self,
        count: Callable[[Sequence[int], Sequence[str]], int],
        size: Sequence[int],
        layers: Sequence[str],
    ) -> int:
        return sum(
            math.prod(size[axis] for axis in other_axes)
            * count([size[axis] for axis in axes], names)
            for names, axes, other_axes in self._group_layers(layers).values()
        )

    @staticmethod
    def slice_layer(layer: str) -> str:
        """Return the name that a layer has in ``net``, without its orientation.

        >>> MultiPlanar.slice_layer("relu1_1@02")
        'relu1_1'
        """
        return layer.rpartition("@")[0] or layer

    def _group_layers(
        self, layers: Sequence[str]
    ) -> dict[str, tuple[list[str], tuple[int, ...], list[int]]]:
        """Group layers by orientation: layers of ``net``, axes of the slices, and other axes."""
        groups = {}
        for orientation, axes in self.orientations.items():
            names = [self.slice_layer(name) for name in layers if name.endswith(f"@{orientation}")]
            if names:
                other_axes = [axis for axis in range(self.spatial_dims) if axis not in axes]
                groups[orientation] = names, axes, other_axes
        return groups


def _embed(field: ReceptiveField, axes: Sequence[int], ndim: int) -> ReceptiveField:
    """Extend a receptive field over ``axes`` to ``ndim`` axes; it is 1 wide along the others."""
    whole = ReceptiveField.identity(ndim)
    size, stride, offset = list(whole.size), list(whole.stride), list(whole.offset)
    for place, axis in enumerate(axes):
        size[axis], stride[axis] = field.size[place], field.stride[place]
        offset[axis] = field.offset[place]
    return ReceptiveField(tuple(size), tuple(stride), tuple(offset))
