"""From inputs to what goes through a network, decoded ahead of the work."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd.backbones import Backbone
from convnd.errors import ConvndError, InputFileError
from convnd.grid import Grid
from convnd.nn import resize_nd
from convnd_tasks.inspect.top import CHANNEL
from convnd_tasks.modalities.arrays import value_range
from convnd_tasks.pipeline.prefetch import prefetch

__all__ = ["Batch", "Input", "opened", "read_ahead", "read_fields", "scaled"]

Read = tuple[tuple[int, ...], list[tuple[str, Tensor]]]

_TOGETHER = 1 << 14


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
    values = torch.nan_to_num(values, nan=middle, posinf=middle, neginf=middle)
    return (values - low) / (high - low)


def read_fields(item: Input, network: Backbone, size: int, scale: bool) -> Read:
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


@dataclass(frozen=True)
class Batch:
    """What goes through the network together.

    Args:
        looked: inputs whose last part is in here, with their shapes or why they cannot be read.
        names: of the parts.
        values: ``(B, C, *S)``, or None where there are only inputs that cannot be read.
    """

    looked: Sequence[tuple[Input, tuple[int, ...] | ConvndError]]
    names: Sequence[str]
    values: Tensor | None


def read_ahead(
    inputs: Iterable[Input], read: Callable[[Input], Read], batch: int, depth: int = 2
) -> Iterator[Batch]:
    """Batches of what ``read`` makes of inputs, or the error it raised, made in a thread ahead.

    Args:
        inputs: may be a stream.
        read: makes shape and parts, see `read_fields`.
        batch: parts of one size in each; 0: one, or of small ones as many as have
            `_TOGETHER` samples together, whose work would else go into calls and not numbers.
        depth: batches that wait at most.
    """

    def make() -> Iterator[Batch]:
        looked: list[tuple[Input, tuple[int, ...] | ConvndError]] = []
        waiting: list[tuple[str, Tensor]] = []

        def ready() -> Batch:
            values = torch.cat([each for _, each in waiting]) if waiting else None
            made = Batch(tuple(looked), [name for name, _ in waiting], values)
            looked.clear()
            waiting.clear()
            return made

        for item in inputs:
            try:
                shape, parts = read(item)
            except ConvndError as error:
                looked.append((item, error))
                continue
            for name, values in parts:
                fits = batch or max(1, _TOGETHER // math.prod(values.shape[2:]))
                if waiting and (waiting[0][1].shape != values.shape or len(waiting) == fits):
                    yield ready()
                waiting.append((name, values))
            looked.append((item, shape))
        yield ready()

    return prefetch(make, depth)
