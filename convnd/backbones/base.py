"""What every backbone is: values in, the features of named layers out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from convnd.errors import ShapeError
from convnd.registry import unknown_name

if TYPE_CHECKING:
    from convnd.shapes import ReceptiveField

__all__ = ["Backbone", "ModuleBackbone"]


class Backbone(nn.Module):
    """A network whose layers have names.

    Attributes:
        spatial_dims: number of spatial axes ``N`` of the input.
        in_channels: number of channels of the input.
        layers: names of all layers, shallow to deep.
        fields: for each layer its receptive field and stride; empty where they are not known.
    """

    spatial_dims: int
    in_channels: int
    layers: tuple[str, ...]
    fields: Mapping[str, ReceptiveField]

    def forward(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Features of ``layers``; nothing deeper than the deepest of them is computed.

        Args:
            x: ``(B, C, *S)``.
            layers: names out of `Backbone.layers`.

        Returns:
            For each name ``(B, C_l, *S_l)``.

        Raises:
            UnknownNameError: a name is not one of the layers.
            ShapeError: ``x`` has another rank or number of channels, or is too small.
        """
        raise NotImplementedError

    def footprint(self, size: Sequence[int], layers: Sequence[str]) -> int:  # noqa: ARG002
        """Bytes that a forward and backward pass to the input needs at its peak, about.

        Args:
            size: extent along each spatial axis, for one item of a batch.
            layers: what is asked for.

        Returns:
            0 where the network does not tell.
        """
        return 0

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
                f"{type(self).__name__}: expected x of shape (B, {self.in_channels}, {wanted}), "
                f"got {tuple(x.shape)}; build the backbone for this rank and number of channels"
            )


class ModuleBackbone(Backbone):
    """Any module of the user's as a backbone: the outputs of its named submodules.

    The module runs to its end, since where it may stop is not known.

    Args:
        module: any network that takes ``(B, C, *S)``.
        layers: names as `torch.nn.Module.named_modules` gives them.
        spatial_dims: number of spatial axes it takes.
        in_channels: number of channels it takes.
        fields: receptive fields of the layers, where they are known.

    Raises:
        UnknownNameError: a name is not a submodule.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv1d(1, 4, 5), nn.ReLU())
    >>> features = ModuleBackbone(net, ["1"], spatial_dims=1, in_channels=1)
    >>> features(torch.zeros(1, 1, 14), ["1"])["1"].shape
    torch.Size([1, 4, 10])
    """

    def __init__(
        self,
        module: nn.Module,
        layers: Sequence[str],
        *,
        spatial_dims: int,
        in_channels: int,
        fields: Mapping[str, ReceptiveField] | None = None,
    ) -> None:
        super().__init__()
        modules = dict(module.named_modules())
        for name in layers:
            if name not in modules:
                raise unknown_name("layer", name, [known for known in modules if known])
        self.module = module
        self.layers = tuple(layers)
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.fields = {} if fields is None else fields

    def forward(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """See `Backbone.forward`."""
        self.check(x, layers)
        found: dict[str, Tensor] = {}
        modules = dict(self.module.named_modules())

        def keep(name: str) -> object:
            def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
                found[name] = output.clone()  # what follows may work in place

            return modules[name].register_forward_hook(hook)

        handles = [keep(name) for name in layers]
        try:
            parameter = next(self.module.parameters(), x)
            self.module(x.to(parameter.dtype))
        finally:
            for handle in handles:
                handle.remove()  # type: ignore[attr-defined]
        for name in layers:
            if name not in found:
                raise unknown_name("layer that runs", name, list(found))
        return {name: found[name] for name in layers}
