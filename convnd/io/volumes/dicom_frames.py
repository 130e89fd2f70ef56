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

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Frame", "frames_of"]

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
