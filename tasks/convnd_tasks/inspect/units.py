"""Selection of units, and the receptive fields of their layers."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from convnd.backbones import Backbone
from convnd.errors import UsageError
from convnd.shapes import ReceptiveField, is_count_text

__all__ = ["check_units", "parse_units", "receptive_fields"]


def receptive_fields(network: Backbone, layers: Sequence[str]) -> dict[str, ReceptiveField]:
    """Look up the receptive field of each layer.

    Args:
        network: a backbone.
        layers: names of its layers.

    Raises:
        UnknownNameError: the network has no such layer.
        UsageError: the network does not declare the receptive field of a layer.
    """
    network.check(torch.zeros(1, network.in_channels, *[1] * network.spatial_dims), layers)
    missing = [name for name in layers if name not in network.receptive_fields]
    if missing:
        raise UsageError(
            "patches",
            expected=f"a network that declares the receptive field of {', '.join(missing)}",
            got="one that does not",
            remedy="wrap it with convnd_tasks.inspect.network_from_module",
        )
    return {name: network.receptive_fields[name] for name in layers}


def parse_units(text: str, channels: int, *, layer: str, seed: int = 0) -> list[int]:
    """Parse a selection of units: ``"0-15"``, ``"3,7,20-22"``, ``"random:16"`` or ``"all"``.

    Args:
        text: the selection.
        channels: number of units in the layer.
        layer: name of the layer, for the error message.
        seed: seed of the draw for ``random:N``.

    Returns:
        The unit numbers, each once, in the order of the text.

    Raises:
        UsageError: the text has none of these forms, or names a unit that the layer lacks.

    >>> parse_units("3,0-1", 8, layer="relu1_1"), len(parse_units("random:4", 8, layer="x"))
    ([3, 0, 1], 4)
    """
    invalid = UsageError(
        "--units",
        expected=f"numbers from 0 to {channels - 1} for {layer} (0-15 or 3,7), random:16 or all",
        got=repr(text),
        remedy="choose from these",
    )
    if text == "all":
        return list(range(channels))
    kind, _, amount = text.partition(":")
    if kind == "random":
        if not is_count_text(amount) or not int(amount) > 0:
            raise invalid
        sample = random.Random(seed).sample(range(channels), min(int(amount), channels))
        return sorted(sample)
    units: list[int] = []
    for word in text.split(","):
        first, dash, last = word.strip().partition("-")
        bounds = [first, last if dash else first]
        if not all(is_count_text(bound) for bound in bounds):
            raise invalid
        low, high = map(int, bounds)
        if high < low or high >= channels:
            raise invalid
        units += [unit for unit in range(low, high + 1) if unit not in units]
    return units


def check_units(layer: str, units: Sequence[int], channels: int) -> list[int]:
    """Check unit numbers against the width of a layer.

    Args:
        layer: name of the layer, for the error message.
        units: the numbers; an empty sequence selects all units.
        channels: number of units in the layer.

    Raises:
        UsageError: the layer has no unit of such a number.
    """
    invalid = [unit for unit in units if not 0 <= unit < channels]
    if invalid:
        raise UsageError(
            "units",
            expected=f"numbers from 0 to {channels - 1} for {layer}",
            got=invalid[0],
            remedy="choose from these",
        )
    return list(units) or list(range(channels))
