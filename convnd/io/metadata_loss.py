"""What a signal knows about itself and a file format has no place for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from convnd.io.registry import find_format
from convnd.io.signals.signal import signal_of

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["lost_metadata"]

_IS_PRESENT: Mapping[str, Callable[[Grid], bool]] = {
    "sampling rate": lambda grid: grid.units == ("s",),
    "names of leads": lambda grid: any(
        name != str(index) for index, name in enumerate(grid.channels)
    ),
    "units": lambda grid: any(signal_of(grid).units),
    "start time": lambda grid: signal_of(grid).start is not None,
    "annotations": lambda grid: bool(signal_of(grid).annotations),
    "durations of annotations": lambda grid: any(
        each.duration for each in signal_of(grid).annotations
    ),
    "gain and baseline": lambda grid: bool(signal_of(grid).steps),
    "channels of other rates": lambda grid: bool(signal_of(grid).extra.get("others")),
}


def lost_metadata(path: str | os.PathLike[str], grid: Grid) -> tuple[str, ...]:
    """What a grid of one axis knows and will not be in a file of this name, in words.

    Nothing for other grids, and for a file of the format that it came from.

    Args:
        path: the output to be; its suffix selects the format.
        grid: what is to be written.

    >>> import torch
    >>> from convnd.grid import Grid
    >>> lost_metadata("a.npy", Grid(values=torch.zeros(1, 1, 9), spacing=(0.01,), units=("s",)))
    ('sampling rate',)
    """
    entry = find_format(path)
    if entry is None or grid.ndim != 1 or signal_of(grid).format == entry.name:
        return ()
    return tuple(word for word in entry.unsupported_metadata if _IS_PRESENT[word](grid))
