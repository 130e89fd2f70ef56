"""The order and the geometry of the slices of a DICOM series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.affine import flip_lps
from convnd.io.volumes.dicom_frames import Frame

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ordered_frames", "series_geometry"]

_UNEVEN = 0.02  # of the distance between slices


_CLOSE = 0.25  # of it, up to which a rounded position can be told from a missing slice


_HALF = 0.6  # of the unit of rounding: half of it, and what the fit of a line adds


_TILT = 0.01  # mm across per mm along


_MISSING = 0.1  # from a whole number of distances


_RUN = 3  # so many large steps in a row are a second spacing rather than missing slices


def ordered_frames(path: Path, frames: Sequence[Frame], names: Sequence[str]) -> list[Frame]:
    """Check that frames have one shape, size of pixels and direction; sort them along the normal.

    Args:
        path: what was asked for, for messages.
        frames: of one series.
        names: of its files.

    Raises:
        InputFileError: they differ.
    """
    import numpy as np

    reference = frames[0]
    for frame in frames:
        for name in ("shape", "spacing", "orientation"):
            value, first = getattr(frame, name), getattr(reference, name)
            if not np.allclose(value, first, atol=1e-4):
                raise InputFileError(
                    f"read {path}",
                    expected="slices of one shape and direction",
                    got=(
                        f"{name} {value} in {names[frame.source]} and {first} in "
                        f"{names[reference.source]}"
                    ),
                    remedy="separate them",
                )
    normal = reference.normal
    return sorted(frames, key=lambda frame: float(np.dot(normal, frame.position)))


def series_geometry(
    path: Path, frames: Sequence[Frame]
) -> tuple[NDArray[Any], tuple[float, float, float]]:
    """Return the affine towards RAS+ and the spacing in mm along columns, rows and slices.

    Args:
        path: what was asked for, for messages.
        frames: in order.

    Raises:
        InputFileError: slices are missing, doubled, uneven or sheared, or numbers are not finite.
    """
    import numpy as np

    first = frames[0]
    rows, columns = first.spacing
    row_direction, column_direction = np.reshape(first.orientation, (2, 3))
    positions = np.array([frame.position for frame in frames])
    depths = positions @ first.normal
    slice_spacing = first.thickness
    if len(frames) > 1:
        slice_spacing = float(depths[-1] - depths[0]) / (len(frames) - 1)
        if np.isfinite(depths).all():
            decimals = np.max([frame.decimals for frame in frames], axis=0)
            unit = float(np.abs(first.normal) @ 10.0**-decimals)
            _check_even(path, depths, slice_spacing, unit)
        drift = positions[-1] - positions[0] - first.normal * (depths[-1] - depths[0])
        if np.linalg.norm(drift) > _TILT * (depths[-1] - depths[0]):
            raise InputFileError(
                f"read {path}",
                expected="slices straight above each other",
                got=f"a drift of {np.linalg.norm(drift):.1f} mm (tilted gantry)",
                remedy="dcm2niix straightens it, as NIfTI",
            )
    spacing = (columns, rows, slice_spacing)
    if not all(0 < step < math.inf for step in spacing) or not np.isfinite(positions).all():
        raise InputFileError(
            f"read {path}",
            expected="positive finite spacing and finite positions",
            got=f"{spacing} and {positions[0].tolist()}",
            remedy="correct the headers",
        )
    if not np.allclose(
        [np.linalg.norm(row_direction), np.linalg.norm(column_direction)], 1, atol=1e-3
    ) or (abs(float(row_direction @ column_direction)) > 1e-3):
        raise InputFileError(
            f"read {path}",
            expected="two directions at right angles",
            got=list(first.orientation),
            remedy="correct the headers",
        )
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row_direction * columns, column_direction * rows
    affine[:3, 2], affine[:3, 3] = first.normal * slice_spacing, positions[0]
    return flip_lps(affine), spacing


def _check_even(path: Path, depths: NDArray[Any], slice_spacing: float, unit: float) -> None:
    """Refuse slices that are not at even distances, beyond the rounding of their positions.

    Args:
        path: what was asked for, for messages.
        depths: positions along the normal, in order, in mm.
        slice_spacing: mean distance in mm.
        unit: mm that positions are rounded to.
    """
    import numpy as np

    steps = np.diff(depths)
    if steps.min() < 1e-3:
        raise InputFileError(
            f"read {path}",
            expected="slices at different positions",
            got=f"two at {depths[int(steps.argmin())]:.2f} mm",
            remedy="take the doubled ones out, or split echoes and times into series",
        )
    numbers = np.arange(len(depths))
    shift = np.abs(depths - depths[0] - slice_spacing * numbers).max()
    line = np.polynomial.Polynomial.fit(numbers, depths, 1)
    error = np.abs(depths - line(numbers)).max()
    rounded = error <= max(_HALF * unit, _UNEVEN * slice_spacing)
    steady = np.abs(steps - slice_spacing).max() <= _UNEVEN * slice_spacing
    if shift <= _CLOSE * slice_spacing and (rounded or steady):
        return
    usual = float(np.median(steps))
    large = np.abs(steps - usual) > _UNEVEN * usual + unit
    where = int(np.argmax(large if large.any() else np.abs(steps - slice_spacing)))
    multiples = steps[large] / usual
    whole = (multiples > 1.5) & (np.abs(multiples - np.round(multiples)) < _MISSING * multiples)
    runs = np.convolve(large, np.ones(_RUN), "valid").max(initial=0)
    if large.any() and whole.all() and runs < _RUN:
        raise InputFileError(
            f"read {path}",
            expected=f"slices {usual:g} mm apart",
            got=(f"{steps[where]:g} mm after {depths[where]:.2f} mm: slices are missing"),
            remedy="complete the series",
        )
    raise InputFileError(
        f"read {path}",
        expected="slices at one distance",
        got=f"{steps.min():g} to {steps.max():g} mm",
        remedy="split the series by its distances, or resample it to one",
    )
