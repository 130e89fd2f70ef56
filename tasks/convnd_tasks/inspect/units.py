"""Which units of a network are looked at, and what they see."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from convnd.backbones import Backbone
from convnd.errors import UsageError
from convnd.shapes import ReceptiveField, is_count

__all__ = ["check_units", "fields_of", "parse_units"]


def fields_of(network: Backbone, layers: Sequence[str]) -> dict[str, ReceptiveField]:
    """The receptive fields of layers.

    Raises:
        UnknownNameError: no such layer.
        UsageError: the network does not know them.
    """
    network.check(torch.zeros(1, network.in_channels, *[1] * network.spatial_dims), layers)
    missing = [name for name in layers if name not in network.receptive_fields]
    if missing:
        raise UsageError(
            f"patches: expected the receptive field of {', '.join(missing)}, got a network that "
            "does not tell; use convnd_tasks.inspect.network_from_module"
        )
    return {name: network.receptive_fields[name] for name in layers}


def parse_units(text: str, channels: int, *, layer: str, seed: int = 0) -> list[int]:
    """Which units ``"0-15"``, ``"3,7,20-22"``, ``"random:16"`` or ``"all"`` stand for.

    Args:
        text: as people type it.
        channels: how many units the layer has.
        layer: its name, for the message.
        seed: of ``random``.

    Raises:
        UsageError: it is none of these, or names a unit that is not there.

    >>> parse_units("3,0-1", 8, layer="relu1_1"), len(parse_units("random:4", 8, layer="x"))
    ([3, 0, 1], 4)
    """
    wrong = UsageError(
        f"--units: expected numbers from 0 to {channels - 1} for {layer} (0-15 or 3,7), "
        f"random:16 or all, got {text!r}; choose from these"
    )
    if text == "all":
        return list(range(channels))
    kind, _, amount = text.partition(":")
    if kind == "random":
        if not is_count(amount) or not int(amount) > 0:
            raise wrong
        drawn = random.Random(seed).sample(range(channels), min(int(amount), channels))
        return sorted(drawn)
    units: list[int] = []
    for word in text.split(","):
        low, dash, high = word.strip().partition("-")
        ends = [low, high if dash else low]
        if not all(is_count(end) for end in ends) or int(ends[1]) < int(ends[0]):
            raise wrong
        if int(ends[1]) >= channels:
            raise wrong
        units += [unit for unit in range(int(ends[0]), int(ends[1]) + 1) if unit not in units]
    return units


def check_units(layer: str, units: Sequence[int], channels: int) -> list[int]:
    """The units asked for, or all of them where none is.

    Raises:
        UsageError: one is not there.
    """
    bad = [unit for unit in units if not 0 <= unit < channels]
    if bad:
        raise UsageError(
            f"units: expected numbers from 0 to {channels - 1} for {layer}, got {bad[0]}; "
            "choose from these"
        )
    return list(units) or list(range(channels))
