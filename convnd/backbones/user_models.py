"""Networks that people name on the command line: ``package.module:attribute``."""

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
    """Whether a backbone's name is that of a user's module.

    >>> is_user_model("package.module:net"), is_user_model("vgg19")
    (True, False)
    """
    return ":" in name


def load_user_model(
    name: str, layers: Sequence[str], *, spatial_dims: int, in_channels: int
) -> ModuleBackbone:
    """A user's network as the backbone of data, see `convnd.backbones.from_module`.

    Args:
        name: see `import_model`.
        layers: what will be asked for.
        spatial_dims: number of spatial axes of the data.
        in_channels: channels of the data.

    Raises:
        UnknownNameError: no such attribute or layer.
        UsageError: it cannot be imported, or takes another rank or number of channels.
        InputFileError: the name is that of something else.
    """
    network = from_module(import_model(name), list(dict.fromkeys(layers)))
    check_rank(network, name, spatial_dims)
    if network.in_channels != in_channels:
        raise UsageError(
            "--backbone",
            expected=f"a network for {in_channels} channels, which the data have",
            got=f"{name}, which takes {network.in_channels}",
            remedy="give data of that kind or change the network's first layer",
        )
    return network


def check_rank(network: Backbone, name: str, spatial_dims: int) -> None:
    """Refuse data of another rank than a network takes.

    Args:
        network: takes ``network.spatial_dims`` axes.
        name: what it was called, for the message.
        spatial_dims: number of spatial axes of the data.

    Raises:
        UsageError: the two differ.
    """
    if network.spatial_dims != spatial_dims:
        raise UsageError(
            "--dim",
            expected=f"{network.spatial_dims}, which is what {name} takes",
            got=spatial_dims,
            remedy="give data of that kind",
        )


def import_model(name: str) -> nn.Module:
    """A network out of an importable module; the current folder comes first, as with ``python -m``.

    Args:
        name: ``package.module:attribute`` of a `torch.nn.Module`, or of a function without
            arguments that makes one.

    Raises:
        UsageError: the package cannot be imported.
        UnknownNameError: it has no such attribute.
        InputFileError: the attribute is something else.
    """
    home, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(home)
    except Exception as error:  # whatever their code raises
        raise UsageError(
            f"--backbone {name}",
            expected="a module that imports",
            got=f"'{error}'",
            remedy=f"check {home}",
        ) from error
    if not hasattr(module, attribute):
        public = [each for each in dir(module) if not each.startswith("_")]
        raise unknown_name(f"--backbone {home}", attribute, public)
    made = getattr(module, attribute)
    if not isinstance(made, nn.Module) and callable(made):
        made = made()
    if not isinstance(made, nn.Module):
        raise InputFileError(
            f"--backbone {name}",
            expected="a torch.nn.Module",
            got=type(made).__name__,
            remedy="name one",
        )
    return made
