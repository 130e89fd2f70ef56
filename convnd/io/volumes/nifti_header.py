"""The header of NIfTI files: extents, spacing and affines, checked before voxels are read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from convnd.errors import InputFileError
from convnd.io.conversions import recognized_format
from convnd.io.reading import check_positions
from convnd.io.volumes.nifti_pair import analyze_affine

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "FRAME_UNITS",
    "check_affine",
    "checked_shape",
    "checked_spacing",
    "header_frame_step",
    "header_geometry",
    "millimetres_per_unit",
    "read_start",
    "valid_affines",
    "voxel_offset",
]

_LARGEST_START = 2**22  # header and extensions; nibabel parses one in 16 bytes
_MILLIMETRES = {"mm": 1.0, "unknown": 1.0, "meter": 1e3, "micron": 1e-3}
FRAME_UNITS = {"sec": "s", "msec": "ms", "usec": "us"}
"""Units of a grid by nibabel's names of them."""
_ROUNDING = 1e-4  # relative difference up to which pixdim and affine agree
_BYTE_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")


def read_start(path: Path, stream: IO[bytes]) -> tuple[Any, bytes]:
    """Return nibabel's class for the version of a header, and the first bytes of the file."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    start = stream.read(540)
    kinds: dict[bytes, Any] = {
        kind.sizeof_hdr.to_bytes(4, order): kind
        for kind in (Nifti1Header, Nifti2Header)
        for order in _BYTE_ORDERS
    }
    kind = kinds.get(start[:4])
    if kind is None or len(start) < kind.sizeof_hdr:
        known = recognized_format(start)
        got, remedy = known or ("other content", "check the file")
        raise InputFileError(f"read {path}", expected="a NIfTI header", got=got, remedy=remedy)
    return kind, start


def header_frame_step(header: Any) -> tuple[float, str]:
    """Return the distance between the frames of a series, and its unit; 1 px if none is valid."""
    step = float(str(header["pixdim"][4]))  # through text, so that 0.72 stays 0.72
    _, unit = header.get_xyzt_units()
    return (step, FRAME_UNITS.get(unit, "px")) if 0 < step < math.inf else (1.0, "px")


def voxel_offset(path: Path, header: Any, *, pair: bool = False) -> int:
    """Return where the voxels begin, in bytes; extensions lie between header and voxels.

    Args:
        path: the file, for messages.
        header: its header.
        pair: whether the voxels are in a file of their own.
    """
    offset = float(header["vox_offset"])
    first = 0 if pair else header.sizeof_hdr
    if not first <= offset <= _LARGEST_START:
        raise InputFileError(
            f"read {path}",
            expected="voxels after the header",
            got=f"vox_offset {offset:g}",
            remedy="save it again",
        )
    return int(offset)


def checked_shape(path: Path, header: Any, max_voxels: int) -> tuple[int, ...]:
    """Return the extents; refuse more than 4 axes, empty axes and too many voxels."""
    rank = int(header["dim"][0])
    if not 1 <= rank <= 7:
        raise InputFileError(
            f"read {path}", expected="1 to 7 axes", got=f"dim[0] = {rank}", remedy="save it again"
        )
    shape = [int(extent) for extent in header["dim"][1 : rank + 1]]
    check_positions(path, tuple(shape), max_voxels)
    if max(shape[4:], default=1) > 1:
        raise InputFileError(
            f"read {path}",
            expected="a 3-D volume or a 4-D series",
            got=f"{rank}-D {' × '.join(map(str, shape))}",
            remedy="split it",
        )
    return tuple(shape)


def checked_spacing(path: Path, header: Any) -> tuple[float, ...]:
    """Return the spacing along i, j, k in mm; axes that the file lacks get 1 mm."""
    rank = min(int(header["dim"][0]), 3)
    # Conversion through text keeps 0.6, where float32 to float64 gives 0.60000002.
    pixdim = [float(str(step)) for step in header["pixdim"][1 : rank + 1]]
    if not all(0 < step < math.inf for step in pixdim):
        raise InputFileError(
            f"read {path}",
            expected="positive finite pixdim",
            got=pixdim,
            remedy="correct the header",
        )
    return tuple(step * millimetres_per_unit(header) for step in pixdim) + (1.0,) * (3 - rank)


def millimetres_per_unit(header: Any) -> float:
    """Return the length of the header's unit in mm; 1 if it is unknown."""
    try:
        return _MILLIMETRES[header.get_xyzt_units()[0]]
    except (KeyError, AttributeError):  # NIfTI does not define the code; Analyze has none
        return 1.0


def check_affine(path: Path, header: Any) -> None:
    """Refuse an affine that is not finite or has no inverse."""
    import numpy as np

    for name, affine in valid_affines(header).items():
        if not np.isfinite(affine).all() or np.linalg.det(affine[:3, :3]) == 0:
            raise InputFileError(
                f"read {path}",
                expected=f"an invertible {name}",
                got=affine[:3].tolist(),
                remedy="correct the header",
            )


def valid_affines(header: Any) -> dict[str, NDArray[Any]]:
    """Return the affines that the header declares valid."""
    if int(header["qform_code"]) > 0 and header["pixdim"][0] not in (-1, 1):
        header["pixdim"][0] = 1  # the standard gives 0 this meaning
    return {
        name: getattr(header, f"get_{name}")()
        for name in ("qform", "sform")
        if int(header[f"{name}_code"]) > 0
    }


def header_geometry(path: Path, header: Any) -> tuple[tuple[float, ...], NDArray[Any] | None]:
    """Return spacing and affine, in mm: those of the sform, else of the qform, else of pixdim.

    Returns:
        Spacing along i, j, k, and the matrix from indices to RAS+; None without a code above 0.

    Raises:
        InputFileError: pixdim, or an affine that the header declares valid, cannot be used.
    """
    import numpy as np

    pixdim = checked_spacing(path, header)
    if "sform_code" not in header:  # Analyze
        return pixdim, analyze_affine(header)
    check_affine(path, header)
    affines = valid_affines(header)
    name = next((name for name in ("sform", "qform") if name in affines), None)
    if name is None:
        return pixdim, None
    affine = np.diag([*[millimetres_per_unit(header)] * 3, 1.0]) @ affines[name]
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if np.allclose(lengths, pixdim, rtol=_ROUNDING, atol=0):
        # pixdim keeps 0.6, which the affine rounds to float32.
        affine[:3, :3] *= np.divide(pixdim, lengths)
        lengths = np.array(pixdim)
    if not np.isfinite(affine).all():
        raise InputFileError(
            f"read {path}",
            expected="an affine and spacing in finite millimetres",
            got=pixdim,
            remedy="correct the header",
        )
    return tuple(map(float, lengths)), affine
