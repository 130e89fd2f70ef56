"""Reading inputs: from files and samples to batches for the network, one batch ahead."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd.backbones import Backbone
from convnd.errors import ConvndError, InputFileError, as_convnd_error
from convnd.grid import Grid
from convnd.nn import resize_nd
from convnd.transfer.scales import fit_size
from convnd_tasks.inspect.top import CHANNEL_SEPARATOR
from convnd_tasks.modalities.images.hidden import fill_hidden_pixels
from convnd_tasks.modalities.value_range import value_range
from convnd_tasks.runtime.prefetch import prefetch

__all__ = ["Batch", "Input", "iter_batches", "normalize", "open_resized", "prepare_input"]

PreparedInput = tuple[tuple[int, ...], list[tuple[str, Tensor]]]
"""Shape of an input, and the ``(key, values)`` pairs that go through the network."""

_AHEAD = 2  # batches that are prepared while one is searched
_BATCH_SAMPLES = 1 << 14
"""Samples in an automatic batch: below that, the cost of calls outweighs that of arithmetic."""


@dataclass(frozen=True)
class Input:
    """An input to search.

    Args:
        name: unique name; ties between equal activations are settled by it.
        open: reads the input. The search calls it once, and `cut_patches` once more if the input
            contains a patch.
    """

    name: str
    open: Callable[[], Grid]


def open_resized(item: Input, size: int) -> Grid:
    """Read an input and resize it.

    Args:
        item: the input.
        size: samples along the longest axis of the result; 0 keeps the input's own size.
    """
    grid = fill_hidden_pixels(item.open(), item.name)
    if size:
        target = fit_size(grid.shape, size)
        if target != grid.shape:
            grid = grid.with_values(resize_nd(grid.values, target, mode="linear"))
    return grid


def normalize(grid: Grid, rescale: bool) -> Tensor:
    """Convert the values of a grid to those that the network receives.

    Args:
        grid: values ``(1, C, *S)``. RGB values are returned unchanged.
        rescale: map the values to about ``[0, 1]`` by their percentiles, with missing values in
            the middle; False keeps the values and replaces missing ones by 0.

    Returns:
        ``(1, C, *S)``.
    """
    values = grid.values
    if grid.channels == ("R", "G", "B"):
        return values
    if not rescale:
        return torch.nan_to_num(values)
    low, high = value_range(values)
    middle = (low + high) / 2
    values = torch.nan_to_num(values, nan=middle, posinf=middle, neginf=middle)
    return (values - low) / (high - low)


def prepare_input(item: Input, network: Backbone, size: int, rescale: bool) -> PreparedInput:
    """Read an input and split it into what the network takes.

    An input with as many channels as the network is one entry. For a network of one channel, each
    channel of the input is an entry of its own.

    Args:
        item: the input.
        network: the backbone.
        size: samples along the longest axis, or 0; see `open_resized`.
        rescale: see `normalize`.

    Returns:
        The shape of the input, and for each entry its key and its values ``(1, C, *S)``.

    Raises:
        InputFileError: the input has another rank or number of channels than the network.
    """
    grid = open_resized(item, size)
    if grid.ndim != network.spatial_dims:
        raise InputFileError(
            item.name,
            expected=f"{network.spatial_dims} spatial axes",
            got=grid.ndim,
            remedy=f"use --dim {grid.ndim} or another file",
        )
    values = normalize(grid, rescale)
    channels = values.shape[1]
    if channels == network.in_channels:
        return grid.shape, [(item.name, values)]
    if network.in_channels != 1:
        raise InputFileError(
            item.name,
            expected=f"{network.in_channels} channels",
            got=channels,
            remedy="convert the file, or use a network that takes them",
        )
    return grid.shape, [
        (f"{item.name}{CHANNEL_SEPARATOR}{channel:04d}", values[:, channel : channel + 1])
        for channel in range(channels)
    ]


@dataclass(frozen=True)
class Batch:
    """Entries that go through the network together.

    Args:
        inputs: the inputs whose last entry is in this batch, each with its shape, or with the
            error that reading it raised.
        keys: key of each entry.
        values: ``(B, C, *S)``, or None if the batch holds only inputs that cannot be read.
    """

    inputs: Sequence[tuple[Input, tuple[int, ...] | ConvndError]]
    keys: Sequence[str]
    values: Tensor | None


def iter_batches(
    inputs: Iterable[Input], prepare: Callable[[Input], PreparedInput], batch: int
) -> Iterator[Batch]:
    """Prepare inputs in a background thread and group entries of one size into batches.

    Args:
        inputs: any number of inputs; may be a stream.
        prepare: reads one input, see `prepare_input`. An error that it raises becomes part of the
            batch, as a `ConvndError`.
        batch: entries in a batch; 0 chooses one entry, or as many small ones as have
            `_BATCH_SAMPLES` samples together.
    """

    def make_batches() -> Iterator[Batch]:
        outcomes: list[tuple[Input, tuple[int, ...] | ConvndError]] = []
        pending: list[tuple[str, Tensor]] = []

        def flush() -> Batch:
            values = torch.cat([values for _, values in pending]) if pending else None
            full = Batch(tuple(outcomes), [key for key, _ in pending], values)
            outcomes.clear()
            pending.clear()
            return full

        for item in inputs:
            try:
                shape, entries = prepare(item)
            except Exception as error:
                failure = as_convnd_error(error)
                if failure is None:
                    raise
                outcomes.append((item, failure))
                continue
            for key, values in entries:
                limit = batch or max(1, _BATCH_SAMPLES // math.prod(values.shape[2:]))
                if pending and (pending[0][1].shape != values.shape or len(pending) == limit):
                    yield flush()
                pending.append((key, values))
            outcomes.append((item, shape))
        yield flush()

    return prefetch(make_batches, _AHEAD)
