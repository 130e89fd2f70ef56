"""Reads a folder with one DICOM series as a volume, with pydicom, an optional package.

Slices are ordered by position, not by name or number; spacing comes from their positions, slope and
intercept from each slice. Folders that other programs load but that mislead are refused: mixed
series, missing or repeated slices, a tilted gantry, colour.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.grid import Grid
from convnd.io.affine import flip_lps
from convnd.io.quantization import IntegerEncoding
from convnd.io.reading import check_positions, import_optional, size_limit, translate_errors
from convnd.io.registry import Format
from convnd.io.silence import silence_libraries

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FORMATS", "MAX_VOXELS", "read_dataset", "read_series"]

MAX_VOXELS = 2**30
_MAX_FILES = 20_000
_BLOCK = 2**20
_PREAMBLE = 132
_MAX_META = 2**16  # bytes of information about the file
# Types of values whose length has 32 bits.
_LONG_VALUES = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
# Bytes that one byte of compressed pixels can become: runs of RLE are of 128, and a block of 64
# pixels takes at least a bit in a JPEG. Others have no limit.
_RLE_LIMIT, _JPEG_LIMIT = 64, 1100
_MAX_UNBOUNDED = 2**26  # bytes of pixels that a decoder without such a limit may give for a slice
_DEFLATED_FREE = 2**23  # bytes that any deflated file may unpack into
_DEFLATED_LIMIT = 30  # or so many times its length; real data shrink to a half
_UNEVEN = 0.02  # of the distance between slices
_TILT = 0.01  # mm across per mm along
_NEEDED = ("Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient")


def read_series(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read the one image series in a folder; other files in it are ignored.

    Args:
        path: the folder; its subfolders are not searched.
        max_pixels: largest number of voxels; None for `MAX_VOXELS`.

    Returns:
        Values ``(1, 1, I, J, K)``: columns, rows, slices, after slope and intercept; spacing in
        mm; axes ``("i", "j", "k")``; ``header["affine"]`` towards RAS+.

    Raises:
        InputFileError: no series or several; slices are missing, repeated, sheared or differ in
            shape; not greyscale, damaged, or too large.
        DependencyError: pydicom is not installed.
        ResourceError: there is not enough memory for it.
    """
    import numpy as np
    import torch

    with translate_errors(path, "a DICOM series"), silence_libraries():
        slices = _slices(path, _headers(path))
        first = slices[0][1]
        shape = (int(first.Columns), int(first.Rows), len(slices))
        check_positions(path, shape, size_limit(max_pixels, MAX_VOXELS))
        affine, spacing = _geometry(path, [header for _, header in slices])
        volume = np.empty(shape, np.float32)
        scalings = set()
        integer: list[NDArray[Any]] = []
        for k, (file, _) in enumerate(slices):
            plane, slope, intercept = _plane(path, file)
            volume[..., k] = (plane * slope + intercept).T
            scalings.add((slope, intercept))
            integer = [plane] if k == 0 else integer
        encoding = None
        if len(scalings) == 1 and integer[0].dtype.kind in "iu":
            # A result may need values below 0 even if the scanner stored none.
            slope, intercept = scalings.pop()
            encoding = IntegerEncoding("int16") if (slope, intercept % 1) == (1, 0) else None
            encoding = encoding or IntegerEncoding(integer[0].dtype.name, slope, intercept)
    return Grid(
        values=torch.from_numpy(volume)[None, None],
        spacing=spacing,
        units=("mm",) * 3,
        axes=("i", "j", "k"),
        header={"affine": affine, "integer_encoding": encoding, "non_finite": False},
    )


def read_dataset(file: Path, *, stop_before_pixels: bool = False) -> Any:
    """Read one file with pydicom, unless it unpacks into many times its length.

    Raises:
        InputFileError: it is deflated and unpacks into too much.
        DependencyError: pydicom is not installed.
    """
    pydicom = import_optional("pydicom", f"read {file}", extra="volumes")
    meta = pydicom.filereader.read_file_meta_info(file)
    if meta.get("TransferSyntaxUID") == pydicom.uid.DeflatedExplicitVRLittleEndian:
        with file.open("rb") as stream:
            stream.seek(_end_of_meta(file, stream.read(_MAX_META)))
            _check_deflated(file, stream)
    return pydicom.dcmread(file, stop_before_pixels=stop_before_pixels)


def _end_of_meta(file: Path, start: bytes) -> int:
    """Return where the data set begins, in bytes: after the last element of group 2.

    The length that the file declares is ignored, since pydicom ignores it, too.
    """
    position = _PREAMBLE
    while start[position : position + 2] == b"\x02\0" and position < _MAX_META:
        long = start[position + 4 : position + 6].decode("ascii", "replace") in _LONG_VALUES
        place, size = (8, 4) if long else (6, 2)
        length = start[position + place : position + place + size]
        position += place + size + int.from_bytes(length, "little")
    if position >= len(start):
        raise InputFileError(
            f"read {file}",
            expected="file meta information that ends",
            got="none",
            remedy="check the file",
        )
    return position


def _check_deflated(file: Path, stream: IO[bytes]) -> None:
    """Unpack the rest in blocks to measure it: pydicom would unpack all of it at once."""
    limit = max(_DEFLATED_FREE, _DEFLATED_LIMIT * file.stat().st_size)
    unpacker, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while not unpacker.eof and size <= limit:
        block = unpacker.unconsumed_tail or stream.read(_BLOCK)
        if not block:
            break
        size += len(unpacker.decompress(block, _BLOCK))
    if size > limit:
        raise InputFileError(
            f"read {file}: expected at most {limit:,} bytes in a deflated file of its length, got "
            "more; save it uncompressed"
        )


def _headers(path: Path) -> list[tuple[Path, Any]]:
    """Return each DICOM image of the folder with its header, without pixels."""
    files = sorted(file for file in path.iterdir() if file.is_file())
    if len(files) > _MAX_FILES:
        raise InputFileError(
            f"read {path}: expected at most {_MAX_FILES} files, got {len(files)}; "
            "give the folder of one series"
        )
    headers = []
    for file in files:
        with file.open("rb") as stream:
            if stream.read(132)[128:] != b"DICM":
                continue
        header = read_dataset(file, stop_before_pixels=True)
        if "Rows" in header and "SeriesInstanceUID" in header:
            headers.append((file, header))
    if not headers:
        raise InputFileError(
            f"read {path}: expected a folder of DICOM images, got {len(files)} files and none "
            "among them; name a file, or the folder of a series"
        )
    return headers


def _slices(path: Path, headers: Sequence[tuple[Path, Any]]) -> list[tuple[Path, Any]]:
    """Return the slices of the one series, ordered along their normal."""
    import numpy as np

    series = sorted({str(header.SeriesInstanceUID) for _, header in headers})
    if len(series) > 1:
        raise InputFileError(
            f"read {path}: expected one series, got {len(series)} mixed ({', '.join(series[:3])}"
            f"{', …' if len(series) > 3 else ''}); put each into a folder of its own"
        )
    for file, header in headers:
        lacking = [name for name in _NEEDED if name not in header]
        if lacking:
            raise InputFileError(
                f"read {path}: expected slices that say where they lie, got {file.name} without "
                f"{', '.join(lacking)}; take it out, or convert the series to NIfTI"
            )
        if int(header.get("NumberOfFrames") or 1) > 1 or int(header.get("SamplesPerPixel", 1)) > 1:
            raise InputFileError(
                f"read {path}: expected one greyscale slice a file, got {file.name} with several "
                "frames or colours; convert the series to NIfTI"
            )
    reference = headers[0][1]
    for file, header in headers:
        for name in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
            value, first = header[name].value, reference[name].value
            if not np.allclose(np.asarray(value, float), np.asarray(first, float), atol=1e-4):
                raise InputFileError(
                    f"read {path}: expected slices of one shape and direction, got {name} "
                    f"{value} in {file.name} and {first} in {headers[0][0].name}; "
                    "separate them"
                )
    normal = np.cross(*np.reshape(np.asarray(reference.ImageOrientationPatient, float), (2, 3)))
    return sorted(
        headers,
        key=lambda item: float(np.dot(normal, np.asarray(item[1].ImagePositionPatient, float))),
    )


def _geometry(path: Path, headers: Sequence[Any]) -> tuple[NDArray[Any], tuple[float, ...]]:
    """Affine towards RAS+ and spacing of slices in order."""
    import numpy as np

    first = headers[0]
    rows, columns = (float(step) for step in first.PixelSpacing)
    along, down = np.reshape(np.asarray(first.ImageOrientationPatient, float), (2, 3))
    normal = np.cross(along, down)
    positions = np.array([np.asarray(header.ImagePositionPatient, float) for header in headers])
    depths = positions @ normal
    steps = np.diff(depths)
    if len(headers) == 1:
        between = float(first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 1.0)
    else:
        between = float(np.median(steps))
        if steps.min() < 1e-3:
            raise InputFileError(
                f"read {path}: expected slices at different positions, got two at "
                f"{depths[int(steps.argmin())]:.2f} mm; take the doubled ones out"
            )
        uneven = np.abs(steps - between) > _UNEVEN * between
        if uneven.any():
            where = int(np.argmax(uneven))
            raise InputFileError(
                f"read {path}: expected slices {between:g} mm apart, got {steps[where]:g} mm after "
                f"{depths[where]:.2f} mm: slices are missing; complete the series"
            )
        drift = positions[-1] - positions[0] - normal * (depths[-1] - depths[0])
        if np.linalg.norm(drift) > _TILT * (depths[-1] - depths[0]):
            raise InputFileError(
                f"read {path}: expected slices straight above each other, got a drift of "
                f"{np.linalg.norm(drift):.1f} mm (tilted gantry); resample the series first"
            )
    spacing = (columns, rows, between)
    if not all(0 < step < math.inf for step in spacing) or not np.isfinite(positions).all():
        raise InputFileError(
            f"read {path}: expected positive finite spacing and finite positions, got {spacing} "
            f"and {positions[0].tolist()}; correct the headers"
        )
    if not np.allclose([np.linalg.norm(along), np.linalg.norm(down)], 1, atol=1e-3) or (
        abs(float(along @ down)) > 1e-3
    ):
        raise InputFileError(
            f"read {path}: expected two directions at right angles, got "
            f"{list(first.ImageOrientationPatient)}; correct the headers"
        )
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = along * columns, down * rows, normal * between
    affine[:3, 3] = positions[0]
    return flip_lps(affine), spacing


def _plane(path: Path, file: Path) -> tuple[NDArray[Any], float, float]:
    """Return the stored integers ``(rows, columns)`` of one slice, its slope and intercept."""
    dataset = read_dataset(file)
    _check_pixels(path, file, dataset)
    try:
        plane: NDArray[Any] = dataset.pixel_array
    except Exception as error:
        text = " ".join(str(error).split())[:160]
        raise InputFileError(
            f"read {path}: expected pixels that can be decoded, got '{text}' in {file.name}; "
            "save the series uncompressed, or check the file"
        ) from error
    slope = float(dataset.get("RescaleSlope", 1.0))
    intercept = float(dataset.get("RescaleIntercept", 0.0))
    if not math.isfinite(slope) or slope == 0 or not math.isfinite(intercept):
        raise InputFileError(
            f"read {path}: expected a finite slope other than 0 and a finite intercept, got "
            f"{slope} and {intercept} in {file.name}; correct the header"
        )
    return plane, slope, intercept


def _check_pixels(path: Path, file: Path, dataset: Any) -> None:
    """Refuse compressed pixels that the file is too short for, before memory is taken for them."""
    import pydicom

    syntax = dataset.file_meta.get("TransferSyntaxUID", "")
    if not getattr(syntax, "is_compressed", False) or getattr(syntax, "is_deflated", False):
        return
    size = (
        int(dataset.Rows) * int(dataset.Columns) * max(1, int(dataset.get("BitsAllocated", 8)) // 8)
    )
    limit = _MAX_UNBOUNDED
    if syntax == pydicom.uid.RLELossless:
        limit = _RLE_LIMIT * len(dataset.PixelData)
    elif syntax in (pydicom.uid.JPEGBaseline8Bit, pydicom.uid.JPEGExtended12Bit):
        limit = _JPEG_LIMIT * len(dataset.PixelData)
    if size > limit:
        raise InputFileError(
            f"read {path}",
            expected=f"at most {limit:,} bytes of pixels for the length of {file.name}",
            got=f"{size:,}",
            remedy="the file is cut short or damaged",
        )


FORMATS = (
    Format(
        name="DICOM series", suffixes=(), spatial_dims=3, read=read_series, write=None, folder=True
    ),
)
