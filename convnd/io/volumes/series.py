"""Series of volumes as fields of four axes, and back.

A file of a series is read as a grid of three spatial axes with a channel for each frame. Networks
over four axes see the frames as an axis instead, before the three others in the order of NumPy:
``(t, k, j, i)``.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["axis_to_frames", "frame_step", "frames_to_axis"]

_CODES = "integer_codes"  # entry of a header, see `convnd.io.quantization`


def frame_step(grid: Grid) -> tuple[float, str]:
    """Return the distance between the frames of a series, and its unit; 1 px if none is known."""
    return cast("tuple[float, str]", grid.header.get("frame_step", (1.0, "px")))


def frames_to_axis(grid: Grid) -> Grid:
    """Turn the frames of a series from channels into the first of four axes.

    Args:
        grid: ``(1, T, I, J, K)``, as files of series are read.

    Returns:
        Values ``(1, 1, T, K, J, I)``, a view; `convnd.io.write` writes them as a series.

    >>> import torch
    >>> from convnd.grid import Grid
    >>> series = Grid(values=torch.zeros(1, 9, 4, 5, 6), axes=("i", "j", "k"))
    >>> frames_to_axis(series).shape, frames_to_axis(series).axes
    ((9, 6, 5, 4), ('t', 'k', 'j', 'i'))
    """
    step, unit = frame_step(grid)
    header = {**grid.header, "frame_step": (step, unit)}
    if _CODES in header:
        header[_CODES] = cast("NDArray[Any]", header[_CODES]).transpose(0, 3, 2, 1)[None]
    return dataclasses.replace(
        grid,
        values=grid.values.permute(0, 1, 4, 3, 2)[:, None],
        spacing=(step, *grid.spacing[::-1]),
        units=(unit, *grid.units[::-1]),
        axes=("t", *grid.axes[::-1]),
        channels=(),
        header=header,
    )


def axis_to_frames(grid: Grid) -> Grid:
    """Turn the first of four axes into the channels of a series, as files hold them.

    Args:
        grid: ``(1, 1, T, K, J, I)``.

    Returns:
        Values ``(1, T, I, J, K)``, a view.
    """
    header = {**grid.header, "frame_step": (grid.spacing[0], grid.units[0])}
    if _CODES in header:
        header[_CODES] = cast("NDArray[Any]", header[_CODES])[0].transpose(0, 3, 2, 1)
    return dataclasses.replace(
        grid,
        values=grid.values[:, 0].permute(0, 1, 4, 3, 2),
        spacing=grid.spacing[:0:-1],
        units=grid.units[:0:-1],
        axes=grid.axes[:0:-1],
        channels=(),
        header=header,
    )
