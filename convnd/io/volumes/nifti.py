"""NIfTI volumes: ``.nii``, ``.nii.gz`` and pairs, versions 1 and 2, three spatial axes and frames.

A volume is a grid of shape ``(1, T, I, J, K)`` in the units of the file (HU, …), with its axes in
the order of the file and spacing in millimetres from the sform, else from ``pixdim``. A 4-D file is
a grid of ``T`` channels, one for each frame, and is written back as 4-D. The whole header is
written back: affine with its codes, units, description, extensions. Values are written as float32,
unless `convnd.io.quantize` has rounded them to the integers of the file. If the extent or spacing
has changed, the affine follows, so that the field of view stays the same.

Files that other programs load but that mislead are refused: pixdim of zero or NaN, an affine with
NaN or without inverse, axes of length zero, complex and RGB voxels, nothing but NaN, headers that
declare more than the file holds. Compressed files are read to their end, which holds the checksum.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import ShapeError
from convnd.grid import Grid
from convnd.io.affine import grid_affine, is_orthogonal, rescaled
from convnd.io.provenance import is_provenance, parse_provenance
from convnd.io.quantization import IntegerEncoding, integer_codes, integer_header
from convnd.io.reading import size_limit, translate_errors
from convnd.io.registry import Format
from convnd.io.silence import silence_libraries
from convnd.io.volumes.nifti_content import LARGEST_REST, opened, read_pair, read_single
from convnd.io.volumes.nifti_header import (
    FRAME_UNITS,
    header_frame_step,
    header_geometry,
    read_start,
    valid_affines,
    voxel_offset,
)
from convnd.io.volumes.nifti_pair import (
    PAIR_SUFFIXES,
    as_pair,
    as_single,
    is_analyze,
    is_pair,
    pair_files,
)
from convnd.io.volumes.series import frame_step
from convnd.io.volumes.voxels import count_missing, voxels_to_write

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FORMATS", "MAX_VOXELS", "read_nifti"]

MAX_VOXELS = 2**30  # 4 GiB as float32
_SILENT = logging.Logger("silent", logging.CRITICAL + 1)
_COMMENT = 6  # NIfTI's code for an extension of plain text


def read_nifti(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read one 3-D volume, or a 4-D series of them.

    Args:
        path: an existing file; its content says whether it is compressed, not its suffix.
        max_pixels: largest number of voxels; None for `MAX_VOXELS`.

    Returns:
        Values ``(1, T, I, J, K)``; spacing in mm; axes ``("i", "j", "k")``. ``header["nifti"]`` is
        nibabel's header. A file of fewer axes gets axes of length 1.

    Raises:
        InputFileError: damaged, hazardous (see the module), of more than 4 axes, or too large.
        ResourceError: there is not enough memory for it.
    """
    import nibabel.nifti1
    import torch

    with translate_errors(path, "a NIfTI volume"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit = size_limit(max_pixels, MAX_VOXELS)
        header: Any
        header, content = (read_pair if is_pair(path) else read_single)(path, limit)
        spacing, affine = header_geometry(path, header)
        codes = _stored_voxels(header, content)
        volume = _voxels(header, codes)
        missing = count_missing(path, volume)
        values = torch.from_numpy(volume)[None]
        integers = _integer_header(header, codes)
        entries: dict[str, object] = {}
        kind: Any = nibabel.nifti1.Nifti1Header
        if isinstance(header, kind):  # Analyze has nothing to bring back
            for extension in list(filter(_extension_provenance, header.extensions)):
                header.extensions.remove(extension)
            # Fix what nibabel would fix, and print, when it writes.
            header.check_fix(_SILENT, error_level=100)
            entries = {"nifti": header}
        if len(codes) > 1:
            entries["frame_step"] = header_frame_step(header)
    return Grid(
        values=values,
        spacing=spacing,
        units=("mm",) * 3,
        axes=("i", "j", "k"),
        header={**entries, "affine": affine, **integers, "non_finite": missing > 0},
    )


def _stored_voxels(header: Any, content: bytes) -> NDArray[Any]:
    """Return the numbers of the file, ``(T, I, J, K)``."""
    import numpy as np

    shape = (*header.get_data_shape(), 1, 1, 1)[:4]
    stored = np.frombuffer(content, header.get_data_dtype(), offset=int(header["vox_offset"]))
    return np.moveaxis(stored.reshape(shape, order="F"), 3, 0)


def _voxels(header: Any, stored: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    slope, intercept = header.get_slope_inter()
    volume = np.empty(stored.shape, np.float32)
    with np.errstate(over="raise"):  # beyond float32
        # Slice by slice, since scaling in float64 takes twice the memory.
        for frame, k in np.ndindex(stored.shape[0], stored.shape[3]):
            plane = stored[frame, ..., k]
            scaled = plane if slope is None else plane * np.float64(slope) + (intercept or 0)
            volume[frame, ..., k] = scaled
    return volume


def _integer_header(header: Any, stored: NDArray[Any]) -> dict[str, object]:
    if stored.dtype.kind not in "iu":
        return {"integer_encoding": None}
    slope, intercept = header.get_slope_inter()
    scaling = () if slope is None else (float(slope), float(intercept or 0))
    return integer_header(stored, IntegerEncoding(stored.dtype.newbyteorder("=").name, *scaling))


def _write_nifti(path: Path, grid: Grid, *, provenance: Mapping[str, str], **_: object) -> None:
    """Write voxels under the header of the input, or under a plain one."""
    import gzip

    import nibabel as nib
    import numpy as np

    nibabel: Any = nib  # its type hints are incomplete

    frames = grid.values.shape[1]
    if frames != 1 and "frame_step" not in grid.header:
        raise ShapeError(
            "write", expected="1 channel for NIfTI", got=frames, remedy="write an array (.npy)"
        )
    volume = voxels_to_write(grid)
    header = _header_for(grid)
    codes = integer_codes(grid)
    if codes is not None:
        volume = codes[0]
        header.set_data_dtype(volume.dtype)
    if provenance:
        comment = json.dumps(dict(provenance)).encode("ascii")
        header.extensions.append(nibabel.nifti1.Nifti1Extension(_COMMENT, comment))
    two = isinstance(header, nibabel.Nifti2Header)
    kind = nibabel.Nifti2Image if two else nibabel.Nifti1Image
    if is_pair(path):
        kind, header = as_pair(header)
    image = kind(np.moveaxis(volume, 0, -1).reshape(header.get_data_shape()), None, header)
    if codes is not None:
        # Set now, because making the image drops them; integers are written unchanged.
        image.header.set_slope_inter(codes[1].slope, codes[1].intercept)
    if is_pair(path):
        suffixes = zip(("header", "image"), PAIR_SUFFIXES, strict=True)
        files = {part: path.with_suffix(suffix) for part, suffix in suffixes}
        image.to_file_map({part: nibabel.FileHolder(str(file)) for part, file in files.items()})
        return
    with path.open("wb") as file:
        if path.name.lower().endswith(".gz"):
            # Without name and time, the same volume gives the same bytes.
            with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(file)


def _extension_provenance(extension: Any) -> dict[str, str]:
    """Return the provenance in an extension; empty if it holds something else."""
    content = extension.get_content() if extension.get_code() == _COMMENT else b""
    text = content.encode() if isinstance(content, str) else content.rstrip(b"\0")
    entries = parse_provenance(text)
    return entries if any(is_provenance(*pair) for pair in entries.items()) else {}


def _read_provenance(path: Path) -> dict[str, str]:
    pair = is_pair(path)
    path = pair_files(path)[0] if pair else path
    with silence_libraries(), opened(path) as (stream, _):
        kind, start = read_start(path, stream)
        if is_analyze(kind, start):
            return {}
        if pair:
            header = as_single(kind, start + stream.read(LARGEST_REST))
        else:
            header = kind(start[: kind.sizeof_hdr], check=False)
            offset = voxel_offset(path, header)
            content = start + stream.read(max(0, offset - len(start)))
            header = kind.from_fileobj(io.BytesIO(content[:offset]), check=False)
        records = [_extension_provenance(extension) for extension in header.extensions]
    return next((record for record in records if record), {})


def _header_for(grid: Grid) -> Any:
    """Return the header of the input, or a new one, with the extent and spacing of the grid."""
    import nibabel as nib
    import numpy as np

    nibabel: Any = nib

    known = grid.header.get("nifti")
    frames = grid.values.shape[1]
    if isinstance(known, nibabel.Nifti1Header):  # version 2 is a subclass
        header = known.copy()
        rank = len(header.get_data_shape())
        spacing, _ = header_geometry(Path("header"), header)
    else:
        header, rank, spacing = nibabel.Nifti1Header(), 3, grid.spacing
        header.set_xyzt_units("mm" if grid.units == ("mm",) * 3 else "unknown")
        header.set_data_shape(grid.shape)
        affine = grid_affine(grid)
        # Affines of other formats are in the millimetres of the scanner.
        code = "scanner" if grid.header.get("affine") is not None else "aligned"
        header.set_sform(affine, code)
        # A quaternion holds no shear.
        header.set_qform(affine, code if is_orthogonal(affine) else "unknown")
    factor = np.divide(grid.spacing, spacing)
    affines = valid_affines(header)
    rank = max(rank, 3) if grid.shape[min(rank, 3) :] != (1,) * (3 - min(rank, 3)) else rank
    header.set_data_dtype(np.float32)
    header.set_slope_inter(None)
    header.set_data_shape((*grid.shape, frames, *(1,) * 3)[: max(rank, 4 if frames > 1 else 1)])
    header["vox_offset"] = 0  # nibabel replaces it with the end of the extensions
    _set_frame_step(header, grid)
    if not np.allclose(factor, 1, rtol=1e-6):
        header["pixdim"][1:4] *= factor
        for name, affine in affines.items():
            known_code = int(header[f"{name}_code"])
            getattr(header, f"set_{name}")(rescaled(affine, factor), known_code)
    return header


def _set_frame_step(header: Any, grid: Grid) -> None:
    """Set the time from frame to frame, if it is not that of the header already."""
    step, unit = frame_step(grid)
    if "frame_step" not in grid.header or (step, unit) == header_frame_step(header):
        return
    header["pixdim"][4] = step
    if unit in FRAME_UNITS.values():
        of_space, _ = header.get_xyzt_units()
        names = {known: name for name, known in FRAME_UNITS.items()}
        header.set_xyzt_units(of_space, names[unit])


def _other_file(path: Path) -> list[Path]:
    return [file for file in pair_files(path) if file != path]


FORMATS = (
    Format(
        name="NIfTI",
        suffixes=(".nii", ".nii.gz"),
        spatial_dims=3,
        is_series=True,
        read=read_nifti,
        write=_write_nifti,
        read_provenance=_read_provenance,
    ),
    Format(
        name="NIfTI pair",
        suffixes=PAIR_SUFFIXES,
        spatial_dims=3,
        is_series=True,
        read=read_nifti,
        write=_write_nifti,
        companions=PAIR_SUFFIXES,
        parts=_other_file,
        read_provenance=_read_provenance,
    ),
    Format(
        name="NIfTI pair, compressed",
        suffixes=tuple(f"{suffix}.gz" for suffix in PAIR_SUFFIXES),
        spatial_dims=3,
        is_series=True,
        read=read_nifti,
        write=None,
        parts=_other_file,
        read_provenance=_read_provenance,
    ),
)
