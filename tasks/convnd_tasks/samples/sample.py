"""What an entry of the tables of samples is, and how arrays become grids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from convnd_tasks.samples.fields import Array

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["RGB", "Maker", "Sample", "as_grid"]

RGB = ("R", "G", "B")

# What the axes of data without an own geometry are: a signal, a picture, a volume.
_AXES: Mapping[int, tuple[tuple[str, ...], tuple[str, ...], tuple[float, ...]]] = {
    1: (("t",), ("s",), (0.002,)),
    2: (("y", "x"), ("px", "px"), (1.0, 1.0)),
    3: (("x", "y", "z"), ("mm", "mm", "mm"), (1.0, 1.0, 1.0)),
}


class Maker(Protocol):
    """Makes a sample: ``(shape, seed, channels) -> Grid``; None stands for its own channels."""

    def __call__(self, shape: tuple[int, ...], seed: int, channels: int | None, /) -> Grid:
        """Make it."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An entry of the tables.

    Args:
        make: the maker.
        summary: one line for people.
        sizes: default size at each rank it has; empty: any rank, at `default_size`.
    """

    make: Maker
    summary: str
    sizes: Mapping[int, tuple[int, ...]]

    def fits(self, spatial_dims: int) -> bool:
        """Whether it can be made at this rank."""
        return spatial_dims >= 1 and (not self.sizes or spatial_dims in self.sizes)

    def default_size(self, spatial_dims: int) -> tuple[int, ...]:
        """Its size when none is asked for."""
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
    header: Mapping[str, object] | None = None,
) -> Grid:
    """A grid holding ``(C, *S)`` values; what is left out is filled in from the rank."""
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
        header=header or {},
    )
