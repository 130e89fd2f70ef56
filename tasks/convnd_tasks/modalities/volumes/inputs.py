"""Reading and checking of volumes, styles and masks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convnd import io
from convnd.errors import InputFileError, UsageError
from convnd.io.array import without_channels
from convnd_tasks import samples
from convnd_tasks.modalities.base import Transfer
from convnd_tasks.modalities.volumes.geometry import check_placement
from convnd_tasks.modalities.volumes.options import parse_window
from convnd_tasks.samples import head, phantom

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid

__all__ = [
    "PHANTOM",
    "SHORTEST_SIDE",
    "ScanTransfer",
    "built_in_scan",
    "check_scan",
    "check_style",
    "check_tissue",
    "default_style",
    "inside_window",
    "is_array",
    "mask_weights",
    "open_style",
    "open_volume",
    "parse_spacing",
]

PHANTOM = "phantom"
"""Header entry that marks a built-in scan."""

SHORTEST_SIDE = 16
"""Smallest number of voxels or pixels along two axes of a style or a slice."""


def is_array(name: str) -> bool:
    """Whether a path names a file of an array, which has no spacing."""
    return name.lower().endswith((".npy", ".npz"))


def parse_spacing(text: str) -> tuple[float, ...]:
    """Parse the mm between samples along three axes, such as ``"0.6,0.6,5"``; ``""`` is empty.

    Raises:
        UsageError: the text is not three numbers above 0.

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
        name: path, or name of a built-in scan in Hounsfield units.
        spacing: mm along three axes, for arrays only; other formats store it.
        series: name of the series in a folder of several, see `convnd.io.read_series`.
        seed: seed of a built-in scan.

    Raises:
        InputFileError: the file cannot be read, or does not have three axes.
        UsageError: the file is an array and there is no spacing.
    """
    path = Path(name)
    if name in phantom.CONTENTS and not path.exists():
        return samples.content(name, spatial_dims=3, seed=seed)
    grid = io.read_series(path, series=series) if series and path.is_dir() else io.read(path)
    array = is_array(name)
    if array and grid.ndim == 2:  # an array (I, J, K) was read as I channels of two axes
        grid = without_channels(grid)
    if array and grid.ndim == 3 and grid.values.shape[1] > 1:
        # Formats of series write the channels as frames, of unknown time step.
        grid = dataclasses.replace(grid, header={"frame_step": (1.0, "px"), **grid.header})
    if grid.ndim != 3:
        expected, remedy = "a volume of three axes", f"use convnd stylize --dim {grid.ndim}"
        raise InputFileError(name, expected=expected, got=grid.ndim, remedy=remedy)
    if array and spacing:
        return dataclasses.replace(grid, spacing=tuple(spacing), units=("mm",) * 3)
    if array and grid.units != ("mm",) * 3:
        expected = f"millimetres along three axes for {name}"
        remedy = "for example --spacing 0.6,0.6,5"
        raise UsageError("--spacing", expected=expected, got="none", remedy=remedy)
    return grid


def built_in_scan(name: str, seed: int, scan: Grid) -> Grid:
    """Make a built-in scan as style, with voxels of the content's size.

    Args:
        name: a style of `convnd_tasks.samples.phantom` or `convnd_tasks.samples.head`.
        seed: seed of the anatomy.
        scan: the content.
    """
    spacing = [scan.spacing[axis] for axis, _ in io.anatomical_axes(scan)]
    if name in head.STYLES:
        grid = head.middle(spacing[::-1], seed)
    else:
        size = phantom.matching_size(spacing[::-1], math.prod(scan.shape))
        grid = samples.style(name, spatial_dims=3, size=size, seed=seed)
        # Its noise has the scale of voxels, so it would be coarse in a scan of finer ones.
        grid = dataclasses.replace(grid, spacing=tuple(spacing[::-1]))
    return dataclasses.replace(grid, header={**grid.header, PHANTOM: True})


def default_style(scan: Grid, modality: str) -> str:
    """The name of the built-in style of a scan's modality.

    Args:
        scan: the content.
        modality: "ct", "mr", "other" or "auto", see
            `convnd_tasks.modalities.volumes.units.scan_unit`.
    """
    from convnd_tasks.modalities.volumes.units import scan_unit

    return "sharp" if scan_unit(scan, modality) else "mr"


def open_style(
    name: str, seed: int, scan: Grid, spacing: Sequence[float] = (), series: str = ""
) -> Grid:
    """Read a volume or picture as style, or make a built-in one.

    Args:
        name: path, or name of a built-in style.
        seed: seed of built-in styles.
        scan: the content.
        spacing: mm along three axes, for arrays only.
        series: name of the series in a folder of several.

    Raises:
        InputFileError: see `open_volume`.
        UsageError: see `open_volume`; or there is no built-in style of this name.
    """
    path = Path(name)
    if not path.suffix and not path.exists():
        if name in phantom.STYLES or name in head.STYLES:
            return built_in_scan(name, seed, scan)
        # Patterns are painted, like pictures.
        dims = 2 if name in samples.styles(2) else 3
        return samples.style(name, spatial_dims=dims, seed=seed)
    if path.suffix and not path.is_dir() and io.spatial_dims(path) == 2:
        return io.read(path)
    return open_volume(name, spacing, series)


def check_scan(scan: Grid, label: str) -> None:
    """Check that a grid is a volume that can be stylised.

    Args:
        scan: a grid with values ``(1, T, *S)``.
        label: name of the grid in messages.

    Raises:
        InputFileError: the grid does not have three axes, or its values are all equal or missing.
    """
    import torch

    if scan.ndim != 3:
        expected, remedy = "a volume of three axes", "give a volume, or use convnd stylize --dim 2"
        raise InputFileError(label, expected=expected, got=_extent(scan), remedy=remedy)
    finite = scan.values[torch.isfinite(scan.values)]
    if finite.numel() == 0:
        raise InputFileError(
            label, expected="some finite values", got="none", remedy="check the file"
        )
    if bool((finite == finite[0]).all()):
        expected, got = "at least two different values", f"{finite[0].item():g} everywhere"
        raise InputFileError(label, expected=expected, got=got, remedy="check the file")


def check_tissue(scan: Grid, label: str) -> None:
    """Check that a volume shows something besides a constant background.

    Args:
        scan: a volume with values ``(1, T, *S)``.
        label: name of the volume in messages.

    Raises:
        InputFileError: every frame is constant, or has constant regions of two values, as a mask.
    """
    from convnd_tasks.modalities.volumes.scan import first_valid_frame

    if first_valid_frame(scan) is None:
        raise InputFileError(
            label,
            expected="a scan, with values that differ from voxel to voxel",
            got="constant regions only, as in a mask",
            remedy="check the order of the files; --mask FILE gives a mask",
        )


def check_style(style: Grid, label: str) -> None:
    """Check that a grid can be the style of a volume.

    Args:
        style: a volume or a picture.
        label: name of the style in messages.

    Raises:
        InputFileError: see `check_scan`; or the style is too small, or a value is not finite.
    """
    import torch

    size = f"{SHORTEST_SIDE} x {SHORTEST_SIDE}"
    if style.ndim == 3:
        check_scan(style, label)
        if sorted(style.shape)[1] < SHORTEST_SIDE:
            expected = f"slices of at least {size} voxels, so that noise can be measured"
            remedy = "use a larger volume"
            raise InputFileError(label, expected=expected, got=_extent(style), remedy=remedy)
    elif style.ndim != 2 or min(style.shape) < SHORTEST_SIDE:
        expected, remedy = f"a volume, or a picture of at least {size} pixels", "use another style"
        raise InputFileError(label, expected=expected, got=_extent(style), remedy=remedy)
    if not bool(torch.isfinite(style.values).all()):
        got, remedy = "missing or infinite values", "fill the gaps, or crop the style"
        raise InputFileError(label, expected="finite values", got=got, remedy=remedy)


def inside_window(scan: Grid, window: str) -> Tensor:
    """Find the voxels whose values are inside a window, and so may change.

    Args:
        scan: a grid with values ``(1, T, *S)``.
        window: see `convnd_tasks.modalities.volumes.options.parse_window`; "auto" includes all
            finite values.

    Returns:
        ``(1, T, *S)``, bool.

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
        expected = f"values in the window {low:g} … {high:g}"
        raise InputFileError("scan", expected=expected, got="none", remedy="use --window auto")
    return inside


class ScanTransfer(Transfer):
    """A transfer to a scan, whose result has the scan's grid.

    Attributes:
        scan: the content.
        integers: the result will be written in the scan's own integers.
    """

    scan: Grid
    integers = False

    def check_writable(self, path: Path) -> None:
        """See `Transfer.check_writable`."""
        if self.integers:
            io.quantize(self.scan)
        io.dry_run_write(path, self.scan)

    def frame_labels(self, frame: int) -> tuple[str, str]:
        """The prefix of messages and the suffix of entries about a frame, of a series of several.

        Args:
            frame: number of the frame, from 0.
        """
        several = self.scan.values.shape[1] > 1
        return (f"frame {frame + 1}: ", f"_{frame + 1}") if several else ("", "")


def mask_weights(scan: Grid, mask: Grid | None) -> Tensor:
    """Convert a mask to the share of the change that applies to each voxel.

    Args:
        scan: the content.
        mask: a volume on the scan's grid with weights in ``[0, 1]``; None is 1 everywhere.

    Returns:
        ``(1, 1, *S)``.

    Raises:
        InputFileError: the mask has another shape or position than the scan.
        UsageError: the mask is 0 everywhere.
    """
    import torch

    if mask is None:
        return torch.ones(1).expand(1, 1, *scan.shape)
    check_placement(scan, mask, "--mask")
    weights = torch.nan_to_num(mask.values[:, :1]).clamp(0, 1)
    if not bool((weights > 0).any()):
        raise UsageError(
            "--mask", expected="some voxels above 0", got="none", remedy="give another mask"
        )
    return weights


def _extent(grid: Grid) -> str:
    """The extents of a grid, for messages."""
    return " x ".join(map(str, grid.shape))
