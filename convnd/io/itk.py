"""NRRD and MetaImage volumes (``.nrrd``, ``.mha``) through SimpleITK, an optional package.

As with NIfTI: values ``(1, 1, I, J, K)`` in the file's units, spacing in mm, ``header["affine"]``
towards RAS+ (these formats count in LPS+). Text entries come along and are written back. Values
are written as float32 unless `convnd.io.as_stored` has rounded them.

The header is judged, and compressed data are unpacked to their checksum, before ITK sees the
voxels: it does not look at the checksum of gzip itself.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import DependencyError, InputFileError, NumericalError, ShapeError
from convnd.grid import Grid
from convnd.io.affine import flip_lps, grid_affine
from convnd.io.formats import Format
from convnd.io.quiet import silent_stderr
from convnd.io.reading import check_positions, decoding
from convnd.io.record import parse
from convnd.io.stored import Stored, stored_voxels

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FORMATS", "MAX_VOXELS", "read_itk"]

MAX_VOXELS = 2**30  # 4 GiB as float32
_LARGEST_HEADER = 2**20
_BLOCK = 2**20
_RECORD = "convnd"


def read_itk(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read one 3-D volume of ``.nrrd`` or ``.mha``.

    Args:
        path: an existing file.
        max_pixels: largest number of voxels; None for `MAX_VOXELS`.

    Returns:
        Values ``(1, 1, I, J, K)``; spacing in mm; axes ``("i", "j", "k")``.

    Raises:
        InputFileError: damaged, not three axes, not real numbers, spacing or directions that are
            not finite or singular, larger than the limit or than the file can hold.
        DependencyError: SimpleITK is not installed.
        ResourceError: there is not enough memory for it.
    """
    import numpy as np
    import torch

    sitk = _simple_itk()
    with decoding(path, "a NRRD or MetaImage volume"), _itk_errors(path), silent_stderr():
        spacing = _check_geometry(path)
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.SetImageIO("NrrdImageIO" if path.suffix.lower() == ".nrrd" else "MetaImageIO")
        reader.ReadImageInformation()
        shape = reader.GetSize()
        if len(shape) != 3:
            raise InputFileError(
                f"read {path}: expected 3 axes, got {len(shape)}; cut out one volume"
            )
        check_positions(path, shape, MAX_VOXELS if max_pixels is None else max_pixels)
        kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
        if reader.GetNumberOfComponents() != 1 or "complex" in kind or "vector" in kind:
            raise InputFileError(
                f"read {path}: expected real voxels, got {kind} of "
                f"{reader.GetNumberOfComponents()} components; split it into volumes"
            )
        size = math.prod(shape) * _bytes(sitk, reader.GetPixelID())
        _check_data(path, size)
        image = reader.Execute()
        stored = sitk.GetArrayViewFromImage(image)
        dtype = stored.dtype
        with np.errstate(over="raise"):  # float64 beyond float32
            volume = np.ascontiguousarray(stored.T, dtype=np.float32)
        affine = np.eye(4)
        directions = np.reshape(image.GetDirection(), (3, 3))
        affine[:3, :3] = directions * np.asarray(image.GetSpacing())
        affine[:3, 3] = image.GetOrigin()
        if not np.isfinite(affine).all() or np.linalg.det(affine) == 0:
            raise InputFileError(
                f"read {path}: expected invertible directions and a finite origin, got "
                f"{affine[:3].tolist()}; correct the header"
            )
        missing = int(np.count_nonzero(~np.isfinite(volume)))
        if missing == volume.size:
            raise InputFileError(
                f"read {path}: expected finite voxels, got none among {missing}; "
                "check how the file was made"
            )
        text = {
            key: image.GetMetaData(key)
            for key in image.GetMetaDataKeys()
            if not key.startswith(("ITK_", "NRRD_")) and key != _RECORD
        }
    return Grid(
        values=torch.from_numpy(volume)[None, None],
        spacing=spacing or tuple(map(float, image.GetSpacing())),
        units=("mm",) * 3,
        axes=("i", "j", "k"),
        header={
            "affine": flip_lps(affine),
            "stored": Stored(dtype.name) if dtype.kind in "iu" else None,
            "text": text,
            "non_finite": missing > 0,
        },
    )


@contextlib.contextmanager
def _itk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # ITK tells where in its source it stood, in several lines; the last says what was wrong.
        last = str(error).strip().splitlines()[-1].rpartition("): ")[2]
        raise InputFileError(
            f"read {path}: expected a NRRD or MetaImage volume, got a damaged or unsupported file "
            f"('{last[:120]}'); save it again"
        ) from error


def _simple_itk() -> Any:
    try:
        simple: Any = importlib.import_module("SimpleITK")
    except ImportError as error:
        raise DependencyError(
            "NRRD and MHA: expected the package SimpleITK, got none; "
            'install it: pip install "convnd-toolkit[volumes]"'
        ) from error
    # What it would write to stderr comes as an error, or does not matter.
    simple.ProcessObject.SetGlobalWarningDisplay(False)
    return simple


def _bytes(sitk: Any, pixel: int) -> int:
    return int(sitk.GetArrayViewFromImage(sitk.Image([1, 1, 1], pixel)).itemsize)


def _header(path: Path) -> tuple[dict[str, str], int]:
    """The header's fields, lower case, and where the data begin."""
    with path.open("rb") as file:
        start = file.read(_LARGEST_HEADER)
    bare = False
    metaimage = not start.startswith(b"NRRD")
    fields: dict[str, str] = {}
    place = 0
    while True:
        end = start.find(b"\n", place)
        if end < 0:
            raise InputFileError(
                f"read {path}: expected a header of less than {_LARGEST_HEADER} bytes that ends, "
                "got none; save it again"
            )
        line = start[place:end].decode("utf-8", "replace").strip()
        place = end + 1
        if not metaimage and not line:
            return fields, place
        key, mark, value = line.partition("=" if metaimage else ":")
        bare = bare or (metaimage and line != "" and not mark)
        fields[key.strip().lower()] = value.strip()
        if metaimage and key.strip() == "ElementDataFile":
            if bare:  # ITK would not come back, or abort
                raise InputFileError(
                    f"read {path}: expected a header of lines with '=', got one without; "
                    "check the file"
                )
            return fields, place


def _check_geometry(path: Path) -> tuple[float, ...] | None:
    """Spacing as its owner wrote it, where it is written as numbers; ITK would guess for bad ones.

    Raises:
        InputFileError: zero, negative or not finite.
    """
    fields, _ = _header(path)
    for key in ("elementspacing", "spacings", "elementsize"):
        if key not in fields:
            continue
        try:
            spacing = tuple(float(word) for word in fields[key].split())
        except ValueError:
            spacing = ()
        if len(spacing) != 3 or not all(0 < step < math.inf for step in spacing):
            raise InputFileError(
                f"read {path}: expected positive finite spacing along 3 axes, got "
                f"{fields[key]!r}; correct the header"
            )
        return spacing
    for key in ("space directions", "space origin", "transformmatrix", "offset"):
        numbers = fields.get(key, "").replace("(", " ").replace(")", " ").replace(",", " ").split()
        bad = [word for word in numbers if word.lower().lstrip("+-") in ("nan", "inf", "none")]
        zero = key == "space directions" and any(
            not any(float(word) for word in vector.strip("()").split(","))
            for vector in fields.get(key, "").split()
            if vector != "none" and not bad
        )
        if bad or zero:
            raise InputFileError(
                f"read {path}: expected finite {key} and none of length 0, got {fields[key]!r}; "
                "correct the header"
            )
    return None


def _check_data(path: Path, size: int) -> None:
    """Unpack to the end, keeping nothing: length and checksum must be right."""
    fields, place = _header(path)
    packed = (
        fields.get("compresseddata", "").lower() == "true"
        or "gz" in fields.get("encoding", "").lower()
    )
    local = fields.get("elementdatafile", "LOCAL").upper() == "LOCAL"
    if not local or "data file" in fields or "datafile" in fields:
        raise InputFileError(
            f"read {path}: expected header and voxels in one file, got a header that names "
            "another; save it as one"
        )
    raw = fields.get("encoding", "raw") in ("raw", "gzip", "gz")
    if not raw:
        return  # text encodings are short and ITK counts them
    found = 0
    with path.open("rb") as file:
        file.seek(place)
        if not packed:
            found = path.stat().st_size - place
        else:
            unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # of zlib or gzip
            while not unpacker.eof and found <= size:
                block = unpacker.unconsumed_tail or file.read(_BLOCK)
                if not block:
                    break
                found += len(unpacker.decompress(block, _BLOCK))
            if not unpacker.eof and found <= size:
                raise InputFileError(
                    f"read {path}: expected compressed voxels to their end, got "
                    f"{found:,} bytes; the file is cut short"
                )
    if found != size and (packed or found < size):
        raise InputFileError(
            f"read {path}: expected {size:,} bytes of voxels, got "
            f"{'fewer' if found < size else 'more'}; save it again"
        )


def _write_itk(
    path: Path,
    grid: Grid,
    *,
    record: Mapping[str, str],
    quality: int | None,  # noqa: ARG001
) -> None:
    import numpy as np

    sitk = _simple_itk()
    if grid.values.shape[1] != 1:
        raise ShapeError(
            f"write: expected 1 channel for NRRD and MHA, got {grid.values.shape[1]}; "
            "write one file per channel"
        )
    stored = stored_voxels(grid)
    volume: NDArray[Any]
    if stored is None:
        volume = grid.values.detach().to("cpu").float()[0, 0].numpy()
        if not grid.header.get("non_finite", False) and not np.isfinite(volume).all():
            raise NumericalError(
                "write: expected finite voxels, as they were read, got NaN or infinity; "
                "lower the step size or check the input"
            )
    else:
        volume = stored[0][0]
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.T))
    affine = flip_lps(grid_affine(grid))
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing([float(step) for step in grid.spacing])
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / lengths).ravel().tolist())
    text = grid.header.get("text")
    for key, value in (text if isinstance(text, Mapping) else {}).items():
        image.SetMetaData(key, value)
    if record:
        image.SetMetaData(_RECORD, json.dumps(dict(record)))
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.UseCompressionOn()
    try:
        writer.Execute(image)
    except RuntimeError as error:  # all that ITK knows to raise
        _, _, why = str(error).rpartition("Reason: ")
        raise OSError("not all of it was stored" if "ITK" in why else why) from error


def _itk_record(path: Path) -> dict[str, str]:
    reader = _simple_itk().ImageFileReader()
    reader.SetFileName(str(path))
    with silent_stderr():
        reader.ReadImageInformation()
    return parse(reader.GetMetaData(_RECORD)) if reader.HasMetaDataKey(_RECORD) else {}


FORMATS = (
    Format(
        name="NRRD",
        suffixes=(".nrrd",),
        spatial_dims=3,
        read=read_itk,
        write=_write_itk,
        record=_itk_record,
    ),
    Format(
        name="MetaImage",
        suffixes=(".mha",),
        spatial_dims=3,
        read=read_itk,
        write=_write_itk,
        record=_itk_record,
    ),
)
