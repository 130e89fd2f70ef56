"""NRRD and MetaImage volumes: ``.nrrd``, ``.mha``, and ``.nhdr``, ``.mhd`` with a file of voxels.

As with NIfTI: values ``(1, 1, I, J, K)`` in the file's units, spacing in mm, ``header["affine"]``
towards RAS+ (these formats count in LPS+). Text entries are kept and written back. Values are
written as float32 unless `convnd.io.quantize` has rounded them.

Headers and voxels are read here, byte by byte: ITK's readers open any file that a header names,
return memory that was never filled for compressed voxels of a wrong length, and interpret some
headers differently from other programs. SimpleITK, an optional package, writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError, ShapeError
from convnd.grid import Grid
from convnd.io.affine import flip_lps, grid_affine
from convnd.io.provenance import parse_provenance
from convnd.io.quantization import IntegerEncoding, integer_header, plain_integers
from convnd.io.reading import check_positions, import_optional, size_limit, translate_errors
from convnd.io.registry import Format
from convnd.io.volumes.header import VolumeHeader
from convnd.io.volumes.metaimage import parse_metaimage
from convnd.io.volumes.nrrd import parse_nrrd
from convnd.io.volumes.voxels import count_missing, read_voxels, voxels_to_write

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FORMATS", "MAX_VOXELS", "read_itk"]

MAX_VOXELS = 2**30  # 4 GiB as float32
_PROVENANCE_KEY = "convnd"
_TEXT_KEY = re.compile(r"[A-Za-z0-9_.-]+( [A-Za-z0-9_.-]+)*")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Names that these formats, or ITK on its way, give a meaning.
_RESERVED = re.compile(
    r"(itk|nrrd)_.*|data ?file|element.*|.*datafile|ndims|dimsize|headersize.*|compresseddata.*|"
    r"binarydata.*|object.*|convnd"
)


def read_itk(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read one 3-D volume of ``.nrrd``, ``.nhdr``, ``.mha`` or ``.mhd``.

    Args:
        path: an existing file; its content selects the format.
        max_pixels: largest number of voxels; None for `MAX_VOXELS`.

    Returns:
        Values ``(1, 1, I, J, K)``; spacing in mm; axes ``("i", "j", "k")``.

    Raises:
        InputFileError: damaged, not three axes, not real numbers, spacing or directions that are
            not finite or singular, voxels in another file, larger than the limit, or of another
            length than the header says.
        ResourceError: there is not enough memory for it.
    """
    import numpy as np
    import torch

    with translate_errors(path, "a NRRD or MetaImage volume"):
        header = _parse_header(path)
        check_positions(path, header.shape, size_limit(max_pixels, MAX_VOXELS))
        affine = np.eye(4)
        affine[:3, :3] = np.transpose(header.directions) * np.asarray(header.spacing)
        affine[:3, 3] = header.origin
        if not np.isfinite(affine).all() or np.linalg.det(affine) == 0:
            raise InputFileError(
                f"read {path}",
                expected="invertible directions and a finite origin",
                got=str(affine[:3].tolist()),
                remedy="correct the header",
            )
        voxels = read_voxels(path, header)
        with np.errstate(over="raise"):  # float64 beyond float32
            volume = np.require(voxels, np.float32, ["C", "W"])
        missing = count_missing(path, volume)
        integers: dict[str, object] = {"integer_encoding": None}
        if voxels.dtype.kind in "iu":
            dtype = voxels.dtype.newbyteorder("=").name
            integers = integer_header(voxels[None], IntegerEncoding(dtype))
    return Grid(
        values=torch.from_numpy(volume)[None, None],
        spacing=header.spacing,
        units=("mm",) * 3,
        axes=("i", "j", "k"),
        header={
            "affine": flip_lps(affine),
            **integers,
            "text": {key: text for key, text in header.text.items() if _is_text(key)},
            "non_finite": missing > 0,
        },
    )


def _parse_header(path: Path) -> VolumeHeader:
    with path.open("rb") as file:
        is_nrrd = file.read(4) == b"NRRD"
    return parse_nrrd(path) if is_nrrd else parse_metaimage(path)


def _is_text(key: str) -> bool:
    """Whether an entry can be written back without being taken for a part of the header."""
    return _TEXT_KEY.fullmatch(key) is not None and _RESERVED.fullmatch(key.lower()) is None


def _write_itk(path: Path, grid: Grid, *, provenance: Mapping[str, str], **_: object) -> None:
    import numpy as np

    sitk = _simple_itk()
    if grid.values.shape[1] != 1:
        raise ShapeError(
            "write",
            expected="1 channel for NRRD and MHA",
            got=grid.values.shape[1],
            remedy="write an array (.npy); NIfTI (.nii.gz) holds the frames of a series",
        )
    image = sitk.GetImageFromArray(np.ascontiguousarray(_volume(grid).T))
    affine = flip_lps(grid_affine(grid))
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing([float(step) for step in grid.spacing])
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / lengths).ravel().tolist())
    metadata = grid.header.get("text")
    for key, value in (metadata if isinstance(metadata, Mapping) else {}).items():
        if _is_text(key):  # line breaks would end the entry in a MetaImage
            one_line = (
                value if path.suffix.lower() in (".nrrd", ".nhdr") else value.replace("\n", " ")
            )
            image.SetMetaData(key, _CONTROL.sub(" ", one_line))
    if provenance:
        image.SetMetaData(_PROVENANCE_KEY, json.dumps(dict(provenance)))
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.SetUseCompression(path.suffix.lower() in (".nrrd", ".mha"))
    try:
        writer.Execute(image)
    except RuntimeError as error:  # all that ITK knows to raise
        why = str(error).rpartition("Reason: ")[2]
        raise OSError("not all of it was stored" if "ITK" in why else why) from error


def _volume(grid: Grid) -> NDArray[Any]:
    """Return the voxels to write, ``(I, J, K)``: integers if the grid was quantized to such."""
    integers = plain_integers(grid)
    voxels: NDArray[Any] = (voxels_to_write(grid) if integers is None else integers)[0]
    return voxels


def _simple_itk() -> Any:
    """Import SimpleITK and silence its warnings."""
    sitk = import_optional("SimpleITK", "NRRD and MHA", extra="volumes")
    # What it would write to stderr comes as an error, or does not matter.
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    return sitk


def _read_provenance(path: Path) -> dict[str, str]:
    text = _parse_header(path).text.get(_PROVENANCE_KEY, "")
    return parse_provenance(text) if text else {}


def _data_file(path: Path) -> list[Path]:
    data = _parse_header(path).data
    return [] if data is None else [data]


FORMATS = tuple(
    Format(
        name=name,
        suffixes=(suffix,),
        spatial_dims=3,
        read=read_itk,
        write=_write_itk,
        companions=companions,
        parts=_data_file if companions else None,
        read_provenance=_read_provenance,
    )
    for name, suffix, companions in (
        ("NRRD", ".nrrd", ()),
        ("NRRD with detached header", ".nhdr", (".raw",)),
        ("MetaImage", ".mha", ()),
        ("MetaImage with detached header", ".mhd", (".raw",)),
    )
)
