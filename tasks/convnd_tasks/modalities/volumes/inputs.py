"""Volumes, styles and masks: reading and checking them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd import io
from convnd.errors import InputFileError, UsageError
from convnd_tasks.modalities.volumes.geometry import placement_difference
from convnd_tasks.modalities.volumes.options import parse_window

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid

__all__ = [
    "MATCHING_STYLE",
    "PHANTOM",
    "built_in_scan",
    "check_scan",
    "check_style",
    "check_writable",
    "default_style",
    "inside_window",
    "is_array",
    "mask_weights",
    "open_style",
    "open_volume",
    "parse_spacing",
]

MATCHING_STYLE = "matching"
"""Name of the built-in style of the scan's own modality."""

PHANTOM = "phantom"
"""Entry of the header of a built-in scan."""

_ARRAYS = (".npy", ".npz")
_SHORTEST = 16  # samples along two axes of a style


def is_array(name: str) -> bool:
    """Whether a file holds an array without spacing."""
    return name.lower().endswith(_ARRAYS)


def parse_spacing(text: str) -> tuple[float, ...]:
    """The millimetres between samples along three axes; empty for ``""``.

    Raises:
        UsageError: anything but three numbers above 0.

    >>> parse_spacing("0.6,0.6,5"), parse_spacing("")
    ((0.6, 0.6, 5.0), ())
    """
    if not text:
        return ()
    try:
        spacing = tuple(float(word) for word in text.split(","))
    except ValueError:
        spacing = ()
    if len(spacing) != 3 or not all(0 < step < math.inf for step in spacing):
        raise UsageError(
            "--spacing", expected="three numbers above 0", got=text, remedy="for example 0.6,0.6,5"
        )
    return spacing


def open_volume(
    name: str, spacing: Sequence[float] = (), series: str = "", *, seed: int = 0
) -> Grid:
    """Read a volume from a file or folder, or make a built-in one if there is no such file.

    Args:
        name: path, or name of a sample in Hounsfield units.
        spacing: mm along three axes, for arrays; files of other formats hold their own.
        series: name of the series in a folder of several, see `convnd.io.read_series`.
        seed: of a sample.

    Raises:
        InputFileError: it cannot be read, or holds another number of axes.
        UsageError: an array without a spacing.
    """
    from convnd_tasks import samples
    from convnd_tasks.samples import phantom

    path = Path(name)
    if name in phantom.CONTENTS and not path.exists():
        return samples.content(name, spatial_dims=3, seed=seed)
    grid = io.read_series(path, series=series) if series and path.is_dir() else io.read(path)
    array = is_array(name)
    if array and grid.ndim == 2:  # (I, J, K) was read as channels and two axes
        codes: Any = grid.header.get("integer_codes")
        header = grid.header if codes is None else {**grid.header, "integer_codes": codes[None]}
        grid = type(grid)(values=grid.values[:, None], header=header)
    if grid.ndim != 3:
        raise InputFileError(
            name,
            expected="a volume of three axes",
            got=grid.ndim,
            remedy=f"use convnd stylize --dim {grid.ndim}",
        )
    if array and spacing:
        return dataclasses.replace(grid, spacing=tuple(spacing), units=("mm",) * 3)
    if array and grid.units != ("mm",) * 3:
        raise UsageError(
            "--spacing",
            expected=f"millimetres along three axes for {name}",
            got="none",
            remedy="for example --spacing 0.6,0.6,5",
        )
    return grid


def built_in_scan(name: str, seed: int, scan: Grid) -> Grid:
    """A built-in scan as style, with voxels of about the size of a scan's.

    Args:
        name: one of the styles of `convnd_tasks.samples.phantom` and `convnd_tasks.samples.head`.
        seed: chooses the patient.
        scan: the content.
    """
    from convnd_tasks import samples
    from convnd_tasks.samples import head, phantom

    spacing = [scan.spacing[axis] for axis, _ in io.anatomical_axes(scan)]
    if name in head.STYLES:
        grid = head.middle(spacing[::-1], seed)
    else:
        size = phantom.matching_size(spacing[::-1], math.prod(scan.shape))
        grid = samples.style(name, spatial_dims=3, size=size, seed=seed)
    return dataclasses.replace(grid, header={**grid.header, PHANTOM: True})


def default_style(scan: Grid, modality: str) -> str:
    """Return the built-in style of the scan's own modality.

    Args:
        scan: the content.
        modality: see `convnd_tasks.modalities.volumes.units.scan_unit`.
    """
    from convnd_tasks.modalities.volumes.units import scan_unit

    return "sharp" if scan_unit(scan, modality) else "mr"


def open_style(
    name: str, seed: int, scan: Grid, spacing: Sequence[float] = (), series: str = ""
) -> Grid:
    """Read a style: a volume, a picture, or a built-in one.

    Args:
        name: path, or name of a sample.
        seed: of samples.
        scan: the content.
        spacing: mm along three axes, for arrays.
        series: name of the series in a folder of several.

    Raises:
        InputFileError: see `open_volume`.
        UsageError: see `open_volume`; or no sample of this name.
    """
    from convnd_tasks import samples
    from convnd_tasks.samples import head, phantom

    path = Path(name)
    if not path.suffix and not path.exists():
        if name in phantom.STYLES or name in head.STYLES:
            return built_in_scan(name, seed, scan)
        # A pattern is no scan: it is painted, as a picture.
        dims = 2 if name in samples.styles(2) else 3
        return samples.style(name, spatial_dims=dims, seed=seed)
    if path.suffix and not path.is_dir() and io.spatial_dims(path) == 2:
        return io.read(path)
    return open_volume(name, spacing, series)


def check_scan(scan: Grid, label: str) -> None:
    """Check that a grid is a volume that can be stylised.

    Args:
        scan: values ``(1, T, *S)``.
        label: its name in messages.

    Raises:
        InputFileError: not three axes, one value everywhere, or no finite value.
    """
    import torch

    if scan.ndim != 3:
        raise InputFileError(
            str(label),
            expected="a volume of three axes",
            got=_extent(scan),
            remedy="give a volume, or use convnd stylize --dim 2",
        )
    finite = scan.values[torch.isfinite(scan.values)]
    if finite.numel() == 0:
        raise InputFileError(
            str(label), expected="some finite values", got="none", remedy="check the file"
        )
    if bool((finite == finite[0]).all()):
        raise InputFileError(
            str(label),
            expected="values that differ",
            got=f"{finite[0].item():g} everywhere",
            remedy="check the file",
        )


def check_style(style: Grid, label: str) -> None:
    """Check that a grid can be the style of a volume.

    Args:
        style: a volume or a picture.
        label: its name in messages.

    Raises:
        InputFileError: see `check_scan`; or a small picture or volume; or values that are
            not finite.
    """
    import torch

    if style.ndim == 3:
        check_scan(style, label)
        if sorted(style.shape)[1] < _SHORTEST:
            raise InputFileError(
                str(label),
                expected=(
                    f"slices of at least {_SHORTEST} x {_SHORTEST} voxels, whose "
                    "noise can be measured"
                ),
                got=_extent(style),
                remedy="use a larger volume",
            )
    elif style.ndim != 2 or min(style.shape) < _SHORTEST:
        raise InputFileError(
            str(label),
            expected=(f"a volume, or a picture of at least {_SHORTEST} x {_SHORTEST} pixels"),
            got=_extent(style),
            remedy="use another",
        )
    if not bool(torch.isfinite(style.values).all()):
        raise InputFileError(
            str(label),
            expected="finite values",
            got="some that are not",
            remedy="fill or cut the gaps",
        )


def inside_window(scan: Grid, window: str) -> Tensor:
    """The voxels whose values take part, a mask of the shape of the values.

    Args:
        scan: values ``(1, T, *S)``.
        window: see `convnd_tasks.modalities.volumes.options.parse_window`; without one all finite
            values take part.

    Raises:
        InputFileError: no value is inside.
    """
    import torch

    ends = parse_window(window)
    if ends is None:
        return torch.isfinite(scan.values)
    low, high = ends
    inside = (scan.values >= low) & (scan.values <= high)
    if not bool(inside.any()):
        raise InputFileError(
            "scan",
            expected=f"values in the window {low:g} … {high:g}",
            got="none",
            remedy="use --window auto",
        )
    return inside


def check_writable(path: Path, scan: Grid, *, integers: bool) -> None:
    """Check that the format of a path can hold the result for a scan, see `Transfer`.

    Args:
        path: of the result.
        scan: the content.
        integers: whether the result will be written in the scan's own integers.
    """
    if integers:
        io.quantize(scan)
    io.dry_run_write(path, scan)


def mask_weights(scan: Grid, mask: Grid | None) -> Tensor | float:
    """The share of the change that applies to each voxel, ``(1, 1, *S)`` or 1.

    Raises:
        InputFileError: the mask has another shape than the scan, or lies elsewhere.
        UsageError: the mask is 0 everywhere.
    """
    import torch

    if mask is None:
        return 1.0
    if mask.shape != scan.shape or mask.values.shape[1] not in (1, scan.values.shape[1]):
        raise InputFileError(
            "--mask",
            expected=f"the scan's shape {_extent(scan)}",
            got=_extent(mask),
            remedy="resample the mask onto the scan",
        )
    difference = placement_difference(scan, mask)
    if difference:
        raise InputFileError(
            "--mask",
            expected="voxels where the scan's are",
            got=difference,
            remedy="resample the mask onto the scan",
        )
    weights = torch.nan_to_num(mask.values[:, :1]).clamp(0, 1)
    if not bool((weights > 0).any()):
        raise UsageError(
            "--mask", expected="some voxels above 0", got="none", remedy="give another mask"
        )
    return weights


def _extent(grid: Grid) -> str:
    return " x ".join(map(str, grid.shape))
