"""What every backbone is: values in, the features of named layers out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from convnd.errors import ShapeError
from convnd.registry import unknown_name

if TYPE_CHECKING:
    from convnd.shapes import ReceptiveField

__all__ = ["Backbone"]


class Backbone(nn.Module):
    """A network whose layers have names.

    Attributes:
        spatial_dims: number of spatial axes ``N`` of the input.
        in_channels: number of channels of the input.
        layers: names of all layers, shallow to deep.
        receptive_fields: receptive field and stride of each layer; empty where they are unknown.
    """

    spatial_dims: int
    in_channels: int
    layers: tuple[str, ...]
    receptive_fields: Mapping[str, ReceptiveField]

    def forward(
        self, x: Tensor, layers: Sequence[str], *, raw: Collection[str] = ()
    ) -> dict[str, Tensor]:
        """Features of ``layers``; nothing deeper than the deepest of them is computed.

        Args:
            x: ``(B, C, *S)``.
            layers: names out of `Backbone.layers`.
            raw: those of which the features before their `projection` are wanted.

        Returns:
            For each name ``(B, C_l, *S_l)``.

        Raises:
            UnknownNameError: a name is not one of the layers.
            ShapeError: ``x`` has another rank or number of channels, or is too small.
        """
        raise NotImplementedError

    def projection(self, layer: str) -> Tensor | None:  # noqa: ARG002
        """The linear map of channels ``(C', C)`` that the features of a layer end with.

        Products of channels are cheaper to map than the features of every position: of
        raw features ``a`` with the tap ``W``, the Gram matrix is :math:`W G(a) W^T`.

        Returns:
            None where there is none.
        """
        return None

    def peak_bytes(self, size: Sequence[int], layers: Sequence[str]) -> int:  # noqa: ARG002
        """Bytes that a forward and backward pass to the input needs at its peak, about.

        Args:
            size: extent along each spatial axis, for one item of a batch.
            layers: what is asked for.

        Returns:
            0 where the network does not tell.
        """
        return 0

    def activation_bytes(self, size: Sequence[int], layers: Sequence[str]) -> int:  # noqa: ARG002
        """Bytes of the features alone.

        Args:
            size: extent along each spatial axis, for one item of a batch.
            layers: what is asked for.

        Returns:
            0 where the network does not tell.
        """
        return 0

    def split_at(
        self,
        layers: Sequence[str],  # noqa: ARG002
        size: Sequence[int],  # noqa: ARG002
    ) -> tuple[str, Backbone] | None:
        """The network in two: a layer, and what comes behind it as a network of its own.

        The latter reads the features of that layer and gives those of deeper ones under their
        names, with fields counted in positions of that layer. It shares the weights.

        Args:
            layers: what is asked for, some of it behind the cut.
            size: extent of the input along each axis.

        Returns:
            None where the network cannot be cut, or not with profit.
        """
        return None

    def independent_groups(self, layers: Sequence[str]) -> list[tuple[str, ...]]:
        """The layers in groups that have nothing on their way in common.

        Each group may as well be computed by itself, with less memory and, in tiles, with less
        halo.
        """
        return [tuple(layers)]

    def check(self, x: Tensor, layers: Sequence[str]) -> None:
        """Refuse an input or layer names that do not fit this backbone.

        Raises:
            UnknownNameError: a name is not one of the layers.
            ShapeError: ``x`` has another rank or number of channels.
        """
        for name in layers:
            if name not in self.layers:
                raise unknown_name("layer", name, list(self.layers))
        if x.ndim != self.spatial_dims + 2 or x.shape[1] != self.in_channels:
            wanted = ", ".join(f"S{axis + 1}" for axis in range(self.spatial_dims))
            raise ShapeError(
                type(self).__name__,
                expected=f"x of shape (B, {self.in_channels}, {wanted})",
                got=tuple(x.shape),
                remedy="build the backbone for this rank and number of channels",
            )
