"""Values on a regular grid, with the metadata to write them back to a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convnd.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Grid"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Grid:
    """Samples of a field on a regular grid with ``N`` spatial axes.

    Only `convnd.io` reads ``header``; all other code uses values and spacing.

    Args:
        values: ``(1, C, *S)``, float32. Images hold RGB in ``[0, 1]``; signals and volumes their
            physical units (mV, HU).
        spacing: distance between samples along each spatial axis, in ``units``.
        units: unit of each axis: ``"px"``, ``"mm"``, ``"s"``.
        axes: name of each axis, e.g. ``("y", "x")``, ``("t",)``.
        channels: name of each channel, e.g. ``("R", "G", "B")`` or lead names.
        header: metadata that the writer needs to preserve the file's properties (alpha, ICC
            profile, affine, codes, sampling rate, frame times); the reader defines the keys.

    Raises:
        ShapeError: values, spacing, units, axes and channels do not describe one grid.

    >>> import torch
    >>> ecg = Grid(values=torch.zeros(1, 12, 5000), spacing=(0.002,), units=("s",), axes=("t",))
    >>> ecg.ndim, ecg.shape
    (1, (5000,))
    """

    values: Tensor
    spacing: tuple[float, ...] = ()
    units: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    header: Mapping[str, object] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        shape = tuple(self.values.shape)
        if len(shape) < 3 or shape[0] != 1 or min(shape) < 1:
            raise ShapeError(
                "Grid",
                expected="non-empty values of shape (1, C, *S)",
                got=shape,
                remedy="add the batch and channel axes",
            )
        ndim = len(shape) - 2
        defaults = {
            "spacing": (1.0,) * ndim,
            "units": ("px",) * ndim,
            "axes": tuple(f"x{axis}" for axis in range(ndim)),
            "channels": tuple(str(channel) for channel in range(shape[1])),
        }
        for name, default in defaults.items():
            entries = tuple(getattr(self, name)) or default
            if len(entries) != len(default):
                raise ShapeError(
                    "Grid",
                    expected=f"{len(default)} {name} for values of shape {shape}",
                    got=len(entries),
                    remedy="give one entry each",
                )
            object.__setattr__(self, name, entries)
        if not all(0 < step < float("inf") for step in self.spacing):
            raise ShapeError(
                "Grid",
                expected="positive finite spacing",
                got=self.spacing,
                remedy="correct the header",
            )

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return self.values.ndim - 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent along each spatial axis, in samples."""
        return tuple(self.values.shape[2:])

    def to(self, *args: Any, **kwargs: Any) -> Grid:
        """The same grid with its values on another device, or in another number format.

        Args:
            args: as for `torch.Tensor.to`: a device, a ``dtype``, or both.
            kwargs: as for `torch.Tensor.to`.

        Returns:
            The grid itself if nothing changes.

        >>> import torch
        >>> Grid(values=torch.zeros(1, 1, 4)).to(torch.float64).values.dtype
        torch.float64
        """
        values = self.values.to(*args, **kwargs)
        return self if values is self.values else dataclasses.replace(self, values=values)

    def _repr_html_(self) -> str:
        """The HTML that a notebook shows."""
        from convnd.grid_html import grid_html

        return grid_html(
            self.values,
            axes=self.axes,
            spacing=self.spacing,
            units=self.units,
            channels=self.channels,
        )

    def with_values(self, values: Tensor) -> Grid:
        """The same grid with other values; the spacing follows if the extent changes.

        Args:
            values: ``(1, C, *S')`` with the same number of axes. The field of view stays the
                same, so that the spacing becomes ``spacing · S / S'``.

        Raises:
            ShapeError: the number of axes differs.
        """
        if values.ndim != self.values.ndim:
            raise ShapeError(
                "Grid.with_values",
                expected=f"{self.values.ndim} axes",
                got=values.ndim,
                remedy="keep the rank",
            )
        spacing = tuple(
            step if old == new else step * old / new  # a product may round
            for step, old, new in zip(self.spacing, self.shape, values.shape[2:], strict=True)
        )
        same_channels = values.shape[1] == self.values.shape[1]
        return dataclasses.replace(
            self, values=values, spacing=spacing, channels=self.channels if same_channels else ()
        )
