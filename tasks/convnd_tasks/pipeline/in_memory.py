"""Conversion of data in memory to inputs of a transfer: tensors, arrays, PIL images and grids."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd import io
from convnd.errors import InputFileError, ShapeError, UsageError
from convnd.grid import Grid
from convnd.io.images.formats import grid_of_image, grid_of_pixels
from convnd.io.missing import missing_file_error
from convnd_tasks.modalities.opening import open_grid
from convnd_tasks.modalities.tensors import as_tensor
from convnd_tasks.runtime.fraction import parse_fraction

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["as_grid", "as_input", "is_name", "kind_of_grid", "spacing_text"]

_RGB = ("R", "G", "B")


def as_grid(data: Any, dim: int | None = None) -> Grid:
    """Convert data in memory to a `Grid`.

    Args:
        data: a `Grid`, a PIL image, or a tensor or array ``(*S)``, ``(C, *S)`` or ``(1, C, *S)``.
            Two kinds of arrays are pictures: codes of 8 or 16 bits (uint8, uint16) of three colours
            and perhaps alpha, ``(H, W, 3 or 4)`` or with ``dim=2`` ``(3 or 4, H, W)``; and with
            ``dim=2`` three channels of floats in ``[0, 1]``, ``(3, H, W)`` or ``(H, W, 3)``.
        dim: number of spatial axes; None counts every axis of an array of one or two axes.

    Raises:
        UsageError: ``dim`` is needed and missing, or the data are no numbers.
        ShapeError: the array has another number of axes.
        InputFileError: three channels with ``dim=2`` whose values are not in ``[0, 1]``; or a PIL
            image of an unsupported kind.

    >>> import numpy as np
    >>> as_grid(np.zeros((4, 5, 3), np.uint8)).shape
    (4, 5)
    """
    if isinstance(data, Grid):
        return data
    if hasattr(data, "convert"):  # a PIL image
        return grid_of_image(data)
    values = as_tensor(data, "stylize", remedy="give arrays, or files by their paths")
    picture = _as_codes(values, dim)
    if picture is not None:
        return picture
    dim = _spatial_dims(values, dim)
    if dim == 2 and values.ndim == 3 and values.shape[-1] == 3 and values.shape[0] > 4:
        values = values.movedim(-1, 0)  # colours last: a picture of 3 columns is too narrow
    while values.ndim < dim + 2:
        values = values[None]
    if values.shape[0] != 1:
        raise ShapeError(
            "stylize",
            expected="a batch of 1",
            got=values.shape[0],
            remedy="give one item at a time",
        )
    if dim == 2 and values.shape[1] == 3:
        return _picture(values)
    return Grid(values=values.float())


def _spatial_dims(values: Tensor, dim: int | None) -> int:
    """Return the number of spatial axes of an array: ``dim``, or as its shape tells."""
    if dim is None:
        if values.ndim > 2:
            raise UsageError(
                "stylize",
                expected=f"dim for an array of {values.ndim} axes",
                got="none",
                remedy=(
                    f"give the number of spatial axes, for example dim={max(1, values.ndim - 2)}"
                ),
            )
        return values.ndim
    if not dim <= values.ndim <= dim + 2:
        raise ShapeError(
            "stylize",
            expected=f"{dim} to {dim + 2} axes for dim={dim}",
            got=tuple(values.shape),
            remedy="give (*S), (C, *S) or (1, C, *S)",
        )
    return dim


def _picture(values: Tensor) -> Grid:
    """Convert three channels ``(1, 3, H, W)`` to a picture."""
    if not values.is_floating_point():
        raise InputFileError(
            "stylize",
            expected="three channels as floats from 0 to 1, uint8 or uint16",
            got=str(values.dtype).removeprefix("torch."),
            remedy="divide by the largest code, for example picture / 255",
        )
    values = values.float()
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise InputFileError(
            "stylize",
            expected="three channels from 0 to 1, which are a picture",
            got=f"values from {values.min().item():.4g} to {values.max().item():.4g}",
            remedy="scale them (picture / 255, or picture.clamp(0, 1)), or give "
            "convnd.Grid(values=...) for quantities that are no colours",
        )
    return Grid(values=values, channels=_RGB)


def _as_codes(values: Tensor, dim: int | None) -> Grid | None:
    """Convert the integer codes of a picture to a grid; return None for other data."""
    import torch

    if values.dtype not in (torch.uint8, torch.uint16) or dim not in (None, 2):
        return None
    codes = values[0] if values.ndim == 4 and values.shape[0] == 1 else values
    if codes.ndim == 3 and codes.shape[-1] not in (3, 4) and codes.shape[0] in (3, 4) and dim == 2:
        codes = codes.movedim(0, -1)
    if codes.ndim != 3 or codes.shape[-1] not in (3, 4):
        return None
    return grid_of_pixels(codes.cpu().contiguous().numpy())


def is_name(data: object) -> bool:
    """Return whether data are a path or the name of a sample."""
    return isinstance(data, str | os.PathLike)


def spacing_text(spacing: str | Sequence[float]) -> str:
    """Write a spacing in millimetres as the command line takes it.

    >>> spacing_text((0.6, 0.6, 5))
    '0.6,0.6,5.0'
    """
    return spacing if isinstance(spacing, str) else ",".join(str(float(step)) for step in spacing)


def as_input(data: Any, dim: int | None, role: str, rate: str | None, spacing: str = "") -> Grid:
    """Open or convert one input of a transfer.

    Args:
        data: a path, the name of a sample, or data that `as_grid` takes.
        dim: number of spatial axes, or None.
        role: ``"content"`` or ``"style"``.
        rate: samples per second of a signal that does not hold it, or None.
        spacing: millimetres between samples along three axes, as text; a tensor or array of three
            axes then is a scan.

    Raises:
        ConvndError: the input cannot be read or converted, see `convnd.io.read` and `as_grid`.
    """
    grid = _open_or_convert(data, 3 if spacing and dim is None else dim, role)
    if spacing and grid.ndim == 3 and not (is_name(data) or isinstance(data, Grid)):
        from convnd_tasks.modalities.volumes.inputs import parse_spacing

        return dataclasses.replace(grid, spacing=parse_spacing(spacing), units=("mm",) * 3)
    if rate is None or grid.ndim != 1:
        return grid
    from convnd_tasks.modalities.signals.modality import set_rate

    return set_rate(grid, float(parse_fraction("rate", rate)), role)


def _open_or_convert(data: Any, dim: int | None, role: str) -> Grid:
    if not is_name(data):
        return as_grid(data, dim)
    if dim is not None:
        return open_grid(os.fspath(data), dim, role=role, seed=0)
    if not Path(data).exists():
        raise missing_file_error(data)
    return io.read(data)


def kind_of_grid(grid: Grid) -> str:
    """Return the name of the kind of data of a grid."""
    if grid.ndim == 2 and grid.channels == _RGB:
        return "pictures"
    if grid.ndim == 1:
        return "signals"
    return "volumes" if grid.ndim == 3 and grid.units == ("mm",) * 3 else "arrays"
