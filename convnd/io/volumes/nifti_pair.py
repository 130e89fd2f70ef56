"""Pairs of ``.hdr`` and ``.img``: NIfTI in two files, and Analyze 7.5, which has no orientation."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.reading import check_partner

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "PAIR_SUFFIXES",
    "analyze_affine",
    "analyze_header",
    "as_pair",
    "as_single",
    "is_analyze",
    "is_pair",
    "pair_files",
]

PAIR_SUFFIXES = (".hdr", ".img")
"""Suffixes of header and voxels."""

_MAGICS = (b"n+1", b"n+2", b"ni1", b"ni2")


def is_pair(path: Path) -> bool:
    """Whether a name is that of one of the two files."""
    return path.name.lower().removesuffix(".gz").endswith(PAIR_SUFFIXES)


def pair_files(path: Path) -> tuple[Path, Path]:
    """Return the file of the header and the file of the voxels; one may be compressed.

    Args:
        path: one of the two, which exists.

    Raises:
        InputFileError: the other is missing or cannot be read.
    """
    name = path.name
    stem = name[: -len(".hdr.gz")] if name.lower().endswith(".gz") else name[: -len(".hdr")]
    is_header = name[len(stem) :].lower().startswith(".hdr")
    other = PAIR_SUFFIXES[1] if is_header else PAIR_SUFFIXES[0]
    endings = [other, other.upper(), f"{other}.gz", f"{other.upper()}.GZ"]
    partner = next((p for e in endings if (p := path.with_name(stem + e)).is_file()), None)
    if partner is None:
        raise InputFileError(
            f"read {path}",
            expected=f"the file {stem}{other} beside it",
            got="none",
            remedy="put both files of the pair into one folder",
        )
    check_partner(path, partner)
    return (path, partner) if is_header else (partner, path)


def analyze_header(path: Path, start: bytes) -> Any:
    """Parse an Analyze header, which has the length of a NIfTI header and no magic.

    Raises:
        InputFileError: SPM keeps the geometry in a file beside it, which is not read.
    """
    import nibabel.spm99analyze

    kind: Any = nibabel.spm99analyze.Spm99AnalyzeHeader  # without type hints

    if path.with_suffix(".mat").is_file():
        raise InputFileError(
            f"read {path}",
            expected="geometry in the header",
            got=f"one in {path.stem}.mat",
            remedy="convert it to NIfTI with SPM or nibabel (nibabel.load and nibabel.save)",
        )
    return kind(start[: kind.sizeof_hdr], check=False)


def is_analyze(kind: Any, start: bytes) -> bool:
    """Whether a header of NIfTI's length is one of Analyze."""
    return kind.sizeof_hdr == 348 and start[344:347] not in _MAGICS


def analyze_affine(header: Any) -> NDArray[Any]:
    """The affine of an Analyze header: from right to left by convention, around its origin."""
    import numpy as np

    return np.asarray(header.get_best_affine(), np.float64)


def as_single(kind: Any, content: bytes) -> Any:
    """Parse the header file of a NIfTI pair, as the header of a file that holds both.

    Args:
        kind: nibabel's class of headers of such a file.
        content: the whole header file.
    """
    import nibabel as nib

    nibabel: Any = nib
    two = kind is nibabel.Nifti2Header
    pair = nibabel.nifti2.Nifti2PairHeader if two else nibabel.nifti1.Nifti1PairHeader
    header = pair.from_fileobj(io.BytesIO(content), check=False)
    single = kind(header.binaryblock, header.endianness, False, header.extensions)
    single["magic"] = kind.single_magic
    return single


def as_pair(header: Any) -> Any:
    """Convert the header of a single file to one of a pair; return nibabel's class as well."""
    import nibabel as nib

    nibabel: Any = nib
    two = isinstance(header, nibabel.Nifti2Header)
    kind = nibabel.Nifti2Pair if two else nibabel.Nifti1Pair
    pair = kind.header_class(header.binaryblock, header.endianness, False, header.extensions)
    pair["magic"], pair["vox_offset"] = kind.header_class.pair_magic, 0
    return kind, pair
