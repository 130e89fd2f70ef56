"""Networks to look into: the shipped backbones with their own units, and anybody's module."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from convnd.backbones import Backbone, ModuleBackbone, from_module, load, probe_receptive_field
from convnd_tasks.user_models import check_rank, import_model, is_user_model

__all__ = ["load_network", "network_from_module", "probe_receptive_field"]


def load_network(
    name: str, layers: Sequence[str], *, spatial_dims: int, in_channels: int
) -> Backbone:
    """A network by name.

    The compact backbone answers for some layers with a linear map of their features (its taps),
    made so that Gram matrices agree with those of VGG-19. Here people look at units, so the taps
    are taken out and features are the network's own.

    Args:
        name: one of `convnd.backbones.BACKBONES`, or ``package.module:attribute`` of a module of
            yours, or of a function without arguments that makes one.
        layers: what will be asked for.
        spatial_dims: number of spatial axes of the data.
        in_channels: channels of the data; your own module keeps its own.

    Raises:
        UnknownNameError: no such backbone or layer.
        UsageError: the module cannot be imported, or takes another rank.
    """
    if not is_user_model(name):
        net = load(name, spatial_dims=spatial_dims, in_channels=in_channels, layers=layers)
        net.projections.clear()
        return net
    network = network_from_module(import_model(name), layers)
    check_rank(network, name, spatial_dims)
    return network


def network_from_module(module: nn.Module, layers: Sequence[str]) -> ModuleBackbone:
    """Any module as a network to look into, see `convnd.backbones.from_module`.

    Args:
        module: takes ``(B, C, *S)``; is left as it is.
        layers: names of submodules, as `torch.nn.Module.named_modules` gives them.

    Raises:
        UnknownNameError: there is no such submodule.
        UsageError: it has no convolution, or the field of a layer cannot be told, see
            `convnd.backbones.probe_receptive_field`.

    >>> layers = nn.Conv2d(3, 4, 5), nn.ReLU(), nn.MaxPool2d(2)
    >>> net = network_from_module(nn.Sequential(*layers), ["2"])
    >>> net.in_channels, net.receptive_fields["2"].size, net.receptive_fields["2"].stride
    (3, (6, 6), (2, 2))
    """
    network = from_module(module, layers)
    for name in layers:
        if name not in network.receptive_fields:
            probe_receptive_field(network, name)  # says why there is none
    return network
