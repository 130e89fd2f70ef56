"""Entries of the tables of samples, and the conversion of arrays to grids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convnd_tasks.samples.fields import Array

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["RGB", "Maker", "Sample", "as_grid"]

Maker = Callable[[tuple[int, ...], int], "Grid"]
"""A function that makes a sample from the samples along each axis and a seed."""

RGB = ("R", "G", "B")

# Names, units and spacing of the axes of data without a geometry: signal, picture, volume.
_AXES: Mapping[int, tuple[tuple[str, ...], tuple[str, ...], tuple[float, ...]]] = {
    1: (("t",), ("s",), (0.002,)),
    2: (("y", "x"), ("px", "px"), (1.0, 1.0)),
    3: (("x", "y", "z"), ("mm", "mm", "mm"), (1.0, 1.0, 1.0)),
}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An entry of the tables of samples.

    Args:
        make: the function that makes the sample.
        summary: one line of description.
        sizes: default size by number of axes; empty if the sample exists with any number of axes.
    """

    make: Maker
    summary: str
    sizes: Mapping[int, tuple[int, ...]]

    def supports(self, spatial_dims: int) -> bool:
        """Return whether the sample exists at a rank."""
        return spatial_dims >= 1 and (not self.sizes or spatial_dims in self.sizes)

    def default_size(self, spatial_dims: int) -> tuple[int, ...]:
        """Return the default size at a rank."""
        if self.sizes:
            return self.sizes[spatial_dims]
        return ({1: 5000, 2: 512, 3: 64, 4: 24}.get(spatial_dims, 8),) * spatial_dims


def as_grid(
    values: Array,
    *,
    axes: tuple[str, ...] = (),
    units: tuple[str, ...] = (),
    spacing: tuple[float, ...] = (),
    channels: tuple[str, ...] = (),
) -> Grid:
    """Wrap ``(C, *S)`` values as a grid; axes, units and spacing default to those of the rank."""
    import torch  # here, so that listing the samples stays quick

    from convnd.grid import Grid

    rank = values.ndim - 1
    axes_, units_, spacing_ = _AXES.get(rank, ((), (), ()))
    if not channels and rank >= 2 and len(values) == 3:
        channels = RGB
    return Grid(
        values=torch.from_numpy(values[None].astype("float32")),
        axes=axes or axes_,
        units=units or units_,
        spacing=spacing or spacing_,
        channels=channels,
    )
