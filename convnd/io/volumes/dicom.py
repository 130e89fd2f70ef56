"""Reads DICOM images as volumes, with pydicom, an optional package: a folder, or one file.

A folder holds one series, of slices or of enhanced files with many frames. Slices are ordered by
position, not by name or number; spacing comes from the first and the last position, slope and
intercept from each slice. Folders that other programs load but that mislead are refused: mixed
series, missing, doubled or damaged slices, a tilted gantry, colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.grid import Grid
from convnd.io.quantization import IntegerEncoding, is_exact
from convnd.io.reading import check_positions, size_limit, translate_errors
from convnd.io.silence import silence_libraries
from convnd.io.volumes.dicom_dataset import decode_pixels, read_header
from convnd.io.volumes.dicom_frames import Frame, frames_of
from convnd.io.volumes.dicom_geometry import ordered_frames, series_geometry
from convnd.io.volumes.dicom_series import SeriesFile, series_files

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_VOXELS", "DicomSource", "read_dicom_image", "read_series"]

MAX_VOXELS = 2**30
# PET in g/ml or cm²/ml is a standardised uptake value (SUV), by body weight or surface.
_UNITS = {"BQML": "Bq/ml", "CM2ML": "SUV", "GML": "SUV", "GY": "Gy", "HU": "HU"}


@dataclass(frozen=True)
class DicomSource:
    """The metadata of the files of a series.

    Args:
        datasets: of each file, without pixels.
        frames: the slices in order; `Frame.source` is the index of a data set.
    """

    datasets: Sequence[Any]
    frames: Sequence[Frame]


def read_series(path: Path, *, max_pixels: int | None = None, series: str = "") -> Grid:
    """Read one image series in a folder, or in the folders below; other files are ignored.

    Args:
        path: the folder.
        max_pixels: largest number of voxels; None for `MAX_VOXELS`.
        series: UID, number or description of the series, if there are several.

    Returns:
        Values ``(1, 1, I, J, K)``: columns, rows, slices, after slope and intercept; spacing in
        mm; axes ``("i", "j", "k")``; ``header["affine"]`` towards RAS+, ``header["dicom"]`` a
        `DicomSource`, ``header["value_unit"]`` the unit of the values.

    Raises:
        InputFileError: no series or several; slices are missing, repeated, sheared or differ in
            shape; not greyscale, damaged, or too large.
        DependencyError: pydicom is not installed.
        ResourceError: there is not enough memory for it.
    """
    with translate_errors(path, "a DICOM series"), silence_libraries():
        return _read(path, series_files(path, series), max_pixels)


def read_dicom_image(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read one file: an enhanced image of many frames, or a slice as a volume of one.

    Args:
        path: an existing file.
        max_pixels: largest number of voxels; None for `MAX_VOXELS`.

    Returns:
        See `read_series`.

    Raises:
        InputFileError: see `read_series`.
        DependencyError: pydicom is not installed.
        ResourceError: there is not enough memory for it.
    """
    with translate_errors(path, "a DICOM image"), silence_libraries():
        header = read_header(path, path)
        if "Rows" not in header:
            kind = getattr(header.get("SOPClassUID"), "name", "no image")
            raise InputFileError(
                f"read {path}",
                expected="an image",
                got=kind,
                remedy="give a file with pixels, or the folder of a series",
            )
        return _read(path, [SeriesFile(path, header)], max_pixels)


def _read(path: Path, files: Sequence[SeriesFile], max_pixels: int | None) -> Grid:
    import numpy as np
    import torch

    names = [file.path.name for file in files]
    frames = [
        frame
        for source, file in enumerate(files)
        for frame in frames_of(path, names[source], file.header, source)
    ]
    frames = ordered_frames(path, frames, names)
    rows, columns = frames[0].shape
    shape = (columns, rows, len(frames))
    check_positions(path, shape, size_limit(max_pixels, MAX_VOXELS))
    affine, spacing = series_geometry(path, frames)
    volume = np.empty(shape, np.float32)
    datasets: list[Any] = [None] * len(files)
    integers = _Integers(frames)
    for source, file in enumerate(files):
        places = [k for k, frame in enumerate(frames) if frame.source == source]
        datasets[source], pixels = decode_pixels(path, file.path)
        if pixels.shape != (len(places), rows, columns):
            raise InputFileError(
                f"read {path}",
                expected=f"{len(places)} frames of {rows} x {columns} pixels",
                got=f"{' x '.join(map(str, pixels.shape))} in {file.path.name}",
                remedy="check the file",
            )
        for k in places:
            plane = pixels[frames[k].index]
            volume[..., k] = (plane * frames[k].slope + frames[k].intercept).T
            integers.add(k, plane)
    return Grid(
        values=torch.from_numpy(volume)[None, None],
        spacing=spacing,
        units=("mm",) * 3,
        axes=("i", "j", "k"),
        header={
            "affine": affine,
            **integers.header(),
            "value_unit": _value_unit(files[0].header),
            "dicom": DicomSource(datasets, frames),
            "non_finite": not bool(np.isfinite(volume).all()),
        },
    )


class _Integers:
    """Collects the stored numbers of a series, to describe them in a grid's header.

    Args:
        frames: the slices in order.
    """

    def __init__(self, frames: Sequence[Frame]) -> None:
        scalings = {(frame.slope, frame.intercept) for frame in frames}
        self._scaling = scalings.pop() if len(scalings) == 1 else None
        self._planes: list[Any] = [None] * len(frames)
        self._ends: list[int] = []
        self._dtype = ""

    def add(self, k: int, plane: NDArray[Any]) -> None:
        """Note the numbers ``(rows, columns)`` of slice k."""
        import numpy as np

        if self._scaling is None or plane.dtype.kind not in "iu":
            self._scaling = None
            return
        self._ends += [int(plane.min()), int(plane.max())]
        self._dtype = np.promote_types(self._dtype or plane.dtype, plane.dtype).name
        limits = np.iinfo(plane.dtype)
        if not is_exact(IntegerEncoding("", *self._scaling), int(limits.min), int(limits.max)):
            self._planes[k] = plane  # others are known from their values

    def header(self) -> dict[str, object]:
        """See `convnd.io.quantization.integer_header`."""
        import numpy as np

        if self._scaling is None:
            return {"integer_encoding": None}
        slope, intercept = self._scaling
        low, high, offset = min(self._ends), max(self._ends), 0
        encoding = IntegerEncoding(self._dtype, slope, intercept)
        exact = is_exact(encoding, low, high)
        if (slope, intercept % 1) == (1, 0):
            offset = int(intercept)
            encoding = IntegerEncoding(_smallest_type(low + offset, high + offset))
        header: dict[str, object] = {"integer_encoding": encoding}
        if not exact:
            codes = np.stack([plane.T for plane in self._planes], axis=-1)[None]
            header["integer_codes"] = codes if offset == 0 else codes.astype(np.int64) + offset
        return header


def _smallest_type(low: int, high: int) -> str:
    import numpy as np

    # A result may need values below 0 even if the scanner stored none.
    for name in ("int16", "uint16", "int32", "uint32"):
        if np.iinfo(name).min <= low and high <= np.iinfo(name).max:
            return name
    return "int64"


def _value_unit(header: Any) -> str:
    kind = str(header.get("RescaleType") or "")
    if header.get("Modality") == "CT" and kind in ("", "HU", "US"):
        return "HU"
    unit = kind or str(header.get("Units") or header.get("DoseUnits") or "")
    return _UNITS.get(unit.upper(), "")
