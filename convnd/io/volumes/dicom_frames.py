"""Positions of the slices of DICOM files, and the conversion of stored numbers to values.

A file holds one slice, or several frames. Enhanced files give the position of each frame; dose
grids and nuclear medicine give that of the first. Each slice becomes a `Frame`, and a list of
frames has one geometry.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.affine import flip_lps

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Frame", "frames_of", "ordered_frames", "series_geometry"]

_UNEVEN = 0.02  # of the distance between slices
_CLOSE = 0.25  # of it, up to which a rounded position can be told from a missing slice
_HALF = 0.6  # of the unit of rounding: half of it, and what the fit of a line adds
_TILT = 0.01  # mm across per mm along
_MISSING = 0.1  # from a whole number of distances
_RUN = 3  # so many large steps in a row are a second spacing rather than missing slices
_MAX_DECIMALS = 12
_PARTS = ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient")


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One slice of a series.

    Args:
        source: number of its file in the series.
        index: number of the frame in the file.
        shape: rows and columns.
        position: centre of the first pixel in LPS+, in mm.
        orientation: directions along a row and down a column, in LPS+.
        spacing: mm between rows, and between columns.
        thickness: mm to the next slice as the file has it, for a single slice.
        slope: factor of the stored numbers.
        intercept: offset of the values.
        decimals: number of decimals of each coordinate of the position, as the file has them.
    """

    source: int
    index: int
    shape: tuple[int, int]
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, float]
    thickness: float
    slope: float
    intercept: float
    decimals: tuple[int, ...]

    @property
    def normal(self) -> NDArray[Any]:
        """Direction across the slice."""
        import numpy as np

        return np.cross(self.orientation[:3], self.orientation[3:])


def frames_of(path: Path, name: str, header: Any, source: int) -> list[Frame]:
    """List the frames of one file.

    Args:
        path: what was asked for, for messages.
        name: name of the file.
        header: data set of the file, without pixels.
        source: number of the file.

    Raises:
        InputFileError: the file does not say where its frames lie, or is not greyscale.
    """
    _check_greyscale(path, name, header)
    count = max(1, int(header.get("NumberOfFrames") or 1))
    frame_groups = list(header.get("PerFrameFunctionalGroupsSequence") or [])
    if frame_groups:
        if len(frame_groups) != count:
            raise InputFileError(
                f"read {path}",
                expected=f"a place for each of {count} frames",
                got=f"{len(frame_groups)} in {name}",
                remedy="check the file",
            )
        shared_groups = list(header.get("SharedFunctionalGroupsSequence") or [])[:1]
        return [
            _frame(path, name, _Groups([group, *shared_groups], header), header, source, index)
            for index, group in enumerate(frame_groups)
        ]
    detectors = list(header.get("DetectorInformationSequence") or [])[:1]  # nuclear medicine
    first = _frame(path, name, _Groups(detectors, header), header, source, 0)
    if count == 1:
        return [first]
    return _stacked(path, name, header, first, count)


class _Groups:
    """Looks an element up in functional groups, and else in the data set itself."""

    def __init__(self, groups: Sequence[Any], header: Any) -> None:
        self._groups = groups
        self._header = header

    def get(self, name: str) -> Any:
        """The value of an element; None if it is nowhere."""
        for group in self._groups:
            if group.get(name) is not None:
                return group[name].value
            for element in group:
                inner = element.value[0] if element.VR == "SQ" and len(element.value) else {}
                if inner.get(name) is not None:
                    return inner[name].value
        value = self._header.get(name)
        return None if value is None else self._header[name].value


def _frame(path: Path, name: str, groups: _Groups, header: Any, source: int, index: int) -> Frame:
    parts = {part: groups.get(part) for part in _PARTS}
    lacking = [part for part, value in parts.items() if value is None or not len(value)]
    if lacking:
        raise InputFileError(
            f"read {path}",
            expected="slices that say where they lie",
            got=f"{name} without {', '.join(lacking)}",
            remedy="take it out, or convert the series to NIfTI with dcm2niix",
        )
    spacing, orientation, position = (tuple(map(float, parts[part])) for part in _PARTS)
    if (len(spacing), len(orientation), len(position)) != (2, 6, 3):
        raise InputFileError(
            f"read {path}",
            expected=(
                "2 numbers for PixelSpacing, 6 for ImageOrientationPatient and 3 "
                "for ImagePositionPatient"
            ),
            got=f"others in {name}",
            remedy="correct the header",
        )
    slope, intercept = groups.get("RescaleSlope"), groups.get("RescaleIntercept")
    slope = header.get("DoseGridScaling") if slope is None else slope
    scaling = (1.0 if slope is None else float(slope), float(intercept or 0.0))
    if not all(map(math.isfinite, scaling)) or scaling[0] == 0:
        raise InputFileError(
            f"read {path}",
            expected="a finite slope other than 0 and a finite intercept",
            got=f"{scaling[0]} and {scaling[1]} in {name}",
            remedy="correct the header",
        )
    return Frame(
        source=source,
        index=index,
        shape=(int(header.Rows), int(header.Columns)),
        position=position,
        orientation=orientation,
        spacing=(spacing[0], spacing[1]),
        thickness=float(groups.get("SpacingBetweenSlices") or groups.get("SliceThickness") or 1.0),
        slope=scaling[0],
        intercept=scaling[1],
        decimals=tuple(map(_decimals, parts["ImagePositionPatient"])),
    )


def _stacked(path: Path, name: str, header: Any, first: Frame, count: int) -> list[Frame]:
    """Place frames above the first one, by the offsets of a dose grid or an even distance."""
    offsets = header.get("GridFrameOffsetVector")
    if offsets is not None:
        depths = [float(offset) for offset in offsets]
    elif header.get("SpacingBetweenSlices"):
        depths = [first.thickness * index for index in range(count)]
    else:
        depths = []
    if len(depths) != count:
        raise InputFileError(
            f"read {path}",
            expected="frames that say where they lie",
            got=f"{count} without in {name}",
            remedy="convert it to NIfTI, or a film of X-rays or ultrasound to MP4",
        )
    return [
        dataclasses.replace(
            first,
            index=index,
            position=tuple(
                float(start + (depth - depths[0]) * step)
                for start, step in zip(first.position, first.normal, strict=True)
            ),
        )
        for index, depth in enumerate(depths)
    ]


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


def _check_greyscale(path: Path, name: str, header: Any) -> None:
    """Refuse colours, several slices side by side, and values that come from a table."""
    colours = header.get("PhotometricInterpretation", "MONOCHROME2")
    if int(header.get("SamplesPerPixel") or 1) > 1 or not str(colours).startswith("MONOCHROME"):
        raise InputFileError(
            f"read {path}",
            expected="greyscale slices",
            got=f"{name} in colours ({colours})",
            remedy="stylise it as a picture: save it as PNG",
        )
    if "MOSAIC" in (header.get("ImageType") or ()):
        raise InputFileError(
            f"read {path}",
            expected="one slice in a frame",
            got=f"a mosaic of several in {name}",
            remedy="convert the series to NIfTI with dcm2niix",
        )
    if header.get("ModalityLUTSequence"):
        raise InputFileError(
            f"read {path}",
            expected="values by slope and intercept",
            got=f"a table of values in {name}",
            remedy="convert the series to NIfTI with dcm2niix",
        )


def _decimals(number: Any) -> int:
    """Decimals of a coordinate as the file has it."""
    try:
        exponent = Decimal(str(getattr(number, "original_string", number)).strip()).as_tuple()[2]
    except InvalidOperation:
        return _MAX_DECIMALS
    places = -exponent if isinstance(exponent, int) else _MAX_DECIMALS
    return min(max(places, 0), _MAX_DECIMALS)
