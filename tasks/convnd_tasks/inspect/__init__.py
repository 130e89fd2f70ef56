"""What a convnet has learnt: the patches that excite its units, in any number of dimensions.

After Zeiler and Fergus, "Visualizing and understanding convolutional networks" (2013): pick a
layer, pick a unit, find the nine patches that maximise its activation.

- `find_patches` streams inputs through a network once and keeps positions only, so that memory
  does not grow with their number; `cut_patches` cuts the exact receptive fields afterwards.
- `maximise` makes a unit's own optimal input; `explain` shows what in a patch excited it;
  `channel_maps` is where each channel is active.
- `gram_figure` draws which channels are active together, before and after a transfer.

>>> import torch
>>> from torch import nn
>>> from convnd import Grid
>>> from convnd_tasks.inspect import Input, find_patches, network_from_module
>>> edge = nn.Conv1d(1, 1, 2, bias=False)
>>> _ = edge.load_state_dict({"weight": torch.tensor([[[-1.0, 1.0]]])})
>>> network = network_from_module(nn.Sequential(edge), ["0"])
>>> signal = Grid(values=torch.tensor([[[0.0, 0.0, 5.0, 5.0, 6.0]]]))
>>> found = find_patches(network, [Input("a signal", lambda: signal)], {"0": [0]}, scale=False)
>>> [(hit.value, hit.region) for hit in found.hits("0", 0)]
[(5.0, (slice(1, 3, None),)), (1.0, (slice(3, 5, None),))]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convnd_tasks.inspect.grams import gram_figure
    from convnd_tasks.inspect.networks import (
        load_network,
        network_from_module,
        probe_receptive_field,
    )
    from convnd_tasks.inspect.optimal import maximise
    from convnd_tasks.inspect.reading import Input
    from convnd_tasks.inspect.saliency import channel_maps, explain
    from convnd_tasks.inspect.search import Found, Hit, Patch, cut_patches, find_patches
    from convnd_tasks.inspect.units import parse_units

__all__ = [
    "Found",
    "Hit",
    "Input",
    "Patch",
    "channel_maps",
    "cut_patches",
    "explain",
    "find_patches",
    "gram_figure",
    "load_network",
    "maximise",
    "network_from_module",
    "parse_units",
    "probe_receptive_field",
]

_HOMES = {
    "Input": "reading",
    "channel_maps": "saliency",
    "explain": "saliency",
    "gram_figure": "grams",
    "load_network": "networks",
    "network_from_module": "networks",
    "probe_receptive_field": "networks",
    "maximise": "optimal",
    "parse_units": "units",
}


def __getattr__(name: str) -> object:
    # The command is in this package too, and `convnd --help` must not import torch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'search')}")
    return getattr(home, name)
