"""Networks to look into: the shipped backbones with their own units, and anybody's module."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from convnd.backbones import Backbone, ModuleBackbone, load
from convnd.errors import InputFileError, UsageError
from convnd.registry import unknown_name
from convnd.shapes import ReceptiveField

__all__ = ["load_network", "own_network", "probe_field"]

_LONGEST = 512  # of the inputs that fields are probed with


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
    if ":" not in name:
        net = load(name, spatial_dims=spatial_dims, in_channels=in_channels, layers=layers)
        net.taps.clear()
        return net
    network = own_network(_import(name), layers)
    if network.spatial_dims != spatial_dims:
        raise UsageError(
            f"--dim: expected {network.spatial_dims}, which is what {name} takes, got "
            f"{spatial_dims}; give data of that kind"
        )
    return network


def own_network(module: nn.Module, layers: Sequence[str]) -> ModuleBackbone:
    """Any module as a network to look into; rank, channels and receptive fields are found out.

    Rank and channels are those of the first submodule with convolution weights.

    Args:
        module: takes ``(B, C, *S)``; is put into evaluation mode.
        layers: names of submodules, as `torch.nn.Module.named_modules` gives them.

    Raises:
        UnknownNameError: there is no such submodule.
        UsageError: it has no convolution, or the field of a layer cannot be told, see
            `probe_field`.

    >>> net = own_network(nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.MaxPool2d(2)), ["2"])
    >>> net.in_channels, net.fields["2"].size, net.fields["2"].stride
    (3, (6, 6), (2, 2))
    """
    module = module.eval()
    for each in module.modules():
        weight = getattr(each, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim >= 3:
            groups = getattr(each, "groups", 1)
            spatial_dims, in_channels = weight.ndim - 2, weight.shape[1] * groups
            break
    else:
        raise UsageError(
            "own network: expected a module with a convolution, got none; build a ModuleBackbone"
        )
    network = ModuleBackbone(module, layers, spatial_dims=spatial_dims, in_channels=in_channels)
    network.fields = {name: probe_field(network, name) for name in layers}
    return network


def probe_field(network: Backbone, layer: str) -> ReceptiveField:
    """The receptive field of a layer, found by experiment.

    A sample that is not a number makes every output that depends on it not a number, whatever the
    weights, zeros included. So one NaN plane after another through an input shows for every
    output position where what it sees begins and ends along that axis.

    Args:
        network: any whose rank and channels are known; left as it is.
        layer: one of its layers.

    Raises:
        UsageError: positions do not see equal windows at equal steps (an output that sees the
            whole input, a fractional stride), or the window is longer than 250 samples or so.
    """
    found = [_probe_axis(network, layer, axis) for axis in range(network.spatial_dims)]
    sizes, strides, offsets = zip(*found, strict=True)
    return ReceptiveField(tuple(sizes), tuple(strides), tuple(offsets))


def _probe_axis(network: Backbone, layer: str, axis: int) -> tuple[int, int, int]:
    parameter = next(network.parameters(), torch.zeros(()))
    length = 16
    while length <= _LONGEST:
        # Other axes only have to be long enough to get through.
        shape = [min(length, 64)] * network.spatial_dims
        shape[axis] = length
        try:
            seen = _dependence(network, layer, shape, axis, parameter)
        except (RuntimeError, ValueError):  # too short for the kernels
            seen = torch.zeros(0, 0, dtype=torch.bool)
        windows = [torch.nonzero(column).flatten().tolist() for column in seen.T]
        inner = {
            at: (places[0], places[-1])
            for at, places in enumerate(windows)
            if places and places[0] > 0 and places[-1] < length - 1
        }
        if len(inner) >= 3:
            at = min(inner)
            stride = inner[at + 1][0] - inner[at][0] if at + 1 in inner else 0
            low, high = inner[at]
            regular = stride > 0 and all(
                ends == (low + (k - at) * stride, high + (k - at) * stride)
                for k, ends in inner.items()
            )
            if regular:
                return high - low + 1, stride, low - at * stride
        length *= 2
    raise UsageError(
        f"layer {layer}: expected equal windows at equal whole steps along axis {axis}, got a "
        "layer that sees otherwise; choose a shallower one, or give ModuleBackbone its fields"
    )


def _dependence(
    network: Backbone, layer: str, shape: Sequence[int], axis: int, parameter: Tensor
) -> Tensor:
    """Whether an output position depends on an input position, along one axis: ``(S, S')``."""
    rows = []
    # Fast convolutions (Winograd's, Fourier's) mix neighbours, and with them what is no number.
    with (
        torch.no_grad(),
        warnings.catch_warnings(action="ignore"),  # of options this machine does not have
        torch.backends.mkldnn.flags(enabled=False),
    ):
        for place in range(shape[axis]):
            x = torch.zeros(
                1, network.in_channels, *shape, dtype=parameter.dtype, device=parameter.device
            )
            x.select(axis + 2, place).fill_(torch.nan)
            lost = network(x, [layer])[layer].isnan().movedim(axis + 2, 0)
            rows.append(lost.flatten(1).any(1))
    return torch.stack(rows).cpu()


def _import(name: str) -> nn.Module:
    home, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # as `python -m` has it
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(home)
    except Exception as error:  # whatever their code raises
        raise UsageError(
            f"--backbone {name}: expected a module that imports, got '{error}'; check {home}"
        ) from error
    if not hasattr(module, attribute):
        public = [each for each in dir(module) if not each.startswith("_")]
        raise unknown_name(f"--backbone {home}", attribute, public)
    made = getattr(module, attribute)
    if not isinstance(made, nn.Module) and callable(made):
        made = made()
    if not isinstance(made, nn.Module):
        raise InputFileError(
            f"--backbone {name}: expected a torch.nn.Module, got {type(made).__name__}; name one"
        )
    return made
