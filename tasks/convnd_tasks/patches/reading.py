"""From inputs to what goes through a network, decoded ahead of the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from convnd.backbones import Backbone
from convnd.errors import ConvndError, InputFileError
from convnd.grid import Grid
from convnd.nn import resize_nd
from convnd_tasks.ahead import ahead
from convnd_tasks.arrays import value_range

__all__ = ["CHANNEL", "Input", "opened", "read_ahead", "read_fields", "scaled"]

T = TypeVar("T")

CHANNEL = "\x00"  # between the name of an input and its channel, in the order of ties


@dataclass(frozen=True)
class Input:
    """Something to look at.

    Args:
        name: what it is called; also what settles ties, so give each its own.
        open: reads it; called once in the search, and once more if a patch comes from it.
    """

    name: str
    open: Callable[[], Grid]


def opened(item: Input, size: int) -> Grid:
    """An input, its longest axis brought to ``size`` samples unless that is 0."""
    grid = item.open()
    if size:
        from convnd_tasks.style_transfer import fit

        target = fit(grid.shape, size)
        if target != grid.shape:
            grid = grid.with_values(resize_nd(grid.values, target, mode="linear"))
    return grid


def scaled(grid: Grid, scale: bool) -> Tensor:
    """Its values; other than colours mapped to about ``[0, 1]``, or, without ``scale``, no gaps."""
    values = grid.values
    if grid.channels == ("R", "G", "B"):
        return values
    if not scale:
        return torch.nan_to_num(values)
    low, high = value_range(values)
    middle = (low + high) / 2
    values = torch.where(torch.isfinite(values), values, middle)
    return (values - low) / (high - low)


def read_fields(
    item: Input, network: Backbone, size: int, scale: bool
) -> tuple[tuple[int, ...], list[tuple[str, Tensor]]]:
    """The shape of an input, and what of it goes through the network, each with its name."""
    grid = opened(item, size)
    if grid.ndim != network.spatial_dims:
        raise InputFileError(
            f"{item.name}: expected {network.spatial_dims} spatial axes, got {grid.ndim}; "
            f"use --dim {grid.ndim} or another file"
        )
    values = scaled(grid, scale)
    channels = values.shape[1]
    if channels == network.in_channels:
        return grid.shape, [(item.name, values)]
    if network.in_channels != 1:
        raise InputFileError(
            f"{item.name}: expected {network.in_channels} channels, got {channels}; "
            "convert the file, or use a network that takes them"
        )
    return grid.shape, [
        (f"{item.name}{CHANNEL}{at:04d}", values[:, at : at + 1]) for at in range(channels)
    ]


def read_ahead(
    inputs: Iterable[Input], read: Callable[[Input], T], depth: int = 2
) -> Iterator[tuple[Input, T | ConvndError]]:
    """Inputs with what ``read`` makes of them or the error it raised, made in a thread ahead."""

    def make() -> Iterator[tuple[Input, T | ConvndError]]:
        for item in inputs:
            try:
                yield item, read(item)
            except ConvndError as error:
                yield item, error

    return ahead(make, depth)
