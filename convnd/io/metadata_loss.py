"""What a file format cannot store of a picture, a signal or a volume besides its values."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from convnd.io.registry import find_format
from convnd.io.signals.signal import signal_of

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["lost_metadata"]

_LONGEST_NOTE = 255  # characters of a WFDB annotation
_IS_PRESENT: Mapping[str, Callable[[Grid], bool]] = {
    "sampling rate": lambda grid: grid.units == ("s",),
    "names of leads": lambda grid: any(
        name != str(index) for index, name in enumerate(grid.channels)
    ),
    "units": lambda grid: any(signal_of(grid).units),
    "start time": lambda grid: signal_of(grid).start is not None,
    "time of the first sample": lambda grid: signal_of(grid).offset != 0,
    "annotations": lambda grid: bool(signal_of(grid).annotations),
    "durations of annotations": lambda grid: any(
        annotation.duration for annotation in signal_of(grid).annotations
    ),
    "annotations beyond 255 characters": lambda grid: any(
        len(annotation.text) > _LONGEST_NOTE for annotation in signal_of(grid).annotations
    ),
    "gain and baseline": lambda grid: bool(signal_of(grid).steps),
    "leads of other rates": lambda grid: bool(signal_of(grid).others),
}

_IS_PRESENT_IN_PICTURE: Mapping[str, Callable[[Grid], bool]] = {
    "transparency": lambda grid: _is_transparent(grid.header.get("alpha")),
    "more than 8 bits": lambda grid: grid.header.get("depth") in (16, 32),
    "more than 16 bits": lambda grid: grid.header.get("depth") == 32,
}

_LOST_GEOMETRY = {
    "npy": ("spacing", "position and directions of the scan"),
    "npz": ("position and directions of the scan",),
}


def lost_metadata(path: str | os.PathLike[str], grid: Grid) -> tuple[str, ...]:
    """Name what a file of this format will not contain of a grid besides its values.

    Args:
        path: the output; its suffix selects the format.
        grid: what will be written.

    Returns:
        Names such as ``"sampling rate"`` or ``"transparency"``; empty for the format that a signal
        was read from.

    >>> import torch
    >>> from convnd.grid import Grid
    >>> lost_metadata("a.npy", Grid(values=torch.zeros(1, 1, 9), spacing=(0.01,), units=("s",)))
    ('sampling rate',)
    """
    entry = find_format(path)
    if entry is not None and grid.ndim == 3 and grid.header.get("affine") is not None:
        return _LOST_GEOMETRY.get(entry.name, ())
    if entry is None or grid.ndim > 2:
        return ()
    if grid.ndim == 1 and signal_of(grid).format == entry.name:
        return ()
    known = _IS_PRESENT if grid.ndim == 1 else _IS_PRESENT_IN_PICTURE
    names = entry.unsupported_metadata
    return tuple(name for name in names if name in known and known[name](grid))


def _is_transparent(alpha: Any) -> bool:
    return alpha is not None and bool((alpha < 1).any())
