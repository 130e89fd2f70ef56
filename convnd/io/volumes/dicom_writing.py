"""Writes volumes that were read from DICOM files as DICOM files again.

The new files are a new series of the same study: the data sets of the source with new pixels, new
UIDs, the image type ``DERIVED`` and references to the source. Windows, slope and intercept stay,
and also the number of bits, unless the new values need more.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import NumericalError, UsageError
from convnd.grid import Grid
from convnd.io.provenance import parse_provenance
from convnd.io.reading import import_optional
from convnd.io.registry import is_folder_name
from convnd.io.silence import silence_libraries
from convnd.io.volumes.dicom import DicomSource
from convnd.io.volumes.dicom_dataset import read_dataset

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["check_dicom", "dicom_rounding", "read_dicom_provenance", "write_dicom"]

_GROUP, _CREATOR = 0x0099, "convnd"  # the block of private elements that holds the record
_DESCRIPTION = "Style transfer by convnd"
# What belongs to the pixels of the source alone.
_DROPPED = (
    *("IconImageSequence", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *("SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries"),
    *("LargestPixelValueInSeries", "DigitalSignaturesSequence", "MACParametersSequence"),
)
_SIGNED_OR_NOT = ("PixelPaddingValue", "PixelPaddingRangeLimit")


def write_dicom(path: Path, grid: Grid, *, provenance: Mapping[str, str], **_: object) -> None:
    """Write a volume that was read from DICOM files.

    Args:
        path: an existing folder, which gets a file for each file of the source; or a file.
        grid: has ``header["dicom"]``.
        provenance: how the result was made; stored in a private element.

    Raises:
        UsageError: the volume is not on the grid of its source.
        NumericalError: a value is not finite.
    """
    check_dicom(path, grid)
    source = _source(grid)
    planes = _stored_planes(grid, source)
    seed = hashlib.sha256(b"".join(plane.tobytes() for plane in planes)).hexdigest()
    ends = (min(int(plane.min()) for plane in planes), max(int(plane.max()) for plane in planes))
    width = max(4, len(str(len(source.datasets))))
    is_folder = path.is_dir()
    for number, dataset in enumerate(source.datasets):
        places = [k for k, frame in enumerate(source.frames) if frame.source == number]
        places.sort(key=lambda k: source.frames[k].index)
        first = places[0] + 1 if len(places) == 1 else number + 1
        file = path / f"{first:0{width}d}.dcm" if is_folder else path
        _write_file(file, dataset, [planes[k] for k in places], ends, seed, provenance)


def check_dicom(path: Path, grid: Grid) -> None:
    """Check, before any work, that a volume can be written as DICOM.

    Args:
        path: the output, a file or a folder, see `convnd.io.registry.is_folder_name`.
        grid: what will be written.

    Raises:
        UsageError: it was not read from DICOM files, is on another grid than they are, or needs
            several files and has the name of one.
    """
    count = len(_source(grid).datasets)
    if not (path.is_dir() or is_folder_name(path)) and count > 1:
        raise UsageError(
            f"write {path.name}",
            expected=f"a folder for a series of {count} files",
            got="the name of one file",
            remedy="leave the suffix out",
        )


def dicom_rounding(grid: Grid) -> tuple[float, int]:
    """Return what writing a volume as DICOM does to its values.

    Returns:
        The largest rounding error, and the number of values that are clipped.
    """
    import numpy as np

    source = _source(grid)
    planes = _stored_planes(grid, source)
    error, clipped = 0.0, 0
    for k, (plane, frame) in enumerate(zip(planes, source.frames, strict=True)):
        values = grid.values[0, 0, ..., k].T.numpy()
        change = np.abs(plane * frame.slope + frame.intercept - values)
        outside = change > abs(frame.slope) * 0.51 + 1e-6 * np.abs(values)
        clipped += int(outside.sum())
        error = max(error, float(change[~outside].max(initial=0.0)))
    return error, clipped


def read_dicom_provenance(path: Path) -> dict[str, str]:
    """Return the record in a file; empty if it has none."""
    with silence_libraries():
        dataset = read_dataset(path, stop_before_pixels=True)
        try:
            text = str(dataset.private_block(_GROUP, _CREATOR)[1].value)
        except KeyError:
            return {}
    return dict(parse_provenance(text))


def _source(grid: Grid) -> DicomSource:
    source = grid.header.get("dicom")
    if not isinstance(source, DicomSource):
        raise UsageError(
            "write DICOM",
            expected="a volume that was read from DICOM files",
            got="another",
            remedy="choose a name that ends in .nii.gz",
        )
    rows, columns = source.frames[0].shape
    if grid.values.shape[1:] != (1, columns, rows, len(source.frames)):
        raise UsageError(
            "write DICOM",
            expected=(f"the grid of the source, {columns} x {rows} x {len(source.frames)}"),
            got=" x ".join(map(str, grid.shape)),
            remedy="choose a name that ends in .nii.gz",
        )
    if any(int(dataset.BitsAllocated) not in (8, 16, 32) for dataset in source.datasets):
        raise UsageError(
            "write DICOM",
            expected="a source of 8, 16 or 32 bits a pixel",
            got="other pixels",
            remedy="choose a name that ends in .nii.gz",
        )
    return source


def _stored_planes(grid: Grid, source: DicomSource) -> list[NDArray[Any]]:
    """Return the numbers ``(rows, columns)`` to store for each slice."""
    import numpy as np

    values = grid.values.detach().to("cpu")[0, 0].numpy()
    if not np.isfinite(values).all():
        raise NumericalError(
            "write DICOM",
            expected="finite values",
            got="NaN or infinity",
            remedy="choose a name that ends in .nii.gz",
        )
    exact = [
        (values[..., k].T.astype(np.float64) - frame.intercept) / frame.slope
        for k, frame in enumerate(source.frames)
    ]
    low = min(float(plane.min()) for plane in exact)
    high = max(float(plane.max()) for plane in exact)
    dtype = _stored_type(source.datasets, low, high)
    limits = np.iinfo(dtype)
    planes = [np.clip(np.round(p), limits.min, limits.max).astype(dtype) for p in exact]
    source_codes = grid.header.get("integer_codes")
    if isinstance(source_codes, np.ndarray) and source_codes.shape == grid.values.shape[1:]:
        _restore(planes, source_codes[0], values, source)
    return planes


def _restore(
    planes: Sequence[NDArray[Any]],
    source_codes: NDArray[Any],
    values: NDArray[Any],
    source: DicomSource,
) -> None:
    """Give unchanged values the integers of the source, which float32 does not tell apart."""
    import numpy as np

    for k, (plane, frame) in enumerate(zip(planes, source.frames, strict=True)):
        # With a slope of 1, the grid's integers include the intercept.
        offset = int(frame.intercept) if (frame.slope, frame.intercept % 1) == (1, 0) else 0
        codes = source_codes[..., k].T - offset
        unchanged = (codes * frame.slope + frame.intercept).astype(np.float32) == values[..., k].T
        plane[unchanged] = codes[unchanged]


def _stored_type(datasets: Sequence[Any], low: float, high: float) -> Any:
    """Choose the type of the stored numbers: the source's, or the first that holds all values."""
    import numpy as np

    allocated = max(int(dataset.BitsAllocated) for dataset in datasets)
    is_signed = any(int(dataset.PixelRepresentation) for dataset in datasets)
    names = [f"{'int' if is_signed else 'uint'}{allocated}"]
    if allocated < 32:
        names += ["uint16"] * (not is_signed) + ["int16"]
    for name in names:
        limits = np.iinfo(name)
        if limits.min - 0.5 <= low and high <= limits.max + 0.5:
            return np.dtype(name)
    return np.dtype(names[0])


def _write_file(
    file: Path,
    source: Any,
    planes: Sequence[NDArray[Any]],
    ends: tuple[int, int],
    seed: str,
    provenance: Mapping[str, str],
) -> None:
    """Write one file of the new series."""
    import numpy as np

    pydicom = import_optional("pydicom", "write DICOM", extra="volumes")
    dataset = copy.deepcopy(source)
    _derive(pydicom, dataset, seed)
    _remove_record(dataset)
    if provenance:
        block = dataset.private_block(_GROUP, _CREATOR, create=True)
        block.add_new(1, "UT", json.dumps(dict(provenance)))
    for name in _DROPPED:
        if name in dataset:
            del dataset[name]
    pixels = np.stack(planes)
    _describe_pixels(dataset, pixels.dtype, ends)
    syntax = dataset.file_meta.TransferSyntaxUID
    native = (pydicom.uid.ImplicitVRLittleEndian, pydicom.uid.ExplicitVRLittleEndian)
    dataset.file_meta.TransferSyntaxUID = syntax if syntax in native else native[1]
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.preamble = bytes(128)
    content = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = content + bytes(len(content) % 2)
    dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    with silence_libraries(), file.open("wb") as stream:
        pydicom.dcmwrite(
            stream,
            dataset,
            implicit_vr=dataset.file_meta.TransferSyntaxUID == native[0],
            little_endian=True,
            enforce_file_format=True,
        )


def _derive(pydicom: Any, dataset: Any, seed: str) -> None:
    """Make a data set one of a new, derived image that refers to its source."""
    reference = pydicom.Dataset()
    reference.ReferencedSOPClassUID = dataset.get("SOPClassUID", "")
    reference.ReferencedSOPInstanceUID = dataset.get("SOPInstanceUID", "")
    dataset.SourceImageSequence = [reference]
    dataset.DerivationDescription = _DESCRIPTION
    # The same result gets the same UIDs, another one others.
    for name in ("SeriesInstanceUID", "SOPInstanceUID"):
        sources = [str(dataset.get(name, "")), name, seed]
        setattr(dataset, name, pydicom.uid.generate_uid(entropy_srcs=sources))
    groups = [
        *(dataset.get("SharedFunctionalGroupsSequence") or []),
        *(dataset.get("PerFrameFunctionalGroupsSequence") or []),
    ]
    inner = [item for group in groups for element in group if element.VR == "SQ"
             for item in element.value]  # fmt: skip
    for part, name in [(dataset, "ImageType"), *((item, "FrameType") for item in inner)]:
        if name == "ImageType" or name in part:
            old = part.get(name)
            words = [old] if isinstance(old, str) else list(old or ("", "SECONDARY"))
            setattr(part, name, ["DERIVED", *words[1:]])


def _remove_record(dataset: Any) -> None:
    """Remove the record of an earlier result."""
    try:
        block = dataset.private_block(_GROUP, _CREATOR)
    except KeyError:
        return
    if 1 in block:
        del block[1]


def _describe_pixels(dataset: Any, dtype: Any, ends: tuple[int, int]) -> None:
    """Set the bits of a number, which stay if they hold all numbers of the series."""
    import numpy as np

    bits, (low, high) = 8 * dtype.itemsize, ends
    is_signed = dtype.kind == "i"
    bits_stored = int(dataset.get("BitsStored", bits))
    half = 2 ** (bits_stored - 1)
    in_range = -half <= low and high < half if is_signed else high < 2 * half
    was_signed = bool(int(dataset.PixelRepresentation))
    if not in_range or bits != int(dataset.BitsAllocated) or is_signed != was_signed:
        bits_stored = bits
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits_stored, bits_stored - 1
    dataset.PixelRepresentation = int(is_signed)
    if is_signed != was_signed:
        for name in _SIGNED_OR_NOT:
            if name in dataset:
                value = int(dataset[name].value)
                del dataset[name]
                if np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
                    setattr(dataset, name, value)
                    dataset[name].VR = "SS" if is_signed else "US"
