"""FreeSurfer volumes: ``.mgh`` and ``.mgz``.

The format is described at https://surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat.

As with NIfTI: values ``(1, T, I, J, K)`` in the file's units, spacing in mm, ``header["affine"]``
towards RAS+. The header is written back, with the geometry of the grid. Values are written as
float32 unless `convnd.io.quantize` has rounded them.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError, ShapeError
from convnd.grid import Grid
from convnd.io.affine import grid_affine
from convnd.io.quantization import IntegerEncoding, integer_header, plain_integers
from convnd.io.reading import check_positions, size_limit, translate_errors
from convnd.io.registry import Format
from convnd.io.volumes.nifti_content import LARGEST_REST, opened
from convnd.io.volumes.voxels import count_missing, size_error, voxels_to_write

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FORMATS", "MAX_VOXELS", "read_mgh"]

MAX_VOXELS = 2**30  # 4 GiB as float32
_HEADER = 284  # bytes before the voxels
_FIELDS, _FOOTER = 90, 20  # bytes of fields at the start of a file, and behind the voxels
_DEFLATE_LIMIT = 1100  # zlib packs at most 1032 bytes into one
_DTYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
_WRITTEN = ("uint8", "int16", "int32")  # of integers


def read_mgh(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read one 3-D volume, or a series of them.

    Args:
        path: an existing file; its content says whether it is compressed, not its suffix.
        max_pixels: largest number of voxels; None for `MAX_VOXELS`.

    Returns:
        Values ``(1, T, I, J, K)``; spacing in mm; axes ``("i", "j", "k")``.

    Raises:
        InputFileError: damaged, of an unknown type, too large, or without usable geometry.
        ResourceError: there is not enough memory for it.
    """
    import numpy as np
    import torch

    with translate_errors(path, "a FreeSurfer volume"):
        header, voxels = _content(path, size_limit(max_pixels, MAX_VOXELS))
        affine = np.asarray(header.get_affine(), np.float64)
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        # Conversion through text keeps 0.6, where float32 to float64 gives 0.60000002.
        delta = tuple(float(str(step)) for step in header["delta"])
        spacing = delta if np.allclose(lengths, delta, rtol=1e-4) else tuple(map(float, lengths))
        if not np.isfinite(affine).all() or np.linalg.det(affine) == 0:
            raise InputFileError(
                f"read {path}",
                expected="an invertible affine",
                got=str(affine[:3].tolist()),
                remedy="correct the header",
            )
        volume = np.require(voxels, np.float32, ["C", "W"])
        integers: dict[str, object] = {"integer_encoding": None}
        if voxels.dtype.kind in "iu":
            dtype = voxels.dtype.newbyteorder("=").name
            integers = integer_header(voxels, IntegerEncoding(dtype))
    return Grid(
        values=torch.from_numpy(volume)[None],
        spacing=spacing,
        units=("mm",) * 3,
        axes=("i", "j", "k"),
        header={
            "mgh": header,
            "affine": affine,
            **integers,
            **_series_header(header, len(voxels)),
            "non_finite": count_missing(path, volume) > 0,
        },
    )


def _series_header(header: Any, frames: int) -> dict[str, object]:
    """Return the header entry of a series, the time from frame to frame in the file's unit, ms."""
    step = float(str(header["tr"]))
    return (
        {"frame_step": (step, "ms") if 0 < step < math.inf else (1.0, "px")} if frames > 1 else {}
    )


def _content(path: Path, max_voxels: int) -> tuple[Any, NDArray[Any]]:
    """Return nibabel's header, and the numbers of the file, ``(T, I, J, K)``."""
    import nibabel.freesurfer.mghformat
    import numpy as np

    make_header: Any = nibabel.freesurfer.mghformat.MGHHeader  # without type hints
    with opened(path) as (stream, compressed):
        start = stream.read(_HEADER)
        if len(start) < _HEADER:
            raise size_error(path, _HEADER, "fewer")
        numbers = np.frombuffer(start[:28], ">i4").tolist()
        version, *shape, code, _ = numbers
        if version != 1 or code not in _DTYPES:
            raise InputFileError(
                f"read {path}",
                expected=f"version 1 and type of voxels among {', '.join(map(str, _DTYPES))}",
                got=f"version {version} and type {code}",
                remedy="convert it with mri_convert",
            )
        check_positions(path, tuple(shape), max_voxels)
        dtype = np.dtype(_DTYPES[code])
        size = math.prod(shape) * dtype.itemsize
        limit = path.stat().st_size * (_DEFLATE_LIMIT if compressed else 1)
        content = stream.read(size + LARGEST_REST + 1) if size <= limit else b""
    if len(content) < size or len(content) > size + LARGEST_REST:
        raise size_error(path, size, "fewer" if len(content) < size else "more")
    footer = content[size : size + _FOOTER].ljust(_FOOTER, b"\0")
    header = make_header(start[:_FIELDS] + footer, check=False)
    voxels = np.frombuffer(content, dtype, math.prod(shape)).reshape(shape, order="F")
    return header, np.moveaxis(voxels, 3, 0)


def _write_mgh(path: Path, grid: Grid, **_: object) -> None:
    import gzip

    import nibabel as nib
    import numpy as np

    nibabel: Any = nib
    source_header = grid.header.get("mgh")
    frames = grid.values.shape[1]
    if frames != 1 and "frame_step" not in grid.header:
        raise ShapeError(
            "write", expected="1 channel for MGH", got=frames, remedy="write an array (.npy)"
        )
    volume = voxels_to_write(grid)
    integers = plain_integers(grid)
    if integers is not None:
        volume = _storable(integers)
    frames_last = np.moveaxis(volume, 0, -1) if frames > 1 else volume[0]
    image = nibabel.MGHImage(frames_last, grid_affine(grid), source_header)
    image.set_data_dtype(volume.dtype)
    buffer = io.BytesIO()
    image.to_stream(buffer)
    packed = path.suffix.lower() == ".mgz"
    # Without name and time, the same volume gives the same bytes.
    content = gzip.compress(buffer.getvalue(), 6, mtime=0) if packed else buffer.getvalue()
    path.write_bytes(content)


def _storable(integers: NDArray[Any]) -> NDArray[Any]:
    """Return integers in their own type, or the first that the format has; else as float32."""
    import numpy as np

    own_type = integers.dtype.name if integers.dtype.name in _WRITTEN else _WRITTEN[0]
    for name in (own_type, *_WRITTEN):
        limits = np.iinfo(name)
        if limits.min <= integers.min() and integers.max() <= limits.max:
            return integers.astype(name)
    return integers.astype(np.float32)


FORMATS = (
    Format(
        name="FreeSurfer",
        suffixes=(".mgz", ".mgh"),
        spatial_dims=3,
        is_series=True,
        read=read_mgh,
        write=_write_mgh,
    ),
)
