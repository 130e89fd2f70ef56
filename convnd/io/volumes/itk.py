"""NRRD and MetaImage volumes (``.nrrd``, ``.mha``) through SimpleITK, an optional package.

As with NIfTI: values ``(1, 1, I, J, K)`` in the file's units, spacing in mm, ``header["affine"]``
towards RAS+ (these formats count in LPS+). Text entries come along and are written back. Values
are written as float32 unless `convnd.io.quantize` has rounded them.

A header is judged before ITK sees it (`convnd.io.volumes.itk_header`), and ITK reads in a child
(`convnd.io.worker.client`, `convnd.io.worker.itk_decoder`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError, NumericalError, ShapeError
from convnd.grid import Grid
from convnd.io.affine import flip_lps, grid_affine
from convnd.io.provenance import parse_provenance
from convnd.io.quantization import IntegerEncoding, integer_codes
from convnd.io.reading import size_limit, translate_errors
from convnd.io.registry import Format
from convnd.io.volumes.itk_header import check_geometry, read_header
from convnd.io.worker.client import TIMEOUT, request
from convnd.io.worker.itk_decoder import PROVENANCE_KEY, simple_itk

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FORMATS", "MAX_VOXELS", "read_itk"]

MAX_VOXELS = 2**30  # 4 GiB as float32
_MIN_BYTES_PER_SECOND = 5e6  # bytes a second of a file that is read and unpacked


def read_itk(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read one 3-D volume of ``.nrrd`` or ``.mha``.

    Args:
        path: an existing file.
        max_pixels: largest number of voxels; None for `MAX_VOXELS`.

    Returns:
        Values ``(1, 1, I, J, K)``; spacing in mm; axes ``("i", "j", "k")``.

    Raises:
        InputFileError: damaged, not three axes, not real numbers, spacing or directions that are
            not finite or singular, larger than the limit or than the file can hold; or ITK hangs,
            dies, or wants more memory than it is given.
        DependencyError: SimpleITK is not installed.
        ResourceError: there is not enough memory for it.
    """
    import numpy as np
    import torch

    limit = size_limit(max_pixels, MAX_VOXELS)
    with translate_errors(path, "a NRRD or MetaImage volume"):
        patience = TIMEOUT + path.stat().st_size / _MIN_BYTES_PER_SECOND
        spacing = check_geometry(path)
        asked = {"decoder": "itk_decoder", "max_voxels": limit}
        with request(path, asked, max_values=limit, patience=patience) as said:
            told, volume = next(said)
        if volume is None or volume.ndim != 3:
            raise InputFileError(
                f"read {path}: expected three axes of voxels, got others; the file is damaged"
            )
        steps = tuple(map(float, told["spacing"]))
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(told["directions"], (3, 3)) * np.asarray(steps)
        affine[:3, 3] = told["origin"]
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
        dtype = told["integer_dtype"]
        encoding = None if dtype is None else IntegerEncoding(np.dtype(dtype).name)
        text = {str(key): str(value) for key, value in dict(told["text"]).items()}
    return Grid(
        values=torch.from_numpy(volume)[None, None],
        spacing=spacing or steps,
        units=("mm",) * 3,
        axes=("i", "j", "k"),
        header={
            "affine": flip_lps(affine),
            "integer_encoding": encoding,
            "text": text,
            "non_finite": missing > 0,
        },
    )


def _write_itk(
    path: Path,
    grid: Grid,
    *,
    provenance: Mapping[str, str],
    quality: int | None,  # noqa: ARG001
) -> None:
    import numpy as np

    sitk = simple_itk()
    if grid.values.shape[1] != 1:
        raise ShapeError(
            f"write: expected 1 channel for NRRD and MHA, got {grid.values.shape[1]}; "
            "write one file per channel"
        )
    codes = integer_codes(grid)
    volume: NDArray[Any]
    if codes is None:
        volume = grid.values.detach().to("cpu").float()[0, 0].numpy()
        if not grid.header.get("non_finite", False) and not np.isfinite(volume).all():
            raise NumericalError(
                "write: expected finite voxels, as they were read, got NaN or infinity; "
                "lower the step size or check the input"
            )
    else:
        volume = codes[0][0]
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.T))
    affine = flip_lps(grid_affine(grid))
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing([float(step) for step in grid.spacing])
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / lengths).ravel().tolist())
    text = grid.header.get("text")
    for key, value in (text if isinstance(text, Mapping) else {}).items():
        image.SetMetaData(key, value)
    if provenance:
        image.SetMetaData(PROVENANCE_KEY, json.dumps(dict(provenance)))
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.UseCompressionOn()
    try:
        writer.Execute(image)
    except RuntimeError as error:  # all that ITK knows to raise
        _, _, why = str(error).rpartition("Reason: ")
        raise OSError("not all of it was stored" if "ITK" in why else why) from error


def _read_provenance(path: Path) -> dict[str, str]:
    fields, _ = read_header(path)
    text = fields.get(PROVENANCE_KEY, "")
    if path.suffix.lower() == ".nrrd":  # a second mark tells entries of people's own
        text = re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), text[1:])
    return parse_provenance(text) if text else {}


FORMATS = (
    Format(
        name="NRRD",
        suffixes=(".nrrd",),
        spatial_dims=3,
        read=read_itk,
        write=_write_itk,
        read_provenance=_read_provenance,
    ),
    Format(
        name="MetaImage",
        suffixes=(".mha",),
        spatial_dims=3,
        read=read_itk,
        write=_write_itk,
        read_provenance=_read_provenance,
    ),
)
