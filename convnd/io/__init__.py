"""Files of every kind, read as a `Grid` and written back as their owners know them.

The suffix selects the format; every format is one entry of a table, so that another is added by
`register`. Nothing heavy is imported before a file is read or written.
"""

from __future__ import annotations

from convnd.io import (
    array,
    dicom,
    dicom_waveform,
    edf,
    image,
    itk,
    nifti,
    table,
    wav,
    wfdb_record,
)
from convnd.io.affine import anatomical_axes, grid_affine
from convnd.io.atomic import beside, free_path
from convnd.io.crop import crop
from convnd.io.formats import (
    Format,
    check_output,
    is_written,
    read,
    register,
    spatial_dims,
    suffixes,
    write,
)
from convnd.io.stored import as_stored

__all__ = [
    "Format",
    "anatomical_axes",
    "as_stored",
    "beside",
    "check_output",
    "crop",
    "free_path",
    "grid_affine",
    "is_written",
    "read",
    "register",
    "spatial_dims",
    "suffixes",
    "write",
]

for _entry in (
    *image.FORMATS,
    *array.FORMATS,
    *nifti.FORMATS,
    *itk.FORMATS,
    *dicom.FORMATS,
    *table.FORMATS,
    *wfdb_record.FORMATS,
    *edf.FORMATS,
    *wav.FORMATS,
    *dicom_waveform.FORMATS,
):
    register(_entry)
