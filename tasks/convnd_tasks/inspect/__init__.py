"""Inspection of convnets: the patches that excite their units, in any number of dimensions.

After Zeiler and Fergus, "Visualizing and understanding convolutional networks" (2013): choose a
layer, choose a unit, and find the nine patches that maximize its activation.

- `find_patches` streams inputs through a network once and records positions only, so memory does
  not grow with the number of inputs; `cut_patches` then cuts out the exact receptive fields.
- `maximize_activation` computes the input that a unit responds to most, `explain` attributes an
  activation to the samples of a patch, and `channel_maps` shows where each channel is active.
- `gram_figure` draws which channels are active together, before and after a transfer.

>>> import torch
>>> from torch import nn
>>> from convnd import Grid
>>> from convnd_tasks.inspect import Input, find_patches, network_from_module
>>> edge = nn.Conv1d(1, 1, 2, bias=False)
>>> _ = edge.load_state_dict({"weight": torch.tensor([[[-1.0, 1.0]]])})
>>> network = network_from_module(nn.Sequential(edge), ["0"])
>>> signal = Grid(values=torch.tensor([[[0.0, 0.0, 5.0, 5.0, 6.0]]]))
>>> result = find_patches(network, [Input("a signal", lambda: signal)], {"0": [0]}, rescale=False)
>>> [(hit.value, hit.region) for hit in result.hits("0", 0)]
[(5.0, (slice(1, 3, None),)), (1.0, (slice(3, 5, None),))]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convnd_tasks.inspect.grams import gram_figure
    from convnd_tasks.inspect.maximize import maximize_activation
    from convnd_tasks.inspect.networks import (
        load_network,
        network_from_module,
        probe_receptive_field,
    )
    from convnd_tasks.inspect.reading import Input
    from convnd_tasks.inspect.saliency import channel_maps, explain
    from convnd_tasks.inspect.search import Hit, Patch, SearchResult, cut_patches, find_patches
    from convnd_tasks.inspect.units import parse_units

__all__ = [
    "Hit",
    "Input",
    "Patch",
    "SearchResult",
    "channel_maps",
    "cut_patches",
    "explain",
    "find_patches",
    "gram_figure",
    "load_network",
    "maximize_activation",
    "network_from_module",
    "parse_units",
    "probe_receptive_field",
]

_MODULES = {
    "Input": "reading",
    "channel_maps": "saliency",
    "explain": "saliency",
    "gram_figure": "grams",
    "load_network": "networks",
    "maximize_activation": "maximize",
    "network_from_module": "networks",
    "parse_units": "units",
    "probe_receptive_field": "networks",
}


def __getattr__(name: str) -> object:
    # The command imports this package for its options, and `convnd --help` must not import torch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'search')}"), name)
