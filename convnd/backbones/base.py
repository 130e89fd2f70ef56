"""The interface of a backbone: a network that gives the features of named layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from convnd.errors import ShapeError, UsageError
from convnd.registry import check_name

if TYPE_CHECKING:
    from convnd.shapes import ReceptiveField

__all__ = ["Backbone", "no_periodic_network_error"]


def no_periodic_network_error(name: str) -> UsageError:
    """Make the error of a network that cannot read across the border."""
    return UsageError(
        "seamless",
        expected="one of the shipped networks, which read across the border",
        got=name,
        remedy="choose one of `convnd backbones`, or leave --seamless out",
    )


class Backbone(nn.Module):
    """A network that computes the features of named layers; the base class of all backbones.

    A subclass sets the attributes and implements `forward`. The other methods have defaults that
    are correct for every network.

    Attributes:
        spatial_dims: number of spatial axes ``N`` of the input.
        in_channels: number of channels of the input.
        layers: names of all layers, from shallow to deep.
        receptive_fields: receptive field and stride of each layer; empty where they are unknown.
        periodic: whether inputs count as one period of a field that repeats along every axis.
    """

    spatial_dims: int
    in_channels: int
    layers: tuple[str, ...]
    receptive_fields: Mapping[str, ReceptiveField]
    periodic: bool = False

    def forward(
        self, x: Tensor, layers: Sequence[str], *, raw: Collection[str] = ()
    ) -> dict[str, Tensor]:
        """Compute the features of layers; nothing deeper than the deepest of them is computed.

        Args:
            x: ``(B, C, *S)``.
            layers: some of the names in `layers`.
            raw: layers whose features are returned without their `projection`.

        Returns:
            Features ``(B, C_l, *S_l)`` by name of the layer.

        Raises:
            UnknownNameError: a name is not one of the layers.
            ShapeError: ``x`` has another rank or number of channels, or is too small.
        """
        raise NotImplementedError

    def projection(self, layer: str) -> Tensor | None:  # noqa: ARG002
        """Return the linear map of channels ``(C', C)`` that a layer's features end with.

        A statistic of products of channels can apply the map to its sums, which is cheaper than
        to every position: for raw features ``a`` and the projection ``W``, the Gram matrix is
        :math:`W G(a) W^T`.

        Returns:
            None if the layer has no projection.
        """
        return None

    def peak_bytes(self, size: Sequence[int], layers: Sequence[str]) -> int:  # noqa: ARG002
        """Estimate the peak memory of a forward and backward pass to the input, in bytes.

        Args:
            size: extent along each spatial axis, for one item of a batch.
            layers: the layers whose features are computed.

        Returns:
            0 if the network has no estimate.
        """
        return 0

    def activation_bytes(self, size: Sequence[int], layers: Sequence[str]) -> int:  # noqa: ARG002
        """Estimate the memory of the features alone, in bytes.

        Args:
            size: extent along each spatial axis, for one item of a batch.
            layers: the layers whose features are computed.

        Returns:
            0 if the network has no estimate.
        """
        return 0

    def min_extent(self, layers: Sequence[str]) -> int:
        """Return the smallest extent of an axis, in samples, that gives every layer a position.

        Args:
            layers: the layers whose features are computed; those of unknown stride do not count.
        """
        strides = [
            max(map(int, self.receptive_fields[name].stride))
            for name in layers
            if name in self.receptive_fields
        ]
        return max(strides, default=1)

    def split_at(
        self,
        layers: Sequence[str],  # noqa: ARG002
        size: Sequence[int],  # noqa: ARG002
    ) -> tuple[str, Backbone] | None:
        """Split the network in two at a layer.

        Args:
            layers: the layers whose features are computed, some of them deeper than the split.
            size: extent of the input along each axis.

        Returns:
            The layer, and the rest of the network as a backbone. The rest reads the features of
            that layer, computes those of deeper layers under their names, and counts receptive
            fields in positions of that layer. Both share the weights. None if the network cannot be
            split, or if a split would save no memory.
        """
        return None

    def as_periodic(self) -> Backbone:
        """Return this network for periodic inputs; both share the weights.

        Raises:
            UsageError: the network cannot read across the border.
        """
        raise no_periodic_network_error(type(self).__name__)

    def with_mirrored_border(self) -> Backbone:
        """Return this network for inputs that are continued by their mirror image.

        Its features have no trace of the border, as those of a periodic input. Both share the
        weights.

        Raises:
            UsageError: the network pads by itself.
        """
        raise no_periodic_network_error(type(self).__name__)

    def cut_along(self, axes: Collection[int]) -> Backbone:  # noqa: ARG002
        """Return the network for crops of a periodic input that have their own margins.

        Args:
            axes: the axes along which inputs are crops with margins; along the others they are
                whole periods.
        """
        return self

    def independent_groups(self, layers: Sequence[str]) -> list[tuple[str, ...]]:
        """Divide layers into groups that share no computation.

        Computing each group separately needs less memory and, in tiles, a narrower halo.
        """
        return [tuple(layers)]

    def check(self, x: Tensor, layers: Sequence[str]) -> None:
        """Check that an input and layer names fit this backbone.

        Raises:
            UnknownNameError: a name is not one of the layers.
            ShapeError: ``x`` has another rank or number of channels.
        """
        for name in layers:
            check_name("layer", name, self.layers)
        if x.ndim != self.spatial_dims + 2 or x.shape[1] != self.in_channels:
            axes = ", ".join(f"S{axis + 1}" for axis in range(self.spatial_dims))
            raise ShapeError(
                type(self).__name__,
                expected=f"x of shape (B, {self.in_channels}, {axes})",
                got=tuple(x.shape),
                remedy="build the backbone for this rank and number of channels",
            )
