"""Networks of users, which are named ``package.module:attribute`` on the command line."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from convnd.backbones import Backbone, ModuleBackbone, from_module
from convnd.errors import InputFileError, UsageError
from convnd.registry import unknown_name

__all__ = ["check_rank", "import_model", "is_user_model", "load_user_model"]


def is_user_model(name: str) -> bool:
    """Whether the name of a backbone has the form ``package.module:attribute``.

    >>> is_user_model("package.module:net"), is_user_model("vgg19")
    (True, False)
    """
    return ":" in name


def load_user_model(
    name: str, layers: Sequence[str], *, spatial_dims: int, in_channels: int
) -> ModuleBackbone:
    """Load a user's network as a backbone, see `convnd.backbones.from_module`.

    Args:
        name: ``package.module:attribute``, see `import_model`.
        layers: names of the submodules whose features are needed.
        spatial_dims: number of spatial axes of the data.
        in_channels: number of channels of the data.

    Raises:
        UnknownNameError: no such attribute or layer.
        UsageError: the network cannot be imported, or takes another rank or number of channels.
        InputFileError: the attribute is not a network.
    """
    network = from_module(import_model(name), list(dict.fromkeys(layers)))
    check_rank(network, name, spatial_dims)
    if network.in_channels != in_channels:
        raise UsageError(
            f"backbone {name}",
            expected=f"a network for {in_channels} channels, which the data have",
            got=f"one that takes {network.in_channels}",
            remedy="give data of that kind or change the network's first layer",
        )
    return network


def check_rank(network: Backbone, name: str, spatial_dims: int) -> None:
    """Check that data have the number of spatial axes that a network takes.

    Args:
        network: the backbone.
        name: name of the backbone, for the message.
        spatial_dims: number of spatial axes of the data.

    Raises:
        UsageError: the numbers differ.
    """
    if network.spatial_dims != spatial_dims:
        raise UsageError(
            f"backbone {name}",
            expected=f"data with {network.spatial_dims} spatial axes, which it takes",
            got=spatial_dims,
            remedy="give such data, or another network",
        )


def import_model(name: str) -> nn.Module:
    """Import a network; the current folder is searched first, as with ``python -m``.

    Args:
        name: ``package.module:attribute``, where the attribute is a `torch.nn.Module`, or a
            function without arguments that returns one.

    Raises:
        UsageError: the package cannot be imported.
        UnknownNameError: the package has no such attribute.
        InputFileError: the attribute is not a network.
    """
    module_name, _, attribute = name.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the user's code may raise anything
        raise UsageError(
            f"backbone {name}",
            expected="a module that imports",
            got=f"'{error}'",
            remedy=f"check {module_name}",
        ) from error
    if not hasattr(module, attribute):
        public = [entry for entry in dir(module) if not entry.startswith("_")]
        raise unknown_name(f"backbone {module_name}", attribute, public)
    network = getattr(module, attribute)
    if not isinstance(network, nn.Module) and callable(network):
        network = network()
    if not isinstance(network, nn.Module):
        raise InputFileError(
            f"backbone {name}",
            expected="a torch.nn.Module",
            got=type(network).__name__,
            remedy="name an attribute that is one, or a function that returns one",
        )
    return network
