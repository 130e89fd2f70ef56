"""Decode NRRD and MetaImage with ITK, in a child process (`convnd.io.worker.client`)."""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import DependencyError, InputFileError
from convnd.io.reading import check_positions, translate_errors
from convnd.io.volumes.itk_header import check_data

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PROVENANCE_KEY", "serve", "simple_itk"]

PROVENANCE_KEY = "convnd"
"""The text entry that records are kept in."""

_BYTES_PER_VOXEL = 24  # as stored, in float32, and on its way


def serve(
    path: Path, asked: Mapping[str, Any], grant: Callable[[int], None]
) -> Iterator[tuple[str, dict[str, Any], NDArray[Any] | None]]:
    """Yield the voxels ``(I, J, K)`` and what the header says; see `convnd.io.worker.worker`.

    Raises:
        InputFileError: damaged, not three axes, not real numbers, larger than the limit or than the
            file can hold.
        DependencyError: SimpleITK is not installed.
        ResourceError: there is not enough memory for it.
    """
    import numpy as np

    sitk = simple_itk()
    with translate_errors(path, "a NRRD or MetaImage volume"), _itk_errors(path):
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.SetImageIO("NrrdImageIO" if path.suffix.lower() == ".nrrd" else "MetaImageIO")
        reader.ReadImageInformation()
        shape = reader.GetSize()
        if len(shape) != 3:
            raise InputFileError(
                f"read {path}: expected 3 axes, got {len(shape)}; cut out one volume"
            )
        check_positions(path, shape, int(asked["max_voxels"]))
        kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
        if reader.GetNumberOfComponents() != 1 or "complex" in kind or "vector" in kind:
            raise InputFileError(
                f"read {path}: expected real voxels, got {kind} of "
                f"{reader.GetNumberOfComponents()} components; split it into volumes"
            )
        check_data(path, math.prod(shape) * _bytes(sitk, reader.GetPixelID()))
        grant(_BYTES_PER_VOXEL * math.prod(shape))
        image = reader.Execute()
        stored = sitk.GetArrayViewFromImage(image)
        with np.errstate(over="raise"):  # float64 beyond float32
            volume = np.ascontiguousarray(stored.T, dtype=np.float32)
        text = {
            key: image.GetMetaData(key)
            for key in image.GetMetaDataKeys()
            if not key.startswith(("ITK_", "NRRD_")) and key != PROVENANCE_KEY
        }
        told = {
            "integer_dtype": stored.dtype.name if stored.dtype.kind in "iu" else None,
            "directions": image.GetDirection(),
            "spacing": image.GetSpacing(),
            "origin": image.GetOrigin(),
            "text": text,
        }
    yield "array", told, volume


def simple_itk() -> Any:
    """The package that reads and writes, made to keep its remarks to itself.

    Raises:
        DependencyError: it is not installed.
    """
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


def _bytes(sitk: Any, pixel: int) -> int:
    return int(sitk.GetArrayViewFromImage(sitk.Image([1, 1, 1], pixel)).itemsize)
