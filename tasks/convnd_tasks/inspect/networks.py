"""Networks to inspect: the shipped backbones with their own units, and any other module."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import nn

from convnd.backbones import Backbone, ModuleBackbone, from_module, load, probe_receptive_field
from convnd.backbones.user_models import check_rank, import_model, is_user_model
from convnd.errors import ConvndError, ShapeError
from convnd_tasks.inspect.reading import Input
from convnd_tasks.inspect.units import receptive_fields

__all__ = [
    "count_channels",
    "layer_widths",
    "load_network",
    "network_from_module",
    "probe_receptive_field",
]


def load_network(
    name: str, layers: Sequence[str], *, spatial_dims: int, in_channels: int
) -> Backbone:
    """Load a network by name.

    Some layers of the compact backbone end in a linear projection, which approximates the Gram
    matrices of VGG-19. This function removes the projections, so that features are activations of
    the network's own units.

    Args:
        name: one of `convnd.backbones.BACKBONES`; or ``package.module:attribute``, the name of a
            `torch.nn.Module` or of a function without arguments that returns one.
        layers: names of the layers to inspect.
        spatial_dims: number of spatial axes of the data.
        in_channels: number of channels of the data; a user's module has its own.

    Raises:
        UnknownNameError: there is no such backbone or layer.
        UsageError: the module cannot be imported, or has another rank.
    """
    if not is_user_model(name):
        backbone = load(name, spatial_dims=spatial_dims, in_channels=in_channels, layers=layers)
        backbone.projections.clear()
        return backbone
    network = network_from_module(import_model(name), layers)
    check_rank(network, name, spatial_dims)
    return network


def network_from_module(module: nn.Module, layers: Sequence[str]) -> ModuleBackbone:
    """Wrap a module as a network to inspect; see `convnd.backbones.from_module`.

    Args:
        module: takes ``(B, C, *S)``; it is not changed.
        layers: names of submodules, as `torch.nn.Module.named_modules` gives them.

    Raises:
        UnknownNameError: the module has no such submodule.
        UsageError: the module has no convolution, or the receptive field of a layer cannot be
            determined; see `convnd.backbones.probe_receptive_field`.

    >>> layers = nn.Conv2d(3, 4, 5), nn.ReLU(), nn.MaxPool2d(2)
    >>> net = network_from_module(nn.Sequential(*layers), ["2"])
    >>> net.in_channels, net.receptive_fields["2"].size, net.receptive_fields["2"].stride
    (3, (6, 6), (2, 2))
    """
    network = from_module(module, layers)
    for name in layers:
        if name not in network.receptive_fields:
            probe_receptive_field(network, name)  # raises the error that tells the reason
    return network


def count_channels(inputs: Sequence[Input], backbone: str) -> int:
    """Choose the number of input channels of a network from its data.

    Args:
        inputs: the data; the first input that can be read decides.
        backbone: name of the network.

    Returns:
        3 for RGB, 1 for other data, and 0 for a user's module, which has its own number.
    """
    if is_user_model(backbone):
        return 0
    for item in inputs:
        with contextlib.suppress(ConvndError):
            return 3 if item.open().channels == ("R", "G", "B") else 1
    return 3


def layer_widths(network: Backbone, layers: Sequence[str]) -> dict[str, int]:
    """Count the channels of layers by running the smallest input that reaches them.

    Args:
        network: the network.
        layers: names of its layers.

    Raises:
        ShapeError: no input of up to 64 strides reaches a layer.
    """
    fields = receptive_fields(network, layers)
    device = next(network.parameters(), torch.zeros(())).device
    widths = {}
    for layer in layers:
        stride = [max(2, int(step)) for step in fields[layer].stride]
        # A user's module runs to its end, which may need more samples than this layer does.
        for size in ([factor * step for step in stride] for factor in (1, 2, 4, 8, 16, 32, 64)):
            x = torch.zeros(1, network.in_channels, *size, device=device)
            with contextlib.suppress(ShapeError, RuntimeError), torch.inference_mode():
                widths[layer] = network(x, [layer])[layer].shape[1]
                break
        else:
            raise ShapeError(
                f"layer {layer}",
                expected=f"features from an input of {size}",
                got="none",
                remedy="check the network",
            )
    return widths
