"""The formats of DICOM: ``.dcm`` files of images or waveforms, and folders of one series."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from convnd.io.registry import Format
from convnd.io.signals.dicom_waveform import read_waveform
from convnd.io.silence import silence_libraries
from convnd.io.volumes.dicom import read_dicom_image, read_series
from convnd.io.volumes.dicom_dataset import is_dicom, read_dataset
from convnd.io.volumes.dicom_writing import check_dicom, read_dicom_provenance, write_dicom

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["FORMATS", "SERIES", "read_dicom_file"]


def read_dicom_file(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read a DICOM file: a waveform, a slice as a volume of one, or an image of many frames.

    Raises:
        InputFileError: it is damaged, too large, or something else.
        DependencyError: pydicom is not installed.
    """
    read = read_waveform if _spatial_dims(path) == 1 else read_dicom_image
    return read(path, max_pixels=max_pixels)


def _spatial_dims(path: Path) -> int:
    """Number of axes of a file: 3 for images, 1 for waveforms and for what cannot be read."""
    try:
        with silence_libraries():
            return 3 if "Rows" in read_dataset(path, stop_before_pixels=True) else 1
    except Exception:  # reading the file will say why
        return 1


SERIES = Format(
    name="DICOM series",
    suffixes=(),
    spatial_dims=3,
    read=read_series,
    write=write_dicom,
    folder=True,
    check=check_dicom,
    read_provenance=read_dicom_provenance,
)
"""A folder of the slices of one series; also how files of one image are written."""

FORMATS = (
    Format(
        name="DICOM",
        suffixes=(".dcm", ".dicom", ".dic", ".ima"),
        spatial_dims=1,
        read=read_dicom_file,
        write=None,
        recognizes=is_dicom,
        count_axes=_spatial_dims,
        read_provenance=read_dicom_provenance,
    ),
    SERIES,
)
